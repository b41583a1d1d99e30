"""The table of all checks of the gate, in the order in which they run and are shown.

To add a check, write a function ``(Challenger) -> Finding`` in the module of its subject and enter
it here. Its docstring says what it protects from; the first line is shown as the requirement when
the check cannot be evaluated.
"""

from __future__ import annotations

from collections.abc import Callable

from churn_utils.validation import (
    behaviour_checks,
    performance_checks,
    record_checks,
    slice_check,
)
from churn_utils.validation.challenger import Challenger
from churn_utils.validation.finding import Finding

Check = Callable[[Challenger], Finding]

# Checks that need no predictions come first: the isolated process takes time to start. The lineage
# comes last: the model is trained again while the other checks are computed.
CHECKS: dict[str, Check] = {
    "documentation": record_checks.check_documentation,
    "signature": record_checks.check_signature,
    "artifacts": record_checks.check_artifacts,
    "economics": record_checks.check_economics,
    "label_freshness": record_checks.check_label_freshness,
    "leakage": record_checks.check_leakage,
    "prediction": behaviour_checks.check_prediction,
    "robustness": behaviour_checks.check_robustness,
    "latency": behaviour_checks.check_latency,
    "auc_floor": performance_checks.check_auc_floor,
    "value_floor": performance_checks.check_value_floor,
    "calibration": performance_checks.check_calibration,
    "overfitting": performance_checks.check_overfitting,
    "slices": slice_check.check_slices,
    "champion": performance_checks.check_champion,
    "lineage": record_checks.check_lineage,
}


def applicable_checks(challenger: Challenger) -> dict[str, Check]:
    """Return the checks by name; ``champion`` only if there is a champion to compare with."""
    if challenger.champion is not None:
        return CHECKS
    return {name: check for name, check in CHECKS.items() if name != "champion"}


def run_check(check: Check, challenger: Challenger) -> Finding:
    """Run one check; whatever it raises makes it ``not_evaluated``, with the error as detail."""
    try:
        return check(challenger)
    except Exception as error:  # noqa: BLE001 - whatever a challenger raises, it has not passed
        requirement = (check.__doc__ or check.__name__).strip().splitlines()[0]
        return Finding.not_evaluated(requirement, error)
