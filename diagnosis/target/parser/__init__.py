"""Everything that reads bytes which a target chose, in a process that can do nothing else."""
