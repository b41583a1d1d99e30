"""Search for hyperparameters on ``train``: an Optuna study that is kept and pruned across folds.

``CHURN_STUDY_STORAGE`` says where it is kept: in a file of the home for one worker (the default),
or in a relational database, named by its URL, for several workers.
"""

from __future__ import annotations

import hashlib
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import optuna
import pandas as pd
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial, TrialState
from sklearn.metrics import log_loss

from churn_utils import settings
from churn_utils.errors import DataError
from churn_utils.features import model_inputs, offers
from churn_utils.training.models import (
    DEFAULTS,
    FOLDS,
    build_encoder,
    build_estimator,
    make_folds,
    one_thread,
    weight_parameters,
)
from churn_utils.training.pruning import FoldPruner
from churn_utils.training.study_storage import open_storage

DONE = (TrialState.COMPLETE, TrialState.PRUNED)


def suggest_params(trial: optuna.Trial) -> dict:
    """Draw a model from the search space: its ``family`` and the family's hyperparameters."""
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


def open_study(
    train: pd.DataFrame,
    name: str,
    pruner: optuna.pruners.BasePruner | None = None,
) -> optuna.Study:
    """Create or reopen a study in which every family's default waits for its turn.

    In a database, which several homes may share, the same name with other rows is another study.
    """
    study = optuna.create_study(
        storage=open_storage(),
        study_name=name_study(name, train),
        pruner=pruner or FoldPruner(),
        load_if_exists=True,
    )
    prepare_study(study)
    return study


def name_study(name: str, train: pd.DataFrame) -> str:
    """Return the name of a study; in a database, which several homes share, it names the rows."""
    if settings.study_storage() is None:
        return name
    hashes = pd.util.hash_pandas_object(train, index=False).to_numpy()
    digest = hashlib.sha256(hashes.tobytes()).hexdigest()
    return f"{name}, rows {digest[:12]}"


def prepare_study(study: optuna.Study, warm_start: dict | None = None) -> None:
    """Clean up after a killed search and enqueue the trials to begin with.

    Args:
        study: created or reopened.
        warm_start: parameters to try first, before every family's default.
    """
    if settings.study_storage() is None:
        _fail_unfinished_trials(study)
    _enqueue_first_trials(study, warm_start)


def _fail_unfinished_trials(study: optuna.Study) -> None:
    """End the trials that a killed search has left; of a shared study the heartbeat does that.

    Those that were enqueued too: the one that was cut off is repeated before them.
    """
    for trial in study.get_trials(states=[TrialState.RUNNING]):
        study.tell(trial.number, state=TrialState.FAIL)
    for _ in study.get_trials(states=[TrialState.WAITING]):
        study.tell(study.ask(), state=TrialState.FAIL)


def build_sampler(study: optuna.Study, seed: int) -> TPESampler:
    """Return the sampler of a study's next trial, seeded by the number of finished trials.

    A trial that was cut off is repeated with its own random numbers, and a search finds the same
    however often it was killed. Of a shared study the process counts too: two workers must not draw
    the same.
    """
    is_shared = settings.study_storage() is not None
    worker = os.getpid() if is_shared else 0
    sources = (seed, len(study.get_trials(deepcopy=False, states=DONE)), worker)
    with warnings.catch_warnings():  # the sampler's ``group`` is experimental
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return TPESampler(
            seed=int(np.random.SeedSequence(sources).generate_state(1)[0]),
            multivariate=True,
            group=True,
            n_startup_trials=10,
            constant_liar=is_shared,
        )


def _enqueue_first_trials(study: optuna.Study, warm_start: dict | None) -> None:
    """Enqueue the warm start and every family's default, apart from those already in the study."""
    first = [{"family": family, **defaults} for family, defaults in DEFAULTS.items()]
    if warm_start:
        first.insert(0, warm_start)
    present = study.get_trials(states=(*DONE, TrialState.WAITING))
    known = [_fixed_params(trial) for trial in present]
    for params in first:
        if params not in known:
            study.enqueue_trial(params)
            known.append(params)


def _fixed_params(trial: FrozenTrial) -> dict | None:
    """Return the parameters under which a trial was enqueued; None if the sampler drew them."""
    return trial.system_attrs.get("fixed_params")


@dataclass(frozen=True, eq=False)
class Folds:
    """Rows that are encoded once for all trials, and their five folds.

    Attributes:
        encoded: model inputs, categories as codes.
        churned: labels, shape (rows,).
        splits: row numbers ``(fit, held_out)`` of each fold.
        seed: of folds and models.
        weights: what each row counts, shape (rows,); None where each counts once.
    """

    encoded: pd.DataFrame
    churned: np.ndarray
    splits: list[tuple[np.ndarray, np.ndarray]]
    seed: int
    weights: np.ndarray | None = None

    def weigh(self, rows: np.ndarray) -> np.ndarray | None:
        """Return what these rows count, by their numbers; None where each counts once."""
        return None if self.weights is None else self.weights[rows]


def encode_folds(train: pd.DataFrame, seed: int) -> Folds:
    """Encode rows of the ``train`` split and fold them."""
    inputs = model_inputs.select_model_inputs(train)
    encoded = build_encoder().fit_transform(inputs)
    churned = train["churned"].to_numpy()
    weights = offers.sample_weights(train)
    return Folds(encoded, churned, make_folds(train, seed), seed, weights)


