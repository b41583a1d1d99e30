import json

import factories
import numpy as np
import pandas as pd
import pytest

from churn_utils import settings
from churn_utils.errors import DataError
from churn_utils.evaluation.economics import Economics, decision_value_usd
from churn_utils.features import definitions
from churn_utils.monitoring import drift
from churn_utils.monitoring.drift import (
    ALERT,
    CONCEPT,
    COVARIATE,
    DATA_QUALITY,
    NONE,
    OK,
    PRIOR,
    QUARANTINE,
    RETRAIN,
)
from churn_utils.simulation import customers, deliveries
from churn_utils.simulation.scenarios import START_MONTH, Simulation
from churn_utils.training import models

LIMITS = drift.Limits()
ECONOMICS = Economics()
DELIVERY = {"delivered": 7043, "quarantined": 0}


def evidence_of(gains=(), new=(), standing=(), passed=(), quarantined=0):
    shifts = {name: {"psi": 0.3, "use": 0.1} for name in [*new, *standing]}
    return {
        "delivered": 1000,
        "quarantined": quarantined,
        "gains": list(gains),
        "shifts": shifts,
        "new_shifts": list(new),
        "standing": dict.fromkeys(standing, 0.3),
        "passed": list(passed),
    }


def gain_of(gain=40.0, lower=20.0, newest=40.0, prior=5.0, start="2025-04-01"):
    return {
        "from": start,
        "to": "2025-04-01",
        "rows": 4200,
        "gain_usd": gain,
        "lower": lower,
        "upper": 2 * gain - lower,
        "newest_gain_usd": newest,
        "prior_gain_usd": prior,
    }


# --- from evidence to decision


@pytest.mark.parametrize(
    ("evidence", "decision", "diagnosis"),
    [
        (evidence_of(), OK, NONE),
        (evidence_of(new=["tenure"]), ALERT, COVARIATE),
        (evidence_of(standing=["tenure"]), OK, COVARIATE),
        (evidence_of([gain_of()]), RETRAIN, CONCEPT),
        (evidence_of([gain_of()], new=["tenure"]), RETRAIN, CONCEPT),
        (evidence_of([gain_of(prior=38.0)]), RETRAIN, PRIOR),
        (evidence_of([gain_of(lower=4.0)]), OK, NONE),  # surely better, not surely worth it
        (
            evidence_of([gain_of(newest=1.0)]),
            OK,
            NONE,
        ),  # it was worth it, in a month that has passed
        (evidence_of([gain_of()], passed=["tenure"]), OK, NONE),  # what moved then is back by now
        (evidence_of(quarantined=50), OK, NONE),
        (evidence_of([gain_of()], new=["tenure"], quarantined=51), QUARANTINE, DATA_QUALITY),
    ],
)
def test_evidence_becomes_one_decision(evidence, decision, diagnosis):
    assert drift.judge(evidence, LIMITS)[:2] == (decision, diagnosis)


def test_the_reason_has_its_numbers():
    assert "51 of 1000" in drift.judge(evidence_of(quarantined=51), LIMITS)[2]
    assert "tenure (PSI 0.30)" in drift.judge(evidence_of(new=["tenure"]), LIMITS)[2]
    assert "2025-04 would be worth +40.0 USD" in drift.judge(evidence_of([gain_of()]), LIMITS)[2]


# --- in simulated worlds


@pytest.fixture(scope="module", autouse=True)
def world(tmp_path_factory):
    with factories.at_home(tmp_path_factory.mktemp("drift")):
        yield


def shifted(rows, month, log_odds):
    """The month with its labels drawn anew where the world's log-odds move."""
    return customers.redraw_labels(rows, log_odds, [0, month]) if np.any(log_odds) else rows


def changed(month, scenario, start_month=START_MONTH):
    return deliveries.ingest_in_memory(month, Simulation(scenario, 5, start_month))[0]


@pytest.fixture(scope="module")
def simulated(world):
    """Months 0 to 7 without a scenario."""
    return [deliveries.ingest_in_memory(month, Simulation("none", 5))[0] for month in range(8)]


@pytest.fixture(scope="module")
def champion(simulated):
    rows = simulated[0]
    train, validate = rows[rows["split"] == "train"], rows[rows["split"] == "validate"]
    model = models.fit_calibrated(drift.REFIT_PARAMS, train, validate, seed=0)
    return drift.Champion(1, model, train, settings.month_start(0))


