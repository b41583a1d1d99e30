import subprocess
import sys
import tracemalloc

import factories
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from churn_utils import settings
from churn_utils.data import contract, delivered_files, source, tables
from churn_utils.data.columns import CUSTOMER_COLUMNS
from churn_utils.errors import DataError
from churn_utils.evaluation.economics import Economics, decision_value_usd
from churn_utils.features import definitions, labelling, model_inputs, offline, publishing
from churn_utils.simulation import customers, deliveries
from churn_utils.simulation.scenarios import SCENARIOS, Simulation
from churn_utils.training import models

SEED = 1
QUIET = Simulation("none", SEED)
ECONOMICS = Economics()
ATTRIBUTES = [name for name in CUSTOMER_COLUMNS if name != "customer_id"]
COMPARED = [
    "customer_id",
    *ATTRIBUTES,
    "churned",
]  # whose last digit does not depend on the number of threads
LOGISTIC = {"family": "logistic_regression", **models.DEFAULTS["logistic_regression"]}


@pytest.fixture(scope="module", autouse=True)
def simulation_home(tmp_path_factory):
    """A home of this module's own, so that nothing is read from or written to the project's."""
    with factories.at_home(tmp_path_factory.mktemp("simulated")):
        yield


@pytest.fixture(scope="module")
def extract(simulation_home):
    """IBM's rows as the contract accepts them, labels included."""
    return contract.check_rows(delivered_files.read_delivery(source.obtain_extract()))[0]


@pytest.fixture(scope="module")
def year(simulation_home):
    """Months 0 to 12 without a scenario."""
    return [customers.simulate_month(month, QUIET) for month in range(13)]


@pytest.fixture(scope="module")
def champion(year):
    """A model trained once, on month 0."""
    return fit(year[:1])


@pytest.fixture(scope="module")
def changed(simulation_home):
    """Months 3 to 7 of a scenario that starts in month 3, by its name."""
    months = {}

    def look_up(scenario):
        if scenario not in months:
            months[scenario] = {
                month: customers.simulate_month(month, Simulation(scenario, SEED))
                for month in range(3, 8)
            }
        return months[scenario]

    return look_up


def inputs_of(frame):
    stamped = frame.assign(snapshot_date=pd.NaT, written_at=pd.NaT)
    return model_inputs.select_model_inputs(
        definitions.add_on_demand(definitions.build_features(stamped))
    )


def fit(frames):
    frame = pd.concat(frames)
    rows = inputs_of(frame).assign(
        churned=frame["churned"], split=labelling.split_of(frame["slot_id"])
    )
    return models.fit_calibrated(
        LOGISTIC, rows[rows["split"] == "train"], rows[rows["split"] == "validate"], seed=0
    )


def judge(model, frame):
    """ROC AUC, and USD per customer, of a model in a month."""
    probability = model.predict_proba(inputs_of(frame))[:, 1]
    churned = frame["churned"].to_numpy()
    value = decision_value_usd(churned, probability >= ECONOMICS.threshold, ECONOMICS).mean()
    return roc_auc_score(churned, probability), value


def share(values, reference):
    """Share of ``values`` in each category, or in the ten bins that ``reference`` fills equally."""
    if reference.dtype == object:
        return (
            values.value_counts(normalize=True)
            .reindex(sorted(reference.unique()), fill_value=0)
            .to_numpy()
        )
    edges = np.unique(np.quantile(reference, np.linspace(0.1, 0.9, 9)))
    return np.bincount(np.searchsorted(edges, values), minlength=len(edges) + 1) / len(values)


def psi_of(frame, reference):
    """Population stability index of every model input."""
    now, then = inputs_of(frame), inputs_of(reference)
    shares = {
        name: (share(now[name], then[name]), share(then[name], then[name]))
        for name in definitions.MODEL_INPUTS
    }
    return pd.Series(
        {name: ((a - b) * np.log((a + 1e-6) / (b + 1e-6))).sum() for name, (a, b) in shares.items()}
    )


