"""Find native memory leaks with eBPF, and check the diagnosis against exact counts."""
