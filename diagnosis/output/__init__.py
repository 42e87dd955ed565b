"""A report as tables, folded stacks or metrics."""