def log_odds(frame):
    return np.log(frame["churn_probability"] / (1 - frame["churn_probability"]))


# --- month 0 and the form of a month


OF_OFFERS = ["probability_with_offer", "churns_without_offer", "churns_with_offer"]


def test_month_0_is_ibms_extract_whatever_the_seed(extract, year):
    ours = year[0].reset_index(drop=True)
    assert ours[["customer_id", *ATTRIBUTES]].equals(
        extract.reset_index(drop=True)[["customer_id", *ATTRIBUTES]]
    )
    assert ours["slot_id"].equals(ours["customer_id"])
    assert (ours["churned"] == (extract["churn"] == "Yes").to_numpy()).all()
    known = year[0].drop(columns=OF_OFFERS)  # how customers respond follows from the seed
    for scenario in SCENARIOS:
        other = customers.simulate_month(0, Simulation(scenario, SEED + 1))
        assert other.drop(columns=OF_OFFERS).equals(known)


def test_a_month_has_the_contracts_names_and_types(extract, year):
    assert list(year[6].columns) == [
        "slot_id",
        "customer_id",
        *ATTRIBUTES,
        "churn_probability",
        "churned",
        *OF_OFFERS,
    ]
    assert year[6][ATTRIBUTES].dtypes.equals(extract[ATTRIBUTES].dtypes)
    assert (
        year[6]["churned"].dtype == bool
        and year[6]["churn_probability"].between(0, 1, inclusive="neither").all()
    )
    assert year[6].index.equals(pd.RangeIndex(7043))


def test_true_probabilities_are_those_of_the_labels(year):
    months = pd.concat(year[1:])
    spread = np.sqrt(
        (months["churn_probability"] * (1 - months["churn_probability"])).mean() / len(months)
    )
    assert abs(months["churned"].mean() - months["churn_probability"].mean()) < 4 * spread
    assert 0.83 < roc_auc_score(months["churned"], months["churn_probability"]) < 0.87


# --- a pure function of (seed, scenario, month)


def test_the_same_month_twice_is_the_same(year):
    assert customers.simulate_month(5, QUIET).equals(year[5])


