import json
from types import SimpleNamespace

import factories
import numpy as np
import pandas as pd
import pytest

from churn_utils import settings
from churn_utils.data import tables
from churn_utils.errors import DataError
from churn_utils.evaluation.economics import Economics
from churn_utils.features import offline
from churn_utils.monitoring import drift, recovery
from churn_utils.registry import versions
from churn_utils.settings import month_start
from churn_utils.simulation import customers as simulated_customers
from churn_utils.simulation import deliveries
from churn_utils.simulation.scenarios import Simulation

RISE = Simulation("price_rise", seed=1)
SMALL = Simulation("none", seed=1, slots=60)  # IBM's first 60 customers and who comes after them


def values_of(date, champion, best, shadow=np.nan, customers=None):
    """What ``compare_with_best`` returns for one month."""
    names = customers or [f"c{i}" for i in range(len(champion))]
    return pd.DataFrame(
        {
            "customer_id": names,
            "snapshot_date": date,
            "shadow": shadow,
            "champion": champion,
            "best": best,
        }
    )


def shift_of(psi, use):
    return {"psi": psi, "use": use}


def gain_of(lower, start=4, end=4):
    span = {
        "from": f"{month_start(start):%Y-%m-%d}",
        "to": f"{month_start(end):%Y-%m-%d}",
        "rows": 4200,
    }
    return {
        **span,
        "gain_usd": 40.0,
        "lower": lower,
        "upper": 60.0,
        "newest_gain_usd": 39.0,
        "prior_gain_usd": 5.0,
    }


def decided(month, decision=drift.OK, shifts=None, gains=(), why="for a reason"):
    """A row of ``decisions``."""
    evidence = json.dumps({"shifts": shifts or {}, "gains": list(gains)})
    row = [month_start(month), month_start(month), pd.NaT, pd.NaT, decision, "none", why, evidence]
    return pd.DataFrame([row], columns=drift.COLUMNS).astype(
        dict.fromkeys(["labels_from", "labels_to"], "M8[ns]")
    )


def deployed(version, start, end=None, approver="Ada Lovelace"):
    """A row of ``deployments``."""
    row = {
        "entry": version,
        "effective_from": month_start(start),
        "version": version,
        "effective_to": month_start(end) if end else pd.NaT,
        "action": "promoted",
        "approved_by": approver,
        "evidence_sha256": "0" * 64,
        "reason": "tested",
    }
    return pd.DataFrame([row]).astype({"effective_to": "M8[ns]"})


# --- what decisions earned, beside the best that anybody could have earned


def scored_rows(truth, month, probability, role="champion", version=1):
    """Rows of ``predictions`` in which everybody has the same probability."""
    return truth[["customer_id"]].assign(
        snapshot_date=month_start(month),
        model_version=version,
        role=role,
        churn_probability=probability,
        threshold=0.25,
        decision="offer",
        expected_value_usd=0.0,
        scored_at=month_start(month),
    )


@pytest.fixture(scope="module")
def taken_in(tmp_path_factory):
    """A home where months 1 to 3 were taken in, and these months as they truly are.

    In month 1 everybody got an offer and ten labels came three months late; month 2 was scored when it was over; in
    month 3 version 2 stood exactly at the threshold, and version 1 in the shadow below it.
    """
    with factories.at_home(tmp_path_factory.mktemp("review")) as path:
        truths = {month: simulated_customers.simulate_month(month, SMALL) for month in (1, 2, 3)}
        for month, truth in truths.items():
            offline.publish_snapshot(
                deliveries.deliver_at(month, SMALL)[month], month_start(month), month_start(month)
            )
            labels, late = deliveries.make_labels(truth), 10 if month == 1 else 0
            for rows, arrive in ((labels[late:], month + 1), (labels[:late], month + 4)):
                offline.record_labels(
                    rows, month_start(month), month_start(arrive), rows["slot_id"]
                )
        predictions = [
            scored_rows(truths[1], 1, 1.0),
            scored_rows(truths[2], 2, 1.0, "backfill"),
            scored_rows(truths[3], 3, 0.25, version=2),
            scored_rows(truths[3], 3, 0.24, "shadow"),
        ]
        tables.merge("predictions", pd.concat(predictions))
        tables.merge("deployments", pd.concat([deployed(1, 1, 3), deployed(2, 3)]))
    return path, truths


