"""The traced process: what it has mapped, where its allocators are, where probes go, what its addresses mean."""
