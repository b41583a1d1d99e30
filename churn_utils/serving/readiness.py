"""Whether requests can be answered, for each probe that asks."""

from __future__ import annotations

from churn_utils.errors import NotReadyError
from churn_utils.serving.predictor import Predictor
from churn_utils.serving.shutdown import Drain

SHUTTING_DOWN = "This process is about to end."


def check_ready(predictor: Predictor, drain: Drain) -> None:
    """Check that requests can be answered and that the process goes on.

    Raises:
        NotReadyError: with the reason, for callers.
    """
    reason = SHUTTING_DOWN if drain.is_draining else predictor.why_not_ready()
    if reason:
        raise NotReadyError(reason)
