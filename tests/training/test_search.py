import os
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import factories
import numpy as np
import optuna
import pandas as pd
import pytest
from sklearn.metrics import log_loss

from churn_utils import settings
from churn_utils.errors import DataError
from churn_utils.features import model_inputs, offline
from churn_utils.training import models, pruning, search, study_storage


@pytest.fixture(scope="module")
def train(first_month):
    return offline.training_rows(first_month, "train").head(500)


@pytest.fixture(scope="module")
def validate(first_month):
    return offline.training_rows(first_month, "validate").head(500)


def run_study(rows, n_trials, name="study", seed=7):
    lines = []
    return search.run_study(rows, n_trials, seed, name, report=lines.append), lines


@pytest.fixture(scope="module")
def searches(tmp_path_factory, train):
    """A search of four trials that went on to six, and one of four in another home."""
    rows = train.head(250)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHURN_HOME", str(tmp_path_factory.mktemp("resumed")))
        study, lines = run_study(rows, 4)
        before = search.trials_table(study)
        resumed, _ = run_study(rows, 6)
        again, silence = run_study(rows, 6)
        patch.setenv("CHURN_HOME", str(tmp_path_factory.mktemp("elsewhere")))
        elsewhere, _ = run_study(rows, 4)
    assert len(again.trials) == 6 and silence == []
    return {"before": before, "lines": lines, "resumed": resumed, "elsewhere": elsewhere}


def test_the_search_starts_with_each_familys_default(searches):
    assert [trial.params for trial in searches["resumed"].trials[:3]] == [
        {"family": family, **params} for family, params in models.DEFAULTS.items()
    ]


def test_every_new_best_is_reported(searches):
    before, lines = searches["before"], searches["lines"]
    assert len(lines) == before["best_so_far"].nunique() >= 1
    best = before.loc[before["log_loss"].idxmin()]
    assert (
        lines[-1]
        == f"trial {best['trial']:>3} of 4: log loss {best['log_loss']:.4f}  {best['family']}"
    )


def test_the_same_seed_finds_the_same_in_two_homes(searches):
    before, elsewhere = searches["before"], searches["elsewhere"]
    tried = [trial.params for trial in searches["resumed"].trials[:4]]
    assert [trial.params for trial in elsewhere.trials] == tried
    losses = search.trials_table(elsewhere)["log_loss"].tolist()
    assert losses == pytest.approx(before["log_loss"].tolist(), nan_ok=True)
    assert search.best_params(elsewhere) == tried[before["log_loss"].idxmin()]


def test_a_study_goes_on_where_it_stopped(searches):
    after = search.trials_table(searches["resumed"])
    assert len(searches["before"]) == 4 and len(after) == 6
    pd.testing.assert_frame_equal(after.head(4), searches["before"])
    assert set(after["state"]) <= {"complete", "pruned"}


def test_a_study_that_goes_on_tries_something_new(searches):
    tried = [str(sorted(trial.params.items())) for trial in searches["resumed"].trials]
    assert len(set(tried)) == 6


def test_trials_table_says_what_became_of_each_trial(searches):
    study = searches["resumed"]
    table = search.trials_table(study)
    complete = table["state"] == "complete"
    assert table["trial"].tolist() == [1, 2, 3, 4, 5, 6]
    assert (
        table.loc[complete, "folds"].eq(5).all()
        and table.loc[~complete, "folds"].between(1, 4).all()
    )
    assert (
        table.loc[complete, "log_loss"].notna().all()
        and table.loc[~complete, "log_loss"].isna().all()
    )
    assert table["best_so_far"].is_monotonic_decreasing
    assert table["best_so_far"].iloc[-1] == table["log_loss"].min() == study.best_value
    assert table.loc[table["log_loss"].idxmin(), "family"] == search.best_params(study)["family"]


def test_the_best_log_loss_is_that_of_cross_validation(searches, train):
    study = searches["resumed"]
    rows, params = train.head(250), search.best_params(study)
    inputs, churned = model_inputs.select_model_inputs(rows), rows["churned"].to_numpy()
    losses = [
        log_loss(
            churned[held_out],
            models.build_model(params, 7)
            .fit(inputs.iloc[fit], churned[fit])
            .predict_proba(inputs.iloc[held_out]),
        )
        for fit, held_out in models.make_folds(rows, 7)
    ]
    assert study.best_value == pytest.approx(np.mean(losses))


def test_too_few_trials_are_refused_before_any_write(home, train):
    with pytest.raises(DataError, match="n_trials is 2; at least 3 are needed"):
        run_study(train, 2)
    assert not home.exists()


