"""From the counts of one window to a report: stacks with names, what was lost, the verdict."""