@pytest.fixture
def truths(taken_in):
    return taken_in[1]


@pytest.fixture
def compare(taken_in, monkeypatch):
    """``compare_with_best`` in that home; what a champion was trained for stands in no registry here."""
    monkeypatch.setenv("CHURN_HOME", str(taken_in[0]))
    costs = {1: Economics(600.0, 2000.0), 2: Economics()}
    monkeypatch.setattr(
        versions, "read_version", lambda number: SimpleNamespace(economics=costs[number])
    )
    return lambda month: recovery.compare_with_best(month_start(month), SMALL)


def offers_to_all(truth):
    return np.where(truth["churned"], 1500.0, -500.0)


def test_every_labelled_customer_of_every_month_is_compared_once(compare, truths):
    values = compare(4)
    assert set(values.columns) == {"customer_id", "snapshot_date", "champion", "shadow", "best"}
    assert values.groupby("snapshot_date").size().to_dict() == {
        month_start(m): 60 - 10 * (m == 1) for m in truths
    }
    assert not values.duplicated(["customer_id", "snapshot_date"]).any()
    late = set(truths[1]["customer_id"][:10])
    assert late.isdisjoint(values.loc[values["snapshot_date"] == month_start(1), "customer_id"])
    assert (
        len(compare(5)) == 180 and len(compare(3)) == 110
    )  # the late ten have come; month 3 is not over


def of_month(values, month, truth):
    """Rows of a month in the order of its customers."""
    return (
        values[values["snapshot_date"] == month_start(month)]
        .set_index("customer_id")
        .loc[truth["customer_id"]]
    )


def test_the_champion_earns_what_its_probabilities_decide(compare, truths):
    values = compare(5)
    for month in (1, 3):
        assert (
            of_month(values, month, truths[month])["champion"] == offers_to_all(truths[month])
        ).all()


def test_a_month_that_was_not_scored_in_time_earned_nothing(compare, truths):
    missed = of_month(compare(4), 2, truths[2])
    assert (missed["champion"] == 0).all() and missed["best"].mean() > 0


def test_the_shadow_is_missing_until_there_is_one(compare, truths):
    values = compare(5)
    assert (of_month(values, 3, truths[3])["shadow"] == 0).all()
    assert values.loc[values["snapshot_date"] < month_start(3), "shadow"].isna().all()


def test_the_best_decides_by_the_worlds_own_probabilities(compare, truths):
    values = compare(5)
    for month, truth in truths.items():
        expected = simulated_customers.best_value_usd(truth, Economics())
        assert of_month(values, month, truth)["best"].mean() == pytest.approx(expected)


def test_an_offer_costs_what_the_champion_in_effect_was_trained_for(compare, truths):
    known = truths[1][10:]
    assert (
        of_month(compare(2), 1, known)["champion"].tolist()
        == np.where(known["churned"], 1400.0, -600.0).tolist()
    )


def test_a_months_value_is_the_mean_with_its_interval():
    values = values_of(
        month_start(1), champion=[0.0, 1500.0, -500.0, 0.0], best=[0.0, 1500.0, 0.0, 1500.0]
    )
    row = recovery.value_by_month(values).iloc[0]
    assert (row["snapshot_date"], row["customers"], row["champion"], row["best"]) == (
        month_start(1),
        4,
        250.0,
        750.0,
    )
    half = 1.96 * np.sqrt((250**2 + 1250**2 + 750**2 + 250**2) / 3) / 2
    assert (row["champion_lower"], row["champion_upper"]) == pytest.approx((250 - half, 250 + half))
    assert np.isnan(row[["shadow", "shadow_lower", "shadow_upper"]].astype(float)).all()


def test_what_a_month_lost_is_the_sum_over_its_customers():
    scored = values_of(month_start(1), champion=[0.0, 1500.0, -500.0], best=[1500.0, 1500.0, 0.0])
    missed = values_of(month_start(2), champion=[0.0, 0.0], best=[1500.0, 0.0])
    shadowed = values_of(
        month_start(3), champion=[1500.0, 0.0], best=[1500.0, 0.0], shadow=[-500.0, 0.0]
    )
    months = recovery.value_by_month(pd.concat([shadowed, scored, missed]))
    assert months["snapshot_date"].tolist() == [month_start(month) for month in (1, 2, 3)]
    assert months["lost_usd"].tolist() == [2000.0, 1500.0, 0.0]
    assert months["champion"].iloc[1] == 0.0
    assert months["shadow"].iloc[2] == -250.0 and months["shadow"].iloc[:2].isna().all()


