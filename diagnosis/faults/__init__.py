"""Who grows, without any probe: samples of page faults beside resident memory."""
