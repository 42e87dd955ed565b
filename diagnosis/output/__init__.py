"""A report as tables, JSON, folded stacks or metrics."""