# --- recovery


@pytest.fixture
def shadowed():
    """A month that two champions scored: 100, 160 and 200 USD on average."""
    generator = np.random.default_rng(0)
    noise = [part - part.mean() for part in generator.normal(0, 300, (2, 400))]
    return values_of(
        month_start(5), champion=160 + noise[0], best=200 + noise[0], shadow=100 + noise[1]
    )


def test_recovery_is_the_share_of_the_loss_that_was_won_back(shadowed):
    before = values_of(month_start(4), champion=np.full(400, 9999.0), best=np.full(400, 9999.0))
    measured = recovery.measure_recovery(pd.concat([before, shadowed]), month_start(0), draws=200)
    assert list(measured.columns) == ["value", "lower", "upper"]
    expected = {"old champion": 100, "new champion": 160, "best possible": 200, "recovered": 0.6}
    assert measured["value"].to_dict() == pytest.approx(expected)
    assert (measured["lower"] < measured["value"]).all() and (
        measured["value"] < measured["upper"]
    ).all()


def test_the_interval_is_that_of_a_mean_over_customers(shadowed):
    old = recovery.measure_recovery(shadowed, month_start(0), draws=8000).loc["old champion"]
    half = 1.96 * shadowed["shadow"].std() / np.sqrt(len(shadowed))
    assert [old["upper"] - 100, 100 - old["lower"]] == pytest.approx([half, half], rel=0.05)


def test_recovery_is_unknown_until_a_month_has_been_scored_by_two_champions(shadowed):
    measured = recovery.measure_recovery(shadowed.assign(shadow=np.nan), month_start(0))
    assert measured.empty and list(measured.columns) == ["value", "lower", "upper"]


def test_the_months_of_a_customer_are_no_independent_evidence(shadowed):
    again = [shadowed.assign(snapshot_date=month_start(month)) for month in (6, 7, 8)]
    once, often = (
        recovery.measure_recovery(values, month_start(0), draws=200)
        for values in (shadowed, pd.concat([shadowed, *again]))
    )
    pd.testing.assert_frame_equal(once, often)


def test_every_month_of_a_customer_counts_in_the_mean(shadowed):
    stayed = shadowed.head(100).assign(snapshot_date=month_start(6))
    both = pd.concat([shadowed, stayed])
    value = recovery.measure_recovery(both, month_start(0), draws=10)["value"]
    assert value["old champion"] == pytest.approx(both["shadow"].mean())
    assert value["new champion"] == pytest.approx(both["champion"].mean())


# --- what was decided on which evidence


def test_shifts_stand_by_month_and_a_broken_month_is_missing():
    first = {"tenure": shift_of(0.01, 0.4), "champion_score": shift_of(0.0, 1.0)}
    last = {
        "tenure": shift_of(0.3, 0.5),
        "contract": shift_of(0.02, 0.1),
        "champion_score": shift_of(0.2, 1.0),
    }
    table = recovery.table_shifts(
        pd.concat(
            [decided(2, shifts=first), decided(3, drift.QUARANTINE), decided(4, drift.ALERT, last)]
        )
    )
    assert list(table.columns) == [*map(month_start, (2, 3, 4)), "use"]
    assert table.loc["tenure"].tolist() == pytest.approx([0.01, np.nan, 0.3, 0.5], nan_ok=True)
    assert table.loc["contract"].tolist() == pytest.approx([np.nan, np.nan, 0.02, 0.1], nan_ok=True)
    assert table[month_start(3)].isna().all() and table.index.name == "feature"


def test_no_decision_has_no_shift_and_no_gain():
    nothing = decided(2).head(0)
    assert list(recovery.table_shifts(nothing).columns) == ["use"]
    assert recovery.table_gains(nothing).empty and "gain_usd" in recovery.table_gains(nothing)


