"""Performance and drift of the champion, the monthly cycle, and recovery after a retraining."""
