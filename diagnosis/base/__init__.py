"""What everything else may use: the one exception, sizes and durations."""
