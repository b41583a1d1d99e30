"""Performance and drift of the champion, the monthly cycle, and recovery after a retraining.

The cycle ingests a month, decides what it calls for and scores it. ``decision`` holds the records,
``drift`` the rules; ``history`` reads what production left in the tables.
"""
