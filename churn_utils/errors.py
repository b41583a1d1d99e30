"""Every error that this package raises on purpose.

A message says what is wrong, where, in how many rows, and what to do. A class of its own is for
callers that catch it by name; everything else is one of these.
"""


class ChurnError(Exception):
    """Base of every error that this package raises on purpose."""


class UsageError(ChurnError):
    """A call that asks for something that does not exist: exit code 2 on the command line."""


class StageError(ChurnError):
    """A stage of the pipeline failed; the message names what was kept of it."""


class DataError(ChurnError):
    """A delivery, a table or a set of rows that cannot be used for what was asked."""


class FeatureError(DataError):
    """Rows that cannot be turned into model inputs."""


class OnlineStoreError(ChurnError):
    """The online store cannot be reached, or holds a row that cannot be read."""


class NotReadyError(ChurnError):
    """No model is in place yet, or no features are published: status 503 in the API."""


class ModelError(ChurnError):
    """A version, its files, its record or its compiled form is missing or wrong."""


class DeploymentError(ChurnError):
    """An approval, a promotion or a rollback that is refused."""


class IsolationError(ChurnError):
    """A call in a process of its own that raised, took too long, or ended its process."""