@one_thread
def cross_validate(params: dict, folds: Folds, trial: optuna.Trial) -> float:
    """Fit a trial's model on each fold and report the fold's loss to Optuna.

    Returns:
        Mean log loss over the folds.

    Raises:
        TrialPruned: the study's pruner needs no further fold.
    """
    losses = []
    for step, (fit, held_out) in enumerate(folds.splits):
        model = build_estimator(params, folds.seed)
        weighted = weight_parameters(model, folds.weigh(fit))
        model.fit(folds.encoded.iloc[fit], folds.churned[fit], **weighted)
        probability = model.predict_proba(folds.encoded.iloc[held_out])[:, 1]
        loss = log_loss(folds.churned[held_out], probability, sample_weight=folds.weigh(held_out))
        losses.append(loss)
        trial.report(losses[-1], step)
        if step + 1 < FOLDS and trial.should_prune():
            raise optuna.TrialPruned
    return float(np.mean(losses))


def announce_best(n_trials: int, report: Callable[[str], object] = print) -> Callable:
    """Return a callback for Optuna that reports a line of text for each new best trial."""

    def announce(study: optuna.Study, trial: FrozenTrial) -> None:
        if trial.state != TrialState.COMPLETE or study.best_trial.number != trial.number:
            return
        done = len(study.get_trials(deepcopy=False, states=DONE))
        place = f"trial {done:>3} of {n_trials}"
        family = trial.params["family"]
        report(f"{place}: log loss {trial.value:.4f}  {family}")

    return announce


def run_study(
    train: pd.DataFrame,
    n_trials: int,
    seed: int,
    name: str,
    report: Callable[[str], object] = print,
    pruner: optuna.pruners.BasePruner | None = None,
) -> optuna.Study:
    """Minimise the cross-validated log loss over families and hyperparameters, as notebook 02 does.

    A search that was killed goes on where it stopped. Several processes may call this with the same
    arguments at once: they share the trials. ``optuna.study.MaxTrialsCallback`` would let each of
    them exceed ``n_trials`` by one, and a complete study run one more trial.

    Args:
        train: rows of the ``train`` split.
        n_trials: trials that the study holds at the end, at least one per family.
        seed: of sampler, folds and models; in a shared study the sampler's differs by process.
        name: of the study; the same name continues the same study.
        report: called with a line of text whenever a trial becomes the best.
        pruner: another than ``FoldPruner``, to compare with.

    Raises:
        DataError: fewer trials than families, or a storage that cannot be opened.
    """
    check_number_of_trials(n_trials)
    study = open_study(train, name, pruner)
    folds = encode_folds(train, seed)

    def objective(trial: optuna.Trial) -> float:
        if is_superfluous(trial, n_trials):
            return np.nan
        return cross_validate(suggest_params(trial), folds, trial)

    announce = announce_best(n_trials, report)
    while wait_for_turn(study, n_trials):
        study.sampler = build_sampler(study, seed)
        study.optimize(objective, n_trials=1, callbacks=[announce])
    return study


def check_number_of_trials(n_trials: int) -> None:
    """Raise ``DataError`` if a search has fewer trials than families."""
    if n_trials < len(DEFAULTS):
        raise DataError(
            f"n_trials is {n_trials}; at least {len(DEFAULTS)} are needed, one for each family."
        )


def wait_for_turn(study: optuna.Study, n_trials: int) -> bool:
    """Tell whether another trial is needed, once other workers have finished the last ones."""
    while True:
        with warnings.catch_warnings():  # the heartbeat is experimental
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            optuna.storages.fail_stale_trials(study)
        done = len(study.get_trials(deepcopy=False, states=DONE))
        running = len(study.get_trials(deepcopy=False, states=[TrialState.RUNNING]))
        if done >= n_trials or done + running < n_trials:
            return done < n_trials
        time.sleep(0.5)


def is_superfluous(trial: optuna.Trial, n_trials: int) -> bool:
    """Tell whether another worker took the last trial, or these very parameters, just before.

    Such a trial returns ``nan``: Optuna then marks it as failed, so it does not count.
    """
    trials = trial.study.get_trials(deepcopy=False)
    *before, own = (other for other in trials if other.number <= trial.number)
    states = (*DONE, TrialState.RUNNING)
    taken = [_fixed_params(other) for other in before if other.state in states]
    if len(taken) >= n_trials:
        return True
    params = _fixed_params(own)  # workers that start together both enqueue the defaults
    return params is not None and params in taken


def best_params(study: optuna.Study) -> dict:
    """Return the parameters of the best finished trial, as ``build_model`` takes them."""
    return dict(study.best_trial.params)


def trials_table(study: optuna.Study) -> pd.DataFrame:
    """Return the finished trials.

    Returns:
        One row per trial: ``trial, family, state, log_loss, folds, seconds, best_so_far``. A pruned
        trial has no log loss.
    """
    rows = []
    for place, trial in enumerate(study.get_trials(states=DONE), start=1):
        is_complete = trial.state == TrialState.COMPLETE
        rows.append(
            {
                "trial": place,
                "family": trial.params.get("family"),
                "state": trial.state.name.lower(),
                "log_loss": trial.value if is_complete else np.nan,
                "folds": len(trial.intermediate_values),
                "seconds": trial.duration.total_seconds() if trial.duration else np.nan,
            }
        )
    table = pd.DataFrame(rows)
    return table.assign(best_so_far=table["log_loss"].cummin().ffill())