def test_gains_are_those_of_the_window_that_said_most():
    quiet, found = (
        decided(2),
        decided(5, drift.RETRAIN, gains=[gain_of(lower=20.0), gain_of(lower=-3.0, start=2)]),
    )
    slow = decided(
        6, gains=[gain_of(lower=1.0, start=5, end=5), gain_of(lower=4.0, start=3, end=5)]
    )
    table = recovery.table_gains(pd.concat([quiet, found, slow])).set_index("as_of_date")
    assert table.index.tolist() == [
        month_start(5),
        month_start(6),
    ]  # no row for the month without news
    assert table["decision"].tolist() == [drift.RETRAIN, drift.OK] and table["lower"].tolist() == [
        20.0,
        4.0,
    ]
    assert table["from"].tolist() == ["2025-05-01", "2025-04-01"] and table["rows"].tolist() == [
        4200,
        4200,
    ]
    assert table.loc[
        month_start(5), ["gain_usd", "upper", "newest_gain_usd", "prior_gain_usd"]
    ].tolist() == [
        40.0,
        60.0,
        39.0,
        5.0,
    ]


# --- what happened when


@pytest.fixture
def eventful(home):
    """A home whose decisions called for everything there is; the second retraining was refused, the third is open."""
    decisions = [
        decided(2),
        decided(3, drift.ALERT, why="tenure moved"),
        decided(4, drift.QUARANTINE),
        decided(5, drift.RETRAIN),
        decided(6),
        decided(7, drift.RETRAIN),
        decided(8, drift.RETRAIN),
    ]
    tables.merge("decisions", pd.concat(decisions))
    tables.merge(
        "deployments", pd.concat([deployed(1, 1, 5), deployed(2, 5, approver="Grace Hopper")])
    )


def events_at(month, world=RISE):
    events = recovery.list_events(month_start(month), world)
    return list(zip(events["date"].map(settings.month_of), events["event"], strict=True))


def test_events_are_told_in_order_of_time(eventful):
    assert events_at(8) == [
        (3, "world"),
        (3, "alert"),
        (4, "quarantine"),
        (5, "retrain"),
        (5, "promoted"),
        (7, "retrain"),
        (7, "refused"),
        (8, "retrain"),
    ]


def test_events_say_what_and_who(eventful):
    what = recovery.list_events(month_start(8), RISE).set_index("event")["what"]
    assert what["world"] == RISE.description and what["alert"] == "none: tenure moved"
    assert (
        what["promoted"] == "version 2, approved by Grace Hopper"
        and "did not pass" in what["refused"]
    )


def test_what_comes_later_is_no_event_yet(eventful):
    assert events_at(2) == []
    assert events_at(3) == [(3, "world"), (3, "alert")]
    assert events_at(7)[-2:] == [
        (5, "promoted"),
        (7, "retrain"),
    ]  # promoted or refused is not known yet
    assert list(recovery.list_events(month_start(2), RISE).columns) == ["date", "event", "what"]


def test_a_world_that_does_not_change_is_no_event(eventful):
    assert "world" not in [event for _, event in events_at(8, Simulation("none", seed=1))]


def test_a_home_without_decisions_has_the_world_alone(home):
    assert events_at(4) == [(3, "world")]


# --- another world, asked for in memory


@pytest.fixture(scope="module")
def champion(first_month):
    """Trained on IBM's month."""
    rows = offline.training_rows(first_month, "train")
    return drift.Champion(
        1, factories.fit_model(first_month, drift.REFIT_PARAMS), rows, month_start(0)
    )


@pytest.mark.parametrize(
    ("scenario", "start", "called_for"),
    [
        ("competitor", 2, [drift.OK, drift.RETRAIN]),
        ("mix_shift", 3, [drift.ALERT, drift.OK]),
        ("data_bug", 2, [drift.QUARANTINE, drift.OK]),
    ],
)
def test_another_world_calls_for_what_its_change_needs(scenario, start, called_for, champion, home):
    tried = recovery.try_scenario(scenario, 5, champion, start_month=start)
    assert list(tried.columns) == drift.COLUMNS and tried["decision"].tolist() == called_for
    assert tried["as_of_date"].tolist() == [month_start(start), month_start(start + 1)]
    assert not (home / "lakehouse").exists()  # nothing is written


def test_a_world_that_there_is_not_cannot_be_tried(champion):
    with pytest.raises(DataError, match="'price_fall'"):
        recovery.try_scenario("price_fall", 5, champion)


def test_before_the_first_labels_there_is_nothing_to_compare():
    with pytest.raises(DataError, match="labelled by 2025-02-01; play at least one month"):
        recovery.compare_with_best(settings.month_start(1), Simulation(slots=60))