def contract_customers(frame):
    return (frame["contract"] != "Month-to-month").to_numpy()


def decide_months(champion, months, until, delivery=DELIVERY):
    """Decide as-of months 2 to ``until`` over given rows by month, without ever retraining; one row each."""
    history = None
    for month in range(2, until + 1):
        labelled = pd.concat([months[known] for known in range(1, month)])
        as_of = settings.month_start(month)
        row = drift.decide(as_of, delivery, months[month], labelled, champion, history)
        history = row if history is None else pd.concat([history, row], ignore_index=True)
    return history.assign(month=range(2, until + 1)).set_index("month")


def test_a_concept_that_changes_is_found_with_its_first_labels(simulated, champion):
    months = {
        m: shifted(f, m, 2.5 * contract_customers(f) if m >= 3 else 0.0)
        for m, f in enumerate(simulated[:5])
    }
    history = decide_months(champion, months, until=4)
    assert history["decision"].tolist() == [OK, OK, RETRAIN]
    assert history.loc[4, ["diagnosis", "labels_from", "labels_to"]].tolist() == [
        CONCEPT,
        *[settings.month_start(3)] * 2,
    ]


def test_a_prior_that_moves_is_called_so(simulated, champion):
    months = {m: shifted(f, m, 1.5 if m >= 3 else 0.0) for m, f in enumerate(simulated[:5])}
    assert decide_months(champion, months, until=4).loc[4, ["decision", "diagnosis"]].tolist() == [
        RETRAIN,
        PRIOR,
    ]


def test_a_slow_change_is_found_before_it_is_complete(simulated, champion):
    months = {
        m: shifted(f, m, 0.45 * max(0, m - 1) * contract_customers(f))
        for m, f in enumerate(simulated)
    }
    history = decide_months(champion, months, until=7)
    assert history["decision"].iloc[0] == OK
    assert RETRAIN in history["decision"].tolist()
    first = history.index[history["decision"] == RETRAIN][0]
    assert history.loc[first, "labels_to"] == settings.month_start(first - 1)


def test_a_wave_that_ended_by_itself_causes_no_retraining(simulated, champion):
    """Two hard months; once labels of the quiet month after them are there, the pooled gain no longer counts."""
    wave = {
        m: shifted(f, m, 2.5 * contract_customers(f) if m in (3, 4) else 0.0)
        for m, f in enumerate(simulated)
    }
    labelled, as_of = pd.concat([wave[m] for m in range(1, 6)]), settings.month_start(6)
    row = drift.decide(as_of, DELIVERY, wave[6], labelled, champion).iloc[0]
    assert row["decision"] == OK and "no longer in the newest labelled month" in row["why"]
    pooled = json.loads(row["evidence"])["gains"][-1]
    assert pooled["lower"] > LIMITS.gain_usd > pooled["newest_gain_usd"]


def test_a_price_wave_that_is_over_by_scoring_time_causes_no_retraining(simulated, champion):
    risen = changed(3, "price_rise")
    as_of = settings.month_start(4)
    back = drift.decide(as_of, DELIVERY, simulated[4], risen, champion).iloc[0]
    assert back["decision"] == OK and "avg_price_increase" in json.loads(back["evidence"])["passed"]
    stays = changed(4, "price_rise")
    assert drift.decide(as_of, DELIVERY, stays, risen, champion)["decision"].item() == RETRAIN


def test_a_shift_is_alerted_once_and_again_after_it_had_gone(simulated, champion):
    moved = {m: changed(m, "mix_shift", start_month=2) for m in (2, 3, 5)}
    months = {m: moved.get(m, f) for m, f in enumerate(simulated[:6])}
    history = decide_months(champion, months, until=5)
    assert history["decision"].tolist() == [ALERT, OK, OK, ALERT]
    assert history["diagnosis"].tolist() == [COVARIATE, COVARIATE, NONE, COVARIATE]


def test_a_feature_that_the_champion_hardly_uses_raises_no_alert(simulated, champion):
    rows = simulated[2].assign(gender="Male")
    assert champion.use["gender"] < LIMITS.use
    assert (
        drift.decide(settings.month_start(2), DELIVERY, rows, simulated[1], champion)[
            "decision"
        ].item()
        == OK
    )


