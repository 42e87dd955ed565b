"""What is measured, each by a command of the Makefile."""
