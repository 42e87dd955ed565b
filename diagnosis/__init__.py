"""Find native memory leaks with eBPF, and hold the diagnosis against the truth."""
