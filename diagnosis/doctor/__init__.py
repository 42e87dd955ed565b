"""What this machine lacks before a trace, and what a teardown has left after one."""
