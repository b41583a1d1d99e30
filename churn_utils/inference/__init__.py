"""Scoring with a registered version: in batch, compiled for single customers, and the API's log."""
