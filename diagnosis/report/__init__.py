"""From the counts of one window to a report: stacks with symbols, lost events, the verdict."""
