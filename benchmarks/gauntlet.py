"""The gate over many seeds: bad challengers refused, a better one promoted, an equal one not.

Power is measured with models whose ROC AUC over the whole population is known, because the
simulation knows each customer's true probability. The challenger is a fitted model; the champion is
the same model mixed with one that sees other inputs until it is worse by exactly the difference in
question, or a third model of equal quality. A seed draws the customers and the labels. Promoted is
a challenger that passes floors, calibration, slices and the paired comparison.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from results import save_table
from scipy.optimize import brentq
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from churn_utils import settings
from churn_utils.evaluation.economics import Economics
from churn_utils.features import definitions, labelling, model_inputs
from churn_utils.simulation.scenarios import Simulation
from churn_utils.training import models
from churn_utils.validation import gate
from churn_utils.validation.challenger import Challenger

sys.path.insert(0, str(settings.PROJECT / "tests"))
FIGURE_CHECKS = ["auc_floor", "value_floor", "calibration", "slices", "champion"]
PERSON = [
    "gender",
    "senior_citizen",
    "partner",
    "dependents",
    "payment_method",
    "paperless_billing",
]
SERVICE = [
    "internet_service",
    "online_security",
    "tech_support",
    "multiple_lines",
    "monthly_charges",
]


def refuse_all(seeds: int) -> pd.DataFrame:
    """Count the seeds in which each bad challenger is refused by the check that is meant for it.

    Returns:
        One row per challenger: ``challenger``, ``check meant for it``, ``of … seeds``.
    """
    from bad_models import BAD, STUMPS, Gauntlet, register

    better = "a clearly better one is promoted"
    names = ["a sound one passes", better, *BAD, "settled_bills", "edited_after_approval"]
    own: dict[str, list[bool]] = {name: [] for name in names}
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as folder:
            os.environ["CHURN_HOME"] = f"{folder}/home"
            gauntlet = Gauntlet(seed)
            own["a sound one passes"].append(
                gate.overall_verdict(gauntlet.submit("sound")) == "pass"
            )
            for name, (_, verdict) in BAD.items():
                own[name].append(gauntlet.judge_alone(name) == verdict)
            own["edited_after_approval"].append("is not what Ada" in gauntlet.edit_after_approval())
            own[better].append(
                gauntlet.promote(register(gauntlet.rows, STUMPS))
                and gauntlet.promote(gauntlet.sound.version)
            )
            found = gauntlet.settled_bills(Path(folder) / "leak")
            own["settled_bills"].append(found.loc["leakage", "verdict"] == "fail")
        print(seed, {name: found[-1] for name, found in own.items() if not found[-1]}, flush=True)
    meant = {name: check for name, (check, _) in BAD.items()} | {"settled_bills": "leakage"}
    meant |= {better: "gate, approval, promotion", "edited_after_approval": "promotion"}
    return pd.DataFrame(
        [
            {
                "challenger": name,
                "check meant for it": meant.get(name, "all of them"),
                f"of {seeds} seeds": sum(found),
            }
            for name, found in own.items()
        ]
    )


def fit_logit(rows: pd.DataFrame, columns: list[str], truth: np.ndarray):
    """Fit a linear model of the truth on some inputs; return a function from rows to log-odds."""
    encoder = models.build_encoder().fit(model_inputs.select_model_inputs(rows))
    params = {"family": "logistic_regression", "C": 1.0, "n_knots": 4}
    spline = models.build_estimator(params, seed=0)

    def encode(some: pd.DataFrame) -> pd.DataFrame:
        codes = encoder.transform(model_inputs.select_model_inputs(some))
        return codes.assign(
            **{name: codes[name].iloc[0] * 0 for name in codes if name not in columns}
        )

    twice = pd.concat([encode(rows)] * 2)
    weights = np.r_[truth, 1 - truth]
    spline.fit(
        twice,
        np.r_[np.ones(len(rows)), np.zeros(len(rows))],
        logisticregression__sample_weight=weights,
    )
    return lambda some: spline.decision_function(encode(some))


def expected_auc(logit: np.ndarray, truth: np.ndarray) -> float:
    """Return the ROC AUC over all labels that the truth could draw."""
    labels = np.r_[np.ones(len(truth)), np.zeros(len(truth))]
    return roc_auc_score(labels, np.r_[logit, logit], sample_weight=np.r_[truth, 1 - truth])


def calibrate(logit: np.ndarray, truth: np.ndarray):
    """Fit the sigmoid that calibrates log-odds in the population."""
    weights = np.r_[truth, 1 - truth]
    labels = np.r_[np.ones(len(truth)), np.zeros(len(truth))]
    return LogisticRegression(C=np.inf).fit(
        np.r_[logit, logit][:, None], labels, sample_weight=weights
    )


class Contest:
    """Models of known quality in the population that a seed's customers are drawn from."""

    def __init__(self) -> None:
        """Fit the full model and the two partial ones on three simulations that no seed uses.

        Their quality is set on the test slots of those simulations: the same slots stand behind
        every seed's test rows, and models that are equal on all customers differ by 0.001 in ROC
        AUC on these.
        """
        months = [
            read_rows(Simulation("none", 1000 + i), month) for i in range(3) for month in (1, 2, 3)
        ]
        population = pd.concat(months, ignore_index=True)
        everything, truth = list(definitions.MODEL_INPUTS), population["truth"].to_numpy()
        self.models = [
            fit_logit(population, columns, truth) for columns in (everything, PERSON, SERVICE)
        ]
        judged = population[labelling.split_of(population["slot_id"]) == "test"]
        self.truth = judged["truth"].to_numpy()
        self.scores = [model(judged) for model in self.models]

    def water_down(self, other: int, loss: float):
        """Mix the full model with another until its ROC AUC is lower by ``loss``.

        Returns:
            Function from rows to probabilities.
        """
        best = expected_auc(self.scores[0], self.truth)

        def mixed(share: float, scores: list[np.ndarray]) -> np.ndarray:
            return (1 - share) * scores[0] + share * scores[other]

        share = brentq(
            lambda s: expected_auc(mixed(s, self.scores), self.truth) - (best - loss),
            0.0,
            0.999,
            xtol=1e-4,
        )
        sigmoid = calibrate(mixed(share, self.scores), self.truth)
        return lambda rows: sigmoid.predict_proba(
            mixed(share, [m(rows) for m in self.models])[:, None]
        )[:, 1]


