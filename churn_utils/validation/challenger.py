"""A challenger as the gate sees it: its record, the rows that decide about it, what it answers on them."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from churn_utils.errors import ChurnError, DataError
from churn_utils.evaluation import metrics
from churn_utils.evaluation.economics import Economics
from churn_utils.features import offline
from churn_utils.inference import scoring
from churn_utils.registry import deployments, lineage, versions
from churn_utils.validation import isolation

PASS, FAIL, NOT_EVALUATED = "pass", "fail", "not_evaluated"
ANSWER_SECONDS = (
    60.0  # that a challenger may take over all of its questions; a sound one takes one or two
)
REFIT_SECONDS = (
    300.0  # that training it again may take; a sound one takes one or two for each 5,000 rows
)


@dataclass(frozen=True)
class Candidate:
    """A challenger on the rows that decide about it; parts are computed when a check first asks for them."""

    version: int
    as_of: pd.Timestamp
    since: pd.Timestamp | None
    draws: int
    seed: int
    economics: Economics = Economics()  # that hold now, whatever the challenger was trained for
    ask: str = "churn_utils.validation.behaviour_probes:ask"  # what questions it in its own process
    seconds: float = ANSWER_SECONDS

    def __post_init__(self) -> None:
        """Start the process that will question it; the imports take as long as a refit."""
        isolation.start()

    @cached_property
    def info(self) -> versions.ModelVersion:
        """Registry entry of the challenger."""
        return versions.read_version(self.version)

    @cached_property
    def champion(self) -> int | None:
        """Champion in effect, or the one that this very version took over from; None when there is none."""
        found = deployments.champion_at(self.as_of)
        return deployments.predecessor_at(self.as_of) if found == self.version else found

    @cached_property
    def champion_info(self) -> versions.ModelVersion:
        """Registry entry of the champion.

        Raises:
            DataError: there is no champion.
        """
        if self.champion is None:
            raise DataError("there is no champion to compare with.")
        return versions.read_version(self.champion)

    @cached_property
    def labelled(self) -> pd.DataFrame:
        """Every row labelled by ``as_of``, from ``since`` on."""
        return offline.build_training_set(self.as_of, since=self.since)

    @cached_property
    def rows(self) -> pd.DataFrame:
        """Its test rows."""
        return offline.training_rows(self.labelled, "test")

    @cached_property
    def learned(self) -> pd.DataFrame:
        """The rows that it was trained on, by its record."""
        return offline.training_rows(lineage.read_training_set(self.version), "train")

    @cached_property
    def questioning(self) -> Future:
        """It is being asked, in a process of its own (``probing.ask``), on ``rows`` and then on ``learned``; once."""
        asked = pd.concat([self.rows, self.learned], ignore_index=True)
        answers = isolation.submit(
            self.ask, self.version, asked, len(self.rows), seconds=self.seconds
        )
        _ = self.refitting  # waits for its turn there, while the figures are computed here
        return answers

    @cached_property
    def refitting(self) -> Future:
        """It is being trained again from its record, in a process of its own: a record may ask for a year's work."""
        return isolation.submit(
            "churn_utils.validation.behaviour_probes:refit",
            self.version,
            self.rows,
            seconds=REFIT_SECONDS,
        )

    @cached_property
    def answers(self) -> dict:
        """What it answered.

        Raises:
            IsolationError: it raised, hung, or its process died: this time and, without asking again, every other.
        """
        return self.questioning.result()

    def has_answered(self) -> bool:
        """Tell whether it gave a probability to every row; False as well where there is no row to decide on."""
        try:
            return len(self.probability) > 0
        except ChurnError:
            return False

    def scored(self) -> tuple[pd.Series, np.ndarray, pd.Series]:
        """Labels, the challenger's probabilities and customers of ``rows``, as ``evaluation`` takes them."""
        return self.rows["churned"], self.probability, self.rows["customer_id"]

    @cached_property
    def probability(self) -> np.ndarray:
        """The challenger's probabilities on ``rows``.

        Raises:
            DataError: it gave more or fewer answers than it was asked for.
        """
        given, asked = len(self.answers["probability"]), len(self.rows) + len(self.learned)
        if given != asked:
            raise DataError(f"{asked} probabilities were asked for, {given} were given.")
        return self.answers["probability"][: len(self.rows)]

    @cached_property
    def learned_probability(self) -> np.ndarray:
        """The challenger's probabilities on the rows that it was trained on."""
        return self.answers["probability"][len(self.rows) :]

    @cached_property
    def refitted(self) -> np.ndarray:
        """Probabilities on ``rows`` of a model trained again from the challenger's record alone.

        Raises:
            IsolationError: the record cannot be trained, or not in time.
        """
        return self.refitting.result()

    @cached_property
    def champion_probability(self) -> np.ndarray:
        """The champion's probabilities on the same rows."""
        return scoring.predict_probability(scoring.load_model(self.champion_info), self.rows)

    @cached_property
    def champion_threshold(self) -> float:
        """Probability from which the champion makes the offer: under the costs that it was trained for."""
        return self.champion_info.threshold

    @cached_property
    def samples(self) -> dict[str, pd.DataFrame]:
        """Bootstrap metrics over customers, paired where there is a champion."""
        models, thresholds = {"challenger": self.probability}, {}
        if self.champion is not None:
            models["champion"], thresholds["champion"] = (
                self.champion_probability,
                self.champion_threshold,
            )
        return metrics.bootstrap_metrics(
            self.rows["churned"],
            models,
            self.rows["customer_id"],
            self.economics,
            self.draws,
            self.seed,
            thresholds,
        )

    @cached_property
    def weights(self) -> np.ndarray:
        """Bootstrap weights over customers, shape (draws, rows)."""
        return metrics.resample(self.rows["customer_id"], self.draws, self.seed)

    def with_probability(self, probability: np.ndarray, draws: int | None = None) -> Candidate:
        """The same challenger, had it given these probabilities to ``rows``; with other ``draws`` if need be."""
        impostor = replace(self, draws=draws or self.draws)
        changed = {"probability", "samples", "weights", "draws"}
        kept = {name: value for name, value in self.__dict__.items() if name not in changed}
        impostor.__dict__.update(
            kept, probability=np.asarray(probability)
        )  # fills the cached properties
        return impostor


def make_finding(
    holds: bool, requirement: str, detail: str, value=None, lower=None, upper=None
) -> dict:
    """One check's verdict with its evidence; ``value, lower, upper`` where there is a number behind it."""
    return {
        "verdict": PASS if holds else FAIL,
        "value": value,
        "lower": lower,
        "upper": upper,
        "requirement": requirement,
        "detail": detail,
    }
