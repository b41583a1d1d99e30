"""Imported first by the warm process: the system kills it with the run that started it."""

from churn_utils.validation.isolation_server import kill_with_parent

kill_with_parent()
