import dataclasses

import numpy as np
import pandas as pd
import pytest

from churn_utils.errors import DataError, IsolationError
from churn_utils.evaluation.economics import Economics
from churn_utils.features import offline
from churn_utils.inference import scoring
from churn_utils.validation import isolation


def test_predictions_are_those_of_the_registered_model(sound_challenger, registered_home):
    model = registered_home["model"]
    train = offline.training_rows(registered_home["training_set"], "train")
    assert set(sound_challenger.rows["split"]) == {"test"}
    for predicted, rows in [
        (sound_challenger.probability, sound_challenger.rows),
        (sound_challenger.learned_probability, train),
    ]:
        own = scoring.predict_probability(model, rows)
        assert np.allclose(predicted, own, rtol=0, atol=1e-12)


def test_a_challenger_that_fails_is_probed_once(sound_challenger, monkeypatch):
    calls = []

    def fail(*arguments, seconds, environment):
        calls.append(arguments)
        raise IsolationError("ValueError: not today")

    monkeypatch.setattr(isolation.server, "call", fail)
    failing = dataclasses.replace(sound_challenger)
    for part in ("probability", "learned_probability", "samples", "probe_results"):
        with pytest.raises(IsolationError, match="not today"):
            getattr(failing, part)
    assert len([name for name, *_ in calls if name.endswith(":run_behaviour_probes")]) == 1


def test_predictions_may_be_missing(sound_challenger):
    silent = dataclasses.replace(sound_challenger, probes="math:no_such")
    without_rows = dataclasses.replace(sound_challenger, since=pd.Timestamp("2030-01-01"))
    assert sound_challenger.has_predictions() and sound_challenger.has_probe_results()
    assert not silent.has_predictions() and not silent.has_probe_results()
    assert not without_rows.has_predictions() and not without_rows.has_probe_results()
    scored = sound_challenger.scored_rows()
    assert scored.customers.equals(sound_challenger.rows["customer_id"])
    assert len(scored.churned) == len(scored.probability) == len(sound_challenger.rows)


def test_another_number_of_predictions_is_refused(sound_challenger):
    results = sound_challenger.probe_results
    short = dataclasses.replace(results, probability=results.probability[:-1])
    challenger = dataclasses.replace(sound_challenger).with_parts(
        probe_results=short, rows=sound_challenger.rows, learned=sound_challenger.learned
    )
    with pytest.raises(DataError, match=f"{len(results.probability)} probabilities were asked"):
        _ = challenger.probability


def test_an_endless_refit_is_ended(sound_challenger, monkeypatch):
    real = isolation.server.submit

    def submit_sleep(function, *arguments, seconds):
        return real("time:sleep", 600, seconds=2.0)

    monkeypatch.setattr(isolation.server, "submit", submit_sleep)
    endless = dataclasses.replace(sound_challenger)
    with pytest.raises(IsolationError, match="did not answer within 2"):
        _ = endless.refitted_probability


def test_given_parts_keep_the_rest_but_the_bootstrap(sound_challenger):
    constant = np.full(len(sound_challenger.rows), 0.5)
    other = sound_challenger.with_parts(probability=constant, draws=50)
    assert other.rows is sound_challenger.rows
    assert (other.probability == 0.5).all()
    assert (sound_challenger.probability != 0.5).any()
    assert other.samples["challenger"]["roc_auc"].eq(0.5).all()
    assert len(other.samples["challenger"]) == len(other.weights) == 50


def test_only_known_parts_can_be_given(sound_challenger):
    with pytest.raises(AttributeError, match="no attribute 'propability'"):
        sound_challenger.with_parts(propability=None)


def test_bootstrap_weights_are_those_of_the_metrics(sound_challenger):
    auc = sound_challenger.samples["challenger"]["roc_auc"]
    weights = sound_challenger.weights
    assert weights.shape == (300, len(sound_challenger.rows)) and len(auc) == 300
    assert (weights.sum(axis=1) >= 0.9 * len(sound_challenger.rows)).all()


def test_a_champion_keeps_the_threshold_of_its_own_costs(sound_challenger):
    """Costs have changed since it was trained: its decisions are valued under the new ones."""
    now = Economics(1000.0, 2000.0)
    rival = sound_challenger.with_parts(champion=sound_challenger.version, economics=now)
    assert rival.champion_threshold == 0.25 != now.threshold
    assert (rival.treated == (rival.probability >= 0.5)).all()
    value = rival.samples["champion"]["value_usd"].mean()
    offers = rival.champion_probability >= 0.25
    churned = rival.rows["churned"].to_numpy(dtype=float)
    expected = (offers * (2000.0 * churned - 1000.0)).mean()
    assert value == pytest.approx(expected, abs=15)
    assert value < rival.samples["challenger"]["value_usd"].mean()
