"""One module for each tool: how it is run on a process, and how its output is read."""
