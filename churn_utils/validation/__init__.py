"""The gate: a challenger is examined in a process of its own, check by check."""
