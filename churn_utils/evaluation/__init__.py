"""Metrics with bootstrap intervals, and what decisions cost and earn in USD."""
