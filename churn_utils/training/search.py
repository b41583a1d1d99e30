"""Search hyperparameters inside ``train``: a persisted Optuna study, pruned across folds, shared by several workers.

Where the study is kept is a setting (``CHURN_STUDY_STORAGE``): a file in the home for one worker, or the URL of a
relational database for several.
"""

from __future__ import annotations

import hashlib
import os
import time
import warnings

import numpy as np
import optuna
import pandas as pd
from optuna.samplers import TPESampler
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from sklearn.metrics import log_loss
from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError

from churn_utils import settings
from churn_utils.errors import DataError
from churn_utils.features import definitions
from churn_utils.training.models import (
    DEFAULTS,
    FOLDS,
    build_encoder,
    build_estimator,
    make_folds,
    one_thread,
)

DONE = (TrialState.COMPLETE, TrialState.PRUNED)
# Nats that a trial may lie behind the best one on the folds that it has seen. Bootstrap intervals of the log loss are
# twenty times as wide, so what is pruned could not have won anything (benchmarks/search.py).
PRUNING_MARGIN = 0.0007
HEARTBEAT_SECONDS = (
    20  # a worker of a shared study that is silent for three of these is taken for dead
)


class FoldPruner(optuna.pruners.BasePruner):
    """Prune a trial that lies behind the best one on the same folds.

    Folds differ far more than models do, so a trial's losses are compared with the best trial's on the very folds that
    it has seen; the median pruner compares with other trials' losses, the Wilcoxon pruner needs three of five folds.
    """

    def __init__(self, margin: float = PRUNING_MARGIN) -> None:
        """Set the margin, in nats."""
        self.margin = margin

    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        """Tell whether the trial's mean loss is further above the best trial's than the margin."""
        complete = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
        if not complete:
            return False
        losses = [found.value if found.value is not None else np.inf for found in complete]
        best = complete[int(np.argmin(losses))].intermediate_values
        gaps = [loss - best[step] for step, loss in trial.intermediate_values.items()]
        return float(np.mean(gaps)) > self.margin


def suggest_params(trial: optuna.Trial) -> dict:
    """Draw a model family and its hyperparameters from the search space."""
    family = trial.suggest_categorical("family", list(DEFAULTS))
    if family == "logistic_regression":
        return {
            "family": family,
            "C": trial.suggest_float("C", 1e-2, 30, log=True),
            "n_knots": trial.suggest_int("n_knots", 2, 8),
        }
    if family == "random_forest":
        return {
            "family": family,
            "min_samples_leaf": trial.suggest_int("min_samples_leaf", 4, 40, log=True),
            "max_features": trial.suggest_float("max_features", 0.1, 0.6),
        }
    return {
        "family": family,
        "n_estimators": trial.suggest_int("n_estimators", 100, 400, step=50),
        "learning_rate": trial.suggest_float("learning_rate", 0.01, 0.1, log=True),
        "num_leaves": trial.suggest_int("num_leaves", 2, 12),
        "min_child_samples": trial.suggest_int("min_child_samples", 10, 80),
        "colsample_bytree": trial.suggest_float("colsample_bytree", 0.2, 0.8),
        "reg_lambda": trial.suggest_float("reg_lambda", 1e-2, 30, log=True),
    }