def read_rows(simulation: Simulation, month: int) -> pd.DataFrame:
    """Return model inputs of a simulated month with ``truth, churned, customer_id, slot_id``."""
    from churn_utils.data import contract
    from churn_utils.simulation import customers as simulated_customers
    from churn_utils.simulation import deliveries

    simulated = simulated_customers.simulate_month(month, simulation)
    delivered = deliveries.deliver_at(month, simulation)[month]
    customers = contract.check_rows(delivered)[0].assign(
        snapshot_date=settings.month_start(month), written_at=0
    )
    rows = definitions.add_on_demand(definitions.build_features(customers))
    facts = simulated[["customer_id", "slot_id", "churn_probability"]].rename(
        columns={"churn_probability": "truth"}
    )
    labels = deliveries.make_labels(simulated)[["customer_id", "churn"]]
    rows = rows.merge(facts, on="customer_id").merge(labels, on="customer_id")
    return rows.assign(churned=rows["churn"] == "Yes").astype(
        dict.fromkeys(definitions.INTEGER, "int64")
    )


def run_figure_checks(
    rows: pd.DataFrame, challenger: np.ndarray, champion: np.ndarray, seed: int
) -> dict[str, bool]:
    """Return for each check of ``FIGURE_CHECKS`` whether it passes."""
    contest = Challenger(0, settings.month_start(2), None, draws=1000, seed=seed).with_parts(
        rows=rows,
        champion=99,
        probability=challenger,
        champion_probability=champion,
        champion_threshold=Economics().threshold,
    )
    return {name: gate.CHECKS[name](contest).verdict == "pass" for name in FIGURE_CHECKS}


def measure_power(seeds: int) -> pd.DataFrame:
    """Return the share of seeds in which a challenger of known quality is promoted."""
    contest, table = Contest(), []
    weaker = {
        "+0.02 ROC AUC, one month": (0.02, [1]),
        "+0.01 ROC AUC, three months": (0.01, [1, 2, 3]),
        "equal, one month": (None, [1]),
        "equal, three months": (None, [1, 2, 3]),
    }
    for name, (gain, months) in weaker.items():
        if gain:
            pair = contest.water_down(1, 0.0005), contest.water_down(1, 0.0005 + gain)
        else:
            # Equally good models that differ: one leans on the person, one on the service.
            pair = contest.water_down(1, 0.01), contest.water_down(2, 0.01)
        found = []
        for seed in range(seeds):
            rows = pd.concat(
                [read_rows(Simulation("none", seed), month) for month in months], ignore_index=True
            )
            rows = rows[labelling.split_of(rows["slot_id"]) == "test"].reset_index(drop=True)
            found.append(run_figure_checks(rows, pair[0](rows), pair[1](rows), seed))
        passed = pd.DataFrame(found)
        row = {"challenger": name, "seeds": seeds} | {
            f"{n} passes": f"{passed[n].mean():.1%}" for n in FIGURE_CHECKS
        }
        row["promoted"] = f"{passed.all(axis=1).mean():.1%}"
        print(row, flush=True)
        table.append(row)
    return pd.DataFrame(table).set_index("challenger").T.rename_axis("").reset_index()


def main(what: str = "all", seeds: int = 20, simulations: int = 200) -> None:
    """Measure both; ``power`` or ``bad`` as first argument measures one."""
    if what in ("all", "power"):
        save_table("Power of the gate", measure_power(int(simulations)), Path(__file__).name)
    if what in ("all", "bad"):
        save_table("Gauntlet", refuse_all(int(seeds)), Path(__file__).name)


if __name__ == "__main__":
    main(*sys.argv[1:])