def test_a_broken_delivery_is_quarantined_and_swallows_no_alert(simulated, champion):
    moved = {m: changed(m, "mix_shift", start_month=2) for m in (2, 3)}
    past, broken = simulated[1], {"delivered": 7043, "quarantined": 2113}
    first = drift.decide(settings.month_start(2), broken, moved[2].head(4930), past, champion)
    empty = drift.decide(
        settings.month_start(2),
        {"delivered": 9, "quarantined": 9},
        moved[2].head(0),
        past,
        champion,
    )
    assert [first["decision"].item(), empty["decision"].item()] == [QUARANTINE, QUARANTINE]
    then = drift.decide(settings.month_start(3), DELIVERY, moved[3], past, champion, first)
    assert then["decision"].item() == ALERT


def test_a_decision_is_one_row_that_can_be_made_twice(simulated, champion):
    rows, past, as_of = simulated[2], simulated[1], settings.month_start(2)
    once = drift.decide(as_of, DELIVERY, rows, past, champion)
    twice = drift.decide(as_of, DELIVERY, rows, past, champion, history=once)
    pd.testing.assert_frame_equal(once, twice)
    assert list(once.columns) == drift.COLUMNS and len(once) == 1
    assert set(json.loads(once["evidence"].item())) >= {
        "champion_version",
        "shifts",
        "gains",
        "standing",
        "delivered",
    }


def test_labels_that_the_champion_learned_from_are_no_news(simulated, champion):
    row = drift.decide(settings.month_start(1), DELIVERY, simulated[1], simulated[0], champion)
    assert row["labels_from"].isna().all() and "no labels since" in row["why"].item()


def test_the_quick_refit_sees_the_inputs_as_a_training_does(simulated, champion):
    design, _ = drift._encode(simulated[1], champion)
    codes = {
        name: pd.Categorical(simulated[1][name], values).codes
        for name, values in definitions.CATEGORICAL.items()
    }
    columns = models.build_estimator(drift.REFIT_PARAMS, seed=0)[:-1]
    assert np.array_equal(design, columns.fit_transform(simulated[1].assign(**codes)))


def test_the_quick_refit_of_each_fold_has_forgotten_the_folds_before_it(simulated, champion):
    window = simulated[1][simulated[1]["split"] == "train"]
    design, old = drift._encode(window, champion)
    found, _ = drift._gain_per_row(window, design, old, ECONOMICS, seed=0)
    fit, held_out = models.make_folds(window, seed=0)[-1]
    churned = window["churned"].to_numpy()
    alone = models.build_estimator(drift.REFIT_PARAMS, seed=0)[-1].set_params(tol=1e-9)
    refit = alone.fit(design[fit], churned[fit]).predict_proba(design[held_out])[:, 1]
    new, own = (
        decision_value_usd(churned[held_out], p >= ECONOMICS.threshold, ECONOMICS)
        for p in (refit, old[held_out])
    )
    assert np.array_equal(found[held_out], new - own)


def test_rows_of_which_some_are_not_scored_are_refused(simulated, champion):
    scored = champion.with_score(simulated[2])
    assert champion.with_score(scored).equals(scored)
    half = scored.assign(
        champion_score=scored["champion_score"].where(np.arange(len(scored)) < 7000)
    )
    with pytest.raises(DataError, match="43 of 7043 rows have no champion_score"):
        champion.with_score(half)


def test_scores_of_an_earlier_champion_do_not_reach_the_reference(champion):
    stale = drift.Champion(
        2, champion.model, champion.training_rows.assign(champion_score=0.5), champion.trained_to
    )
    assert stale.reference["champion_score"].nunique() > 1000


def test_labels_of_a_month_that_is_not_over_and_empty_deliveries_are_refused(simulated, champion):
    rows, as_of = simulated[2], settings.month_start(2)
    with pytest.raises(DataError, match="7043 label.* not over"):
        drift.decide(as_of, DELIVERY, rows, rows, champion)
    with pytest.raises(DataError, match="no row of 2025-03-01"):
        drift.decide(
            as_of, {"delivered": 0, "quarantined": 0}, rows.head(0), simulated[1], champion
        )
