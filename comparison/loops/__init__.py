"""What each tool costs a loop, and what the service takes: one program for each ``make bench``."""
