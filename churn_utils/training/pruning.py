"""When a trial of a search is given up: it is behind the best one on the same folds."""

from __future__ import annotations

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

# Nats that a trial may be behind the best one on the folds that it has seen. Bootstrap intervals of
# the log loss are twenty times as wide: a pruned trial could not have won (benchmarks/search.py).
PRUNING_MARGIN = 0.0007


def measure_gap(trial: FrozenTrial, best: FrozenTrial) -> float:
    """Return how far a trial is behind the best one on the folds that it has seen, mean in nats."""
    gaps = []
    for step, loss in trial.intermediate_values.items():
        gaps.append(loss - best.intermediate_values[step])
    return float(np.mean(gaps))


class FoldPruner(optuna.pruners.BasePruner):
    """Prune a trial that is behind the best one on the same folds.

    Folds differ far more than models do, so a trial is compared with the best one on the very folds
    that it has seen. The median pruner compares with the losses of other trials; the Wilcoxon
    pruner needs three of five folds.
    """

    def __init__(self, margin: float = PRUNING_MARGIN) -> None:
        """Set the margin, in nats."""
        self.margin = margin

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Tell whether the trial is further behind the best one than the margin."""
        complete = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
        if not complete:
            return False
        losses = [other.value if other.value is not None else np.inf for other in complete]
        best = complete[int(np.argmin(losses))]
        return measure_gap(trial, best) > self.margin
