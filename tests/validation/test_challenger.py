import factories
import numpy as np
import pandas as pd
import pytest

from churn_utils.errors import IsolationError
from churn_utils.features import offline
from churn_utils.inference import scoring
from churn_utils.validation import challenger, isolation


@pytest.fixture
def found(registered_home):
    return challenger.Candidate(registered_home["version"], factories.AS_OF, None, draws=50, seed=0)


def test_it_answers_on_the_test_rows_and_on_those_that_it_learned_from(found, registered_home):
    model = registered_home["model"]
    train = offline.training_rows(registered_home["training_set"], "train")
    assert set(found.rows["split"]) == {"test"}
    assert np.allclose(
        found.probability, scoring.predict_probability(model, found.rows), rtol=0, atol=1e-12
    )
    assert np.allclose(
        found.learned_probability, scoring.predict_probability(model, train), rtol=0, atol=1e-12
    )


def test_a_challenger_that_fails_is_asked_once(registered_home, monkeypatch):
    calls = []

    def refuse(*arguments, seconds, environment):
        calls.append(arguments)
        raise IsolationError("ValueError: not today")

    monkeypatch.setattr(isolation, "call", refuse)
    failing = challenger.Candidate(
        registered_home["version"], factories.AS_OF, None, draws=50, seed=0
    )
    for part in ("probability", "learned_probability", "samples", "answers"):
        with pytest.raises(IsolationError, match="not today"):
            getattr(failing, part)
    assert len([name for name, *_ in calls if name.endswith(":ask")]) == 1


def test_whether_it_has_answered_can_be_asked(found, registered_home):
    assert found.has_answered() and [len(part) for part in found.scored()] == [len(found.rows)] * 3
    silent = challenger.Candidate(
        registered_home["version"], factories.AS_OF, None, 50, 0, ask="math:no_such"
    )
    nobody = challenger.Candidate(
        registered_home["version"], factories.AS_OF, pd.Timestamp("2030-01-01"), 50, 0
    )
    assert not silent.has_answered() and not nobody.has_answered()


def test_a_record_that_asks_for_a_years_work_is_ended(registered_home, monkeypatch):
    monkeypatch.setattr(challenger, "REFIT_SECONDS", 2.0)
    endless = challenger.Candidate(registered_home["version"], factories.AS_OF, None, 50, 0)
    real = isolation.submit
    monkeypatch.setattr(
        isolation, "submit", lambda f, *a, seconds: real("time:sleep", 600, seconds=seconds)
    )
    with pytest.raises(IsolationError, match="did not answer within 2 s"):
        _ = endless.refitted


def test_an_impostor_keeps_the_rest_of_what_was_found(found):
    other = found.with_probability(np.full(len(found.rows), 0.5))
    assert other.rows is found.rows and (other.probability == 0.5).all()
    assert (found.probability != 0.5).any()
    assert other.samples["challenger"]["roc_auc"].eq(0.5).all()


def test_the_bootstrap_draws_are_those_of_the_metrics(found):
    auc = found.samples["challenger"]["roc_auc"]
    assert found.weights.shape == (50, len(found.rows)) and len(auc) == 50
    assert (found.weights.sum(axis=1) >= 0.9 * len(found.rows)).all()
