"""Which processes grow, without probes: samples of page faults beside resident memory."""
