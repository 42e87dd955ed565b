"""Probes attached to a target, and the counts by call stack that come of them."""
