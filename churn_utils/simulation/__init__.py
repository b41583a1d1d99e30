"""Simulated customers: which scenario a home follows, who is there each month, what upstream sends."""
