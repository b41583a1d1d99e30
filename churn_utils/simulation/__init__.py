"""Simulated months of customers, and the scenarios that change them on purpose."""