def test_a_search_killed_in_a_trial_reaches_its_full_number(home, train):
    study = search.run_study(train, 3, 0, "cut off", report=lambda line: None)
    study.ask()  # a trial that is never finished, as a kill leaves it
    study = search.run_study(train, 5, 0, "cut off", report=lambda line: None)
    assert len(search.trials_table(study)) == 5
    assert all(trial.state.is_finished() for trial in study.trials)
    again = search.run_study(train, 5, 0, "cut off", report=lambda line: None)
    assert len(search.trials_table(again)) == 5


class Killed(BaseException):
    """Leaves its trial as a SIGKILL does: running."""


@pytest.fixture
def patched_fit(monkeypatch):
    """Losses computed from the hyperparameters; raises at the folds of trials in a returned set.

    A kill is given by the number of finished trials and the step at which it comes.
    """
    kills = set()

    def cross_validate(params, folds, trial):
        losses = []
        for step in range(models.FOLDS):
            place = (len(trial.study.get_trials(states=search.DONE)), step)
            if place in kills:
                kills.remove(place)
                raise Killed
            text = str(sorted(params.items())).encode()
            losses.append(0.4 + step * zlib.crc32(text) / 2**40)  # none is pruned before step 1
            trial.report(losses[-1], step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return float(np.mean(losses))

    monkeypatch.setattr(search, "cross_validate", cross_validate)
    return kills


def search_until_done(rows, n_trials):
    """Search, and start again after each kill; returns what was tried and what came of it."""
    while True:
        try:
            study, _ = run_study(rows, n_trials)
        except Killed:
            continue
        table = search.trials_table(study).drop(columns="seconds")
        tried = [trial.params for trial in study.get_trials(states=search.DONE)]
        return tried, table


def test_a_killed_search_finds_the_same(home, train, patched_fit, monkeypatch):
    rows = train.head(100)
    tried, table = search_until_done(rows, 16)
    assert {"complete", "pruned"} == set(table["state"])
    # in enqueued, random and modelled trials, before the first fold and after it, twice in a row
    patched_fit |= {(0, 0), (1, 1), (5, 0), (5, 1), (9, 0), (10, 0), (11, 1), (14, 0), (15, 0)}
    monkeypatch.setenv("CHURN_HOME", str(home / "killed"))
    tried_by_killed, table_of_killed = search_until_done(rows, 16)
    assert patched_fit == set()  # every kill has come
    assert tried_by_killed == tried
    pd.testing.assert_frame_equal(table_of_killed, table)


def test_a_torn_line_of_the_study_is_repeated(home, train, patched_fit):
    tried, _ = search_until_done(train, 6)
    path = home / "optuna" / "studies.log"
    path.write_bytes(path.read_bytes()[:-20])
    assert search_until_done(train, 6)[0] == tried


def study_with(*trials):
    """An in-memory study of complete trials, each given by its losses per fold."""
    study = optuna.create_study()
    for losses in trials:
        study.add_trial(
            optuna.trial.create_trial(
                value=float(np.mean(losses)), intermediate_values=dict(enumerate(losses))
            )
        )
    return study


def seen(*losses):
    return optuna.trial.create_trial(
        state=optuna.trial.TrialState.RUNNING,
        intermediate_values=dict(enumerate(losses)),
        value=None,
    )


@pytest.mark.parametrize(
    ("losses", "pruned"),
    [
        ([0.39], False),  # as good as the best on this fold, though worse than its mean
        (
            [0.402],
            True,
        ),  # better than the best trial's mean, but clearly behind it on the same fold
        ([0.4005, 0.4495], False),
        ([0.41, 0.43], False),  # lost on one fold, won on the other
        ([0.41, 0.45], True),
    ],
)
def test_trials_are_compared_on_the_same_folds(losses, pruned):
    study = study_with([0.5, 0.5, 0.5, 0.5, 0.5], [0.4, 0.45, 0.41, 0.43, 0.44])
    assert pruning.FoldPruner().prune(study, seen(*losses)) == pruned


def test_the_first_trial_is_never_pruned():
    assert pruning.FoldPruner().prune(optuna.create_study(), seen(9.0)) is False


def test_pruning_happens_in_a_search_and_saves_folds(searches):
    table = search.trials_table(searches["resumed"])
    pruned = table[table["state"] == "pruned"]
    assert len(pruned) and (pruned["folds"] < 5).all()


WORKER = """
import sys
import factories
from churn_utils.features import offline
from churn_utils.training import search
rows = offline.training_rows(factories.publish_first_month(), "train").head(250)
study = search.run_study(rows, 12, 3, "shared", report=lambda line: None)
print("done", len(study.get_trials(states=search.DONE)))
"""


@pytest.mark.long
def test_two_workers_share_a_study_in_a_database(tmp_path, train):
    """Each has a home of its own; the database is all that they share."""
    url = f"sqlite:///{tmp_path / 'studies.db'}"
    workers, folders = [], [str(Path(factories.__file__).parent), str(settings.PROJECT)]
    for name in ("one", "two"):
        environment = {
            **os.environ,
            "CHURN_HOME": str(tmp_path / name),
            "CHURN_STUDY_STORAGE": url,
            "PYTHONPATH": os.pathsep.join(folders),
        }
        workers.append(
            subprocess.Popen(
                [sys.executable, "-c", WORKER, name],
                env=environment,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        )
    answers = [worker.communicate(timeout=300) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], answers
    found = optuna.load_study(study_name=None, storage=url)
    done = found.get_trials(states=search.DONE)
    assert len(done) == 12 and all(output.split()[1] == "12" for output, _ in answers)
    assert not (tmp_path / "one" / "optuna").exists()
    spans = sorted((trial.datetime_start, trial.datetime_complete) for trial in done)
    assert any(later[0] < earlier[1] for earlier, later in zip(spans, spans[1:], strict=False)), (
        "one worker did all trials"
    )
    tried = [str(sorted(trial.params.items())) for trial in done]
    assert len(set(tried)) >= 9  # the three defaults at most are tried twice


def test_two_workers_never_get_the_same_trial(tmp_path, monkeypatch):
    monkeypatch.setenv("CHURN_STUDY_STORAGE", f"sqlite:///{tmp_path / 'studies.db'}")
    one, two = (
        optuna.create_study(
            storage=study_storage.open_storage(), study_name="shared", load_if_exists=True
        )
        for _ in range(2)
    )
    for number in range(100):
        one.enqueue_trial({"C": number})
    together, taken = threading.Barrier(2), []

    def take(study):
        for _ in range(50):
            together.wait(60)
            taken.append(study.ask().number)

    workers = [threading.Thread(target=take, args=(study,)) for study in (one, two)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(taken) == list(range(100))


def test_params_enqueued_by_two_workers_are_tried_once(tmp_path, train, monkeypatch):
    monkeypatch.setenv("CHURN_STUDY_STORAGE", f"sqlite:///{tmp_path}/shared.db")
    asked = search.open_study(train, "twice")
    defaults = [trial.system_attrs["fixed_params"] for trial in asked.get_trials()]
    for params in defaults:  # as the other worker does, that has seen none of them yet
        asked.enqueue_trial(params)
    study = search.run_study(train, 4, 0, "twice", report=lambda line: None)
    done = [
        trial.system_attrs.get("fixed_params") for trial in study.get_trials(states=search.DONE)
    ]
    assert len(done) == 4 and [done.count(params) for params in defaults] == [1, 1, 1]


def test_a_dead_worker_does_not_block_the_search(tmp_path, train, monkeypatch):
    monkeypatch.setenv("CHURN_STUDY_STORAGE", f"sqlite:///{tmp_path / 'studies.db'}")
    monkeypatch.setattr(study_storage, "HEARTBEAT_SECONDS", 1)
    study = search.run_study(train.head(250), 3, 0, "dead", report=lambda line: None)
    dead = study.ask()
    study._storage.record_heartbeat(dead._trial_id)  # its only one
    study = search.run_study(train.head(250), 4, 0, "dead", report=lambda line: None)
    assert len(study.get_trials(states=search.DONE)) == 4


def test_in_a_database_other_rows_are_another_study(tmp_path, train, monkeypatch):
    monkeypatch.setenv("CHURN_STUDY_STORAGE", f"sqlite:///{tmp_path / 'studies.db'}")
    one = search.run_study(train.head(250), 3, 0, "same name", report=lambda line: None)
    other = search.run_study(train.head(240), 3, 0, "same name", report=lambda line: None)
    again = search.run_study(train.head(250), 3, 0, "same name", report=lambda line: None)
    assert one.study_name == again.study_name != other.study_name
    assert len(again.trials) == 3


def test_a_broken_storage_is_named_without_its_password(train, monkeypatch):
    monkeypatch.setenv("CHURN_STUDY_STORAGE", "nosuchdb://ada:secret@host/studies")
    with pytest.raises(DataError, match="CHURN_STUDY_STORAGE is 'host/studies'"):
        search.run_study(train, 3, 0, "nowhere", report=lambda line: None)