def _open_study(name: str, seed: int, warm_start: dict | None, pruner=None) -> optuna.Study:
    """Make or reopen a study: ``warm_start`` and every family's default wait to be tried, no trial is half done."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    shared = settings.study_storage() is not None
    with (
        warnings.catch_warnings()
    ):  # the sampler made for families is marked so, and so is the heartbeat
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = optuna.create_study(
            storage=_open_storage(),
            study_name=name,
            pruner=pruner or FoldPruner(),
            load_if_exists=True,
        )
        # of a search that was killed; where several work on it, only those whose heart has stopped
        for trial in study.get_trials(states=[TrialState.RUNNING]) if not shared else []:
            study.tell(trial.number, state=TrialState.FAIL)
        finished = study.get_trials(states=DONE)
        # the count in the seed: a search that goes on must not draw the first session's trials again, nor a worker
        # those of another
        own = seed + len(finished) + (os.getpid() if shared else 0)
        study.sampler = TPESampler(
            seed=own, multivariate=True, group=True, n_startup_trials=10, constant_liar=shared
        )
    asked = [
        t.system_attrs.get("fixed_params")
        for t in study.get_trials(states=(*DONE, TrialState.WAITING))
    ]
    first = [warm_start] if warm_start else []
    for params in [
        *first,
        *({"family": family, **defaults} for family, defaults in DEFAULTS.items()),
    ]:
        if params not in asked:
            study.enqueue_trial(params)
            asked.append(params)
    return study


def _open_storage() -> optuna.storages.BaseStorage:
    url = settings.study_storage()
    if url is None:
        path = settings.home() / "optuna" / "studies.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        return JournalStorage(JournalFileBackend(str(path)))
    waiting = (
        {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {"pool_pre_ping": True}
    )
    for attempt in range(5):
        try:
            storage = RDBStorage(
                url,
                engine_kwargs=waiting,
                heartbeat_interval=HEARTBEAT_SECONDS,
                grace_period=3 * HEARTBEAT_SECONDS,
            )
            if (
                storage.engine.dialect.name == "sqlite"
            ):  # it has no row locks: two workers would take the same trial
                event.listen(
                    storage.engine,
                    "begin",
                    lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"),
                )
            return storage
        except (SQLAlchemyError, ImportError, optuna.exceptions.StorageInternalError) as error:
            failure = error
            time.sleep(
                0.2 * attempt
            )  # two workers that start together both make the tables, and one comes late
    place = url.split("@")[-1]  # no password in a message
    raise DataError(
        f"CHURN_STUDY_STORAGE is {place!r}, which cannot be opened: {failure}"
    ) from failure


def _name_of(name: str, train: pd.DataFrame, seed: int) -> str:
    """In a database that several homes share, the same name must not mean other rows."""
    if settings.study_storage() is None:
        return name
    digest = hashlib.sha256(pd.util.hash_pandas_object(train, index=False).to_numpy().tobytes())
    return f"{name}, rows {digest.hexdigest()[:12]}"


@one_thread
def run_study(
    train: pd.DataFrame,
    n_trials: int,
    seed: int,
    name: str,
    report=print,
    warm_start: dict | None = None,
    pruner: optuna.pruners.BasePruner | None = None,
) -> optuna.Study:
    """Minimise the cross-validated log loss over families and hyperparameters.

    The study is kept (see the module), so a search that was killed goes on where it stopped, and several processes may
    call this with the same arguments at once and share the trials. A trial that lies behind the best one on the folds
    seen so far is pruned.

    Args:
        train: rows of the ``train`` split.
        n_trials: trials that the study holds at the end, at least one per family.
        seed: of sampler, folds and models; where the study is shared, folds and models alone.
        name: of the study; the same name goes on with the same study.
        report: called with a line of text whenever a trial becomes the best.
        warm_start: parameters to try first, as ``best_params`` returns them: those of the champion in effect.
        pruner: another than ``FoldPruner``, to compare with.

    Raises:
        DataError: fewer trials than families, or a storage that cannot be opened.
    """
    if n_trials < len(DEFAULTS):
        raise DataError(
            f"n_trials is {n_trials}; at least {len(DEFAULTS)} are needed, one for each family."
        )
    study = _open_study(_name_of(name, train, seed), seed, warm_start, pruner)
    encoded = build_encoder().fit_transform(definitions.select_model_inputs(train))
    folds, churned = make_folds(train, seed), train["churned"].to_numpy()

    def objective(trial: optuna.Trial) -> float:
        _check_turn(study, trial, n_trials)
        params, losses = suggest_params(trial), []
        for step, (fit, held_out) in enumerate(folds):
            model = build_estimator(params, seed).fit(encoded.iloc[fit], churned[fit])
            losses.append(
                log_loss(churned[held_out], model.predict_proba(encoded.iloc[held_out])[:, 1])
            )
            trial.report(losses[-1], step)
            if step + 1 < FOLDS and trial.should_prune():
                raise optuna.TrialPruned
        return float(np.mean(losses))

    def tell(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        if trial.state == TrialState.COMPLETE and study.best_trial.number == trial.number:
            report(
                f"trial {trial.number + 1:>3} of {n_trials}: log loss {trial.value:.4f}  {trial.params['family']}"
            )

    while _wait_for_turn(study, n_trials):
        study.optimize(objective, n_trials=1, callbacks=[tell], catch=(_NotWanted,))
    return study


class _NotWanted(Exception):
    """Another worker took the last trial in the same moment, or has tried these very settings."""


def _wait_for_turn(study: optuna.Study, n_trials: int) -> bool:
    """Tell whether another trial is wanted; while other workers are at the last ones, wait for what becomes of them."""
    while True:
        with warnings.catch_warnings():  # the heartbeat is marked as experimental
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            optuna.storages.fail_stale_trials(study)
        done, running = (
            len(study.get_trials(False, states)) for states in (DONE, [TrialState.RUNNING])
        )
        if done >= n_trials or done + running < n_trials:
            return done < n_trials
        time.sleep(0.5)


def _check_turn(study: optuna.Study, trial: optuna.Trial, n_trials: int) -> None:
    *before, own = (other for other in study.get_trials(False) if other.number <= trial.number)
    taken = [
        other.system_attrs.get("fixed_params")
        for other in before
        if other.state in (*DONE, TrialState.RUNNING)
    ]
    asked = own.system_attrs.get(
        "fixed_params"
    )  # workers that start together both ask for the defaults
    if len(taken) >= n_trials or (asked and asked in taken):
        raise _NotWanted


def best_params(study: optuna.Study) -> dict:
    """Parameters of the best finished trial, as ``build_model`` takes them."""
    return dict(study.best_trial.params)


def trials_table(study: optuna.Study) -> pd.DataFrame:
    """One row per trial that was not cut off; a pruned one has no log loss.

    Columns: ``trial, family, state, log_loss, folds, seconds, best_so_far``.
    """
    table = pd.DataFrame(
        [
            {
                "trial": trial.number + 1,
                "family": trial.params.get("family"),
                "state": trial.state.name.lower(),
                "log_loss": trial.value if trial.state == TrialState.COMPLETE else np.nan,
                "folds": len(trial.intermediate_values),
                "seconds": trial.duration.total_seconds() if trial.duration else np.nan,
            }
            for trial in study.get_trials(states=DONE)
        ]
    )
    return table.assign(best_so_far=table["log_loss"].cummin().ffill())
