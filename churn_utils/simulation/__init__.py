"""The simulated company: its customers month by month, scenarios, and what upstream delivers."""
