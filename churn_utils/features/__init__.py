"""Feature definitions, point-in-time training sets, and the online store that the API reads."""
