"""A report as tables, JSON, folded stacks, metrics or an HTML page."""