def test_a_fresh_process_finds_month_5_without_the_months_before(year):
    code = (
        "import pandas as pd; from churn_utils.simulation import customers, scenarios;"
        f"month = customers.simulate_month(5, scenarios.{QUIET});"
        f"print(pd.util.hash_pandas_object(month[{COMPARED}]).sum())"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert int(answer.stdout) == pd.util.hash_pandas_object(year[5][COMPARED]).sum()


@pytest.mark.parametrize("scenario", ["none", "price_rise", "mix_shift"])
def test_parts_make_the_whole_and_fewer_slots_are_its_beginning(scenario, changed):
    ten_thousand = Simulation(scenario, SEED, slots=10_000)
    parts = list(customers.iterate_month(5, ten_thousand, rows_at_once=999))
    assert [len(part) for part in parts] == [999] * 10 + [10]
    whole = customers.simulate_month(5, ten_thousand)
    assert pd.concat(parts).equals(whole)
    assert whole.head(7043).equals(changed(scenario)[5])


def test_seeds_differ_after_month_0(year):
    other = customers.simulate_month(1, Simulation("none", SEED + 1))
    assert not other["customer_id"].equals(year[1]["customer_id"])
    assert (other["churned"] != year[1]["churned"]).mean() > 0.1
    # before a second month, months are no repetition of each other either
    assert (year[1]["churned"] != year[2]["churned"]).mean() > 0.1


def test_copies_of_a_template_live_lives_of_their_own():
    frame = customers.simulate_month(3, Simulation("none", SEED, slots=3 * 7043))
    first, second = frame.iloc[:7043], frame.iloc[7043 : 2 * 7043]
    assert frame["customer_id"].is_unique
    assert first["slot_id"].tolist() == second["slot_id"].tolist()
    assert 0.1 < (first["churned"].to_numpy() != second["churned"].to_numpy()).mean() < 0.4


# --- who stays and who comes


def test_a_customer_grows_a_month_older_or_is_replaced(year):
    template = year[0]
    seen = set(template["customer_id"])
    for before, after in zip(year, year[1:], strict=False):
        stays = before["customer_id"] == after["customer_id"]
        old, new = after[stays], after[~stays]
        assert after["customer_id"].is_unique
        assert (old["tenure"] == before["tenure"][stays] + 1).all()
        billed = before["total_charges"].fillna(0)[stays] + before["monthly_charges"][stays]
        assert np.allclose(old["total_charges"], billed, atol=0.006)
        unchanging = [name for name in ATTRIBUTES if name not in ("tenure", "total_charges")]
        assert old[unchanging].equals(before.loc[stays, unchanging])
        assert new[ATTRIBUTES].equals(template.loc[~stays, ATTRIBUTES])
        assert seen.isdisjoint(new["customer_id"])
        seen |= set(new["customer_id"])
        assert not stays[before["churned"]].any()
        assert abs((~stays)[~before["churned"]].mean() - 0.2) < 0.02


def test_the_split_follows_the_slot(year):
    for month in (1, 12):
        assert year[month]["slot_id"].equals(year[0]["customer_id"])
        assert not year[month]["customer_id"].equals(year[0]["customer_id"])


# --- without a scenario nothing drifts


def test_without_a_scenario_neither_features_nor_base_rate_drift(year):
    assert max(psi_of(month, year[0]).max() for month in year[1:]) < 0.05
    assert all(0.24 < month["churned"].mean() < 0.28 for month in year)


def test_without_a_scenario_a_frozen_champion_stays_good(year, champion):
    judged = [judge(champion, month) for month in year[1:]]
    assert all(0.83 < auc < 0.87 for auc, _ in judged)
    best = [factories.best_value_usd(month, ECONOMICS) for month in year[1:]]
    assert -1 < np.mean(best) - np.mean([value for _, value in judged]) < 8


# --- each scenario does what its row says


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_before_its_start_month_every_scenario_is_the_same(scenario, year):
    for month in (1, 4):
        assert customers.simulate_month(month, Simulation(scenario, SEED, start_month=5)).equals(
            year[month]
        )


def test_price_rise_raises_fibre_bills_and_fibre_churn(year, changed):
    now, then = changed("price_rise")[3], year[3]
    fibre = then["internet_service"] == "Fiber optic"
    assert np.allclose(
        now["monthly_charges"][fibre], 1.15 * then["monthly_charges"][fibre], atol=0.006
    )
    others = [name for name in ATTRIBUTES if name != "monthly_charges"]
    assert now.loc[~fibre, ATTRIBUTES].equals(then.loc[~fibre, ATTRIBUTES])
    assert now[others].equals(
        then[others]
    )  # the first dearer bill is in the total of the month after
    expected = np.where(fibre, np.where(then["tenure"] > 24, 2.0, 0.7), 0.0)
    assert np.allclose(log_odds(now) - log_odds(then), expected)
    assert now["churned"].mean() > then["churned"].mean() + 0.08
    assert psi_of(now, year[0]).max() > 0.2


def test_price_rise_enters_the_totals_of_those_who_stay_alone(changed, year):
    months = changed("price_rise")
    for month in range(3, 7):
        before, after = months[month], months[month + 1]
        stays = before["customer_id"] == after["customer_id"]
        billed = before["total_charges"].fillna(0)[stays] + before["monthly_charges"][stays]
        assert stays.any() and np.allclose(after["total_charges"][stays], billed, atol=0.011)
        assert after["monthly_charges"].equals(before["monthly_charges"])
        assert after["total_charges"][~stays].equals(year[0]["total_charges"][~stays])


def test_competitor_shows_in_labels_and_in_no_feature(year, changed):
    now, then = changed("competitor")[3], year[3]
    bound = then["contract"] != "Month-to-month"
    assert now[["customer_id", *ATTRIBUTES]].equals(then[["customer_id", *ATTRIBUTES]])
    assert np.allclose(log_odds(now) - log_odds(then), np.where(bound, 2.5, 0.0))
    assert now["churned"][bound].mean() > 0.3 > 0.1 > then["churned"][bound].mean()
    assert max(psi_of(month, year[0]).max() for month in changed("competitor").values()) < 0.05


@pytest.mark.parametrize("scenario", ["price_rise", "competitor"])
def test_whom_a_scenario_drives_away_is_gone_a_month_later(scenario, changed):
    months = changed(scenario)
    for month in range(3, 7):
        gone = months[month]["customer_id"][months[month]["churned"]]
        assert len(gone) > 2000 and not gone.isin(months[month + 1]["customer_id"]).any()


def test_mix_shift_moves_a_third_and_changes_nobodys_mind(year, changed):
    for month, now in changed("mix_shift").items():
        then = year[month]
        moved = ["payment_method", "paperless_billing"]
        assert now.drop(columns=moved).equals(then.drop(columns=moved))
        differs = (now[moved] != then[moved]).any(axis=1)
        assert (now.loc[differs, moved] == ["Credit card (automatic)", "Yes"]).all(axis=None)
        psi = psi_of(now, year[0])
        assert psi["payment_method"] > 0.3 and psi["paperless_billing"] > 0.08
        assert psi.drop(moved).max() < 0.05
    target = (then["payment_method"] == "Credit card (automatic)") & (
        then["paperless_billing"] == "Yes"
    )
    assert abs(differs[~target].mean() - 0.35) < 0.03


def test_mix_shift_keeps_a_customer_moved(changed):
    three, four = changed("mix_shift")[3], changed("mix_shift")[4]
    stays = three["customer_id"] == four["customer_id"]
    assert three.loc[stays, "payment_method"].equals(four.loc[stays, "payment_method"])


@pytest.mark.parametrize(
    "scenario, auc_from_to, least_gap, most_gap",
    [
        ("price_rise", (0.84, 0.88), 25, 80),
        ("competitor", (0.66, 0.73), 90, 150),
        ("mix_shift", (0.83, 0.87), -2, 10),
        ("data_bug", (0.83, 0.87), -2, 10),
    ],
)
def test_what_a_scenario_costs_a_frozen_champion(
    scenario, auc_from_to, least_gap, most_gap, changed, champion
):
    judged = [judge(champion, month) for month in changed(scenario).values()]
    assert all(auc_from_to[0] < auc < auc_from_to[1] for auc, _ in judged)
    best = [factories.best_value_usd(month, ECONOMICS) for month in changed(scenario).values()]
    assert least_gap < np.mean(best) - np.mean([value for _, value in judged]) < most_gap


@pytest.mark.parametrize("scenario", ["price_rise", "competitor"])
def test_a_refit_on_the_first_changed_month_recovers_most(scenario, changed, champion):
    months = changed(scenario)
    refit = fit([months[3]])
    held_out = labelling.split_of(months[3]["slot_id"]) == "test"
    later = [months[month][held_out] for month in (5, 6, 7)]
    best = np.mean([factories.best_value_usd(month, ECONOMICS) for month in later])
    lost, regained = (
        np.mean([best - judge(model, month)[1] for month in later]) for model in (champion, refit)
    )
    assert regained < 0.5 * lost


# --- deliveries


def test_month_0_as_delivered_gives_ibms_features(home, year):
    rows = deliveries.deliver_month(year[0])
    month = settings.month_start(0)
    ibm = delivered_files.read_delivery(source.obtain_extract())
    assert list(rows.columns) == list(ibm.columns.drop("churn")) and rows.index.equals(ibm.index)
    assert rows.index.name == ibm.index.name
    assert rows.map(lambda value: isinstance(value, str)).all(axis=None)
    publishing.publish_snapshot(ibm, month, month)
    counts = publishing.publish_snapshot(rows, month, month)
    written = (counts.customers_written, counts.features_written)
    assert counts.accepted == 7043 and written == (0, 0)


@pytest.mark.parametrize(
    ("scenario", "month"),
    [
        *((scenario, 3) for scenario in SCENARIOS),
        ("price_rise", 12),
        *(
            pytest.param(scenario, 12, marks=pytest.mark.long)
            for scenario in SCENARIOS
            if scenario != "price_rise"
        ),
    ],
)
def test_every_row_passes_the_contract_and_keeps_its_values(scenario, month):
    frame = customers.simulate_month(month, Simulation(scenario, SEED))
    accepted, rejected = contract.check_rows(deliveries.deliver_month(frame))
    assert rejected.empty
    truth = frame[["customer_id", *ATTRIBUTES]].reset_index(drop=True)
    assert accepted.reset_index(drop=True)[truth.columns].equals(truth)


def test_a_delivery_in_parts_numbers_its_lines_through(year):
    part = deliveries.deliver_month(
        next(iter(customers.iterate_month(2, QUIET, rows_at_once=50))).tail(10)
    )
    assert part.equals(deliveries.deliver_month(year[2]).loc[42:51])


def test_data_bug_is_caught_whole_and_corrected_later(year):
    arrivals = {
        month: deliveries.deliver_at(month, Simulation("data_bug", SEED, start_month=2))
        for month in (1, 2, 3, 4)
    }
    assert {month: list(files) for month, files in arrivals.items()} == {
        1: [1],
        2: [2],
        3: [2, 3],
        4: [4],
    }
    accepted, rejected = contract.check_rows(arrivals[2][2])
    assert accepted.empty and len(rejected) == 7043
    assert rejected["reason"].str.contains("monthly_charges is outside").all()
    assert rejected["reason"].str.contains("payment_method is not one of.*'E-check'").mean() > 0.3
    for as_of, month in ((1, 1), (3, 2), (3, 3), (4, 4)):
        assert arrivals[as_of][month].equals(deliveries.deliver_month(year[month]))
    assert customers.simulate_month(2, Simulation("data_bug", SEED, start_month=2)).equals(year[2])


def test_delivery_has_as_many_rows_as_the_simulation_slots():
    few = Simulation("data_bug", seed=3, start_month=2, slots=40)
    assert [list(deliveries.deliver_at(month, few)) for month in (1, 2, 3)] == [[1], [2], [2, 3]]
    broken = deliveries.deliver_at(2, few)[2]
    assert len(broken) == 40 and (broken["payment_method"] == "E-check").any()
    corrected = deliveries.deliver_at(3, few)[2]
    assert corrected.equals(deliveries.deliver_month(customers.simulate_month(2, few)))


@pytest.mark.parametrize("scenario", ["none", "price_rise", "competitor", "mix_shift"])
def test_other_scenarios_send_one_file_a_month_as_it_is(scenario, changed):
    for month in (3, 4):
        files = deliveries.deliver_at(month, Simulation(scenario, SEED))
        assert list(files) == [month] and files[month].equals(
            deliveries.deliver_month(changed(scenario)[month])
        )


def test_rows_in_memory_are_those_of_the_feature_store(home, changed):
    month, label_date = settings.month_start(3), settings.month_start(4)
    truth = changed("price_rise")[3]
    rows, quarantined = deliveries.ingest_in_memory(3, Simulation("price_rise", SEED))
    labels = deliveries.make_labels(truth)
    publishing.publish_snapshot(deliveries.deliver_month(truth), month, month)
    labelling.record_labels(labels, month, label_date, labels["slot_id"])
    stored = (
        offline.build_training_set(label_date).set_index("customer_id").loc[rows["customer_id"]]
    )
    assert quarantined == 0 and len(rows) == 7043
    for name in ["event_date", "split", "churned", *definitions.MODEL_INPUTS]:
        assert rows[name].tolist() == stored[name].tolist()
    assert rows["churn_probability"].tolist() == truth["churn_probability"].tolist()


def test_of_a_broken_month_no_row_is_known():
    rows, quarantined = deliveries.ingest_in_memory(
        3, Simulation("data_bug", SEED, slots=100), broken=True
    )
    assert len(rows) == 0 and quarantined == 100
    assert {
        "event_date",
        "split",
        "churned",
        "churn_probability",
        *definitions.MODEL_INPUTS,
    } <= set(rows)


def test_labels_drawn_anew_follow_the_moved_log_odds(year):
    shift = np.where(year[1]["contract"] == "Two year", 2.0, 0.0)
    moved = customers.redraw_labels(year[1], shift, [SEED, 1])
    assert np.allclose(log_odds(moved) - log_odds(year[1]), shift)
    assert abs(moved["churned"].mean() - moved["churn_probability"].mean()) < 0.02
    assert moved.drop(columns=["churn_probability", "churned"]).equals(
        year[1].drop(columns=["churn_probability", "churned"])
    )
    assert moved.equals(customers.redraw_labels(year[1], shift, [SEED, 1]))
    assert not moved["churned"].equals(
        customers.redraw_labels(year[1], shift, [SEED, 2])["churned"]
    )


def test_labels_are_recorded_with_the_split_of_the_slot(home, year):
    month, label_date = settings.month_start(1), settings.month_start(2)
    labels = deliveries.make_labels(year[1])
    publishing.publish_snapshot(deliveries.deliver_month(year[1]), month, month)
    assert (
        labelling.record_labels(labels, month, label_date, labels["slot_id"])["labels_written"]
        == 7043
    )
    stored = tables.read("churn_labels").set_index("customer_id").loc[labels["customer_id"]]
    assert stored["split"].tolist() == labelling.split_of(year[0]["customer_id"]).tolist()
    assert stored["churned"].tolist() == year[1]["churned"].tolist()
    assert offline.build_training_set(label_date)["lookup_status"].eq("found").all()


def test_best_value_is_what_the_true_probabilities_earn():
    frame = pd.DataFrame(
        {"churn_probability": [0.9, 0.25, 0.24, 0.6], "churned": [True, False, True, True]}
    )
    assert factories.best_value_usd(frame, ECONOMICS) == (1500 - 500 + 0 + 1500) / 4


# --- scale and wrong use


@pytest.mark.parametrize("slots", [40_000, pytest.param(200_000, marks=pytest.mark.long)])
def test_many_slots_stream_in_bounded_memory(slots):
    customers.simulate_month(2, QUIET)  # the true model is fitted and its tables are made
    tracemalloc.start()
    rows = sum(
        len(part)
        for part in customers.iterate_month(
            2, Simulation("none", SEED, slots=slots), rows_at_once=5_000
        )
    )
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert rows == slots and peak < 10e6  # 40,000 at once take 20 MB


@pytest.mark.parametrize(
    "wrong, message",
    [
        (
            {"scenario": "price_fall"},
            "'price_fall'; the scenarios are none, price_rise, competitor, mix_shift, data_b",
        ),
        ({"seed": -1}, "seed is -1; valid are whole numbers from 0"),
        ({"slots": 0}, "slots is 0; valid are whole numbers from 1 on"),
        ({"start_month": 0}, "start_month is 0; valid are whole numbers from 1"),
    ],
)
def test_impossible_simulation_is_refused_with_what_is_valid(wrong, message):
    with pytest.raises(DataError, match=message):
        Simulation(**wrong)


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"month": -1}, "month is -1; valid are whole numbers from 0 on"),
        ({"month": 1.5}, "month is 1.5"),
        ({"rows_at_once": 0}, "rows_at_once is 0; valid are whole numbers from 1"),
    ],
)
def test_impossible_month_is_refused_at_the_call(wrong, message):
    with pytest.raises(DataError, match=message):
        customers.iterate_month(**{"month": 1, "simulation": QUIET} | wrong)
    if "rows_at_once" not in wrong:
        with pytest.raises(DataError, match=message):
            customers.simulate_month(**{"month": 1, "simulation": QUIET} | wrong)
