"""A challenger as the gate sees it: its record, the rows that decide about it, what it answers on them."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from churn_utils import deployments, evaluation, feature_store, isolation, lineage, registry, scoring

PASS, FAIL, NOT_EVALUATED = "pass", "fail", "not_evaluated"
ANSWER_SECONDS = 60.0  # that a challenger may take over all of its questions; a sound one takes one or two


@dataclass(frozen=True)
class Candidate:
    """A challenger on the rows that decide about it; parts are computed when a check first asks for them."""

    version: int
    as_of: pd.Timestamp
    since: pd.Timestamp | None
    draws: int
    seed: int
    ask: str = "churn_utils.probing:ask"  # what questions it in its own process
    seconds: float = ANSWER_SECONDS

    def __post_init__(self) -> None:
        """Start the process that will question it; the imports take as long as a refit."""
        isolation.start()

    @cached_property
    def info(self) -> dict:
        """Registry entry of the challenger."""
        return registry.read_version(self.version)

    @cached_property
    def economics(self):
        """Economics that it was trained for."""
        return scoring.read_economics(self.version)

    @cached_property
    def champion(self) -> int | None:
        """Champion in effect, None when there is none or it is this very version."""
        found = deployments.champion_at(self.as_of)
        return None if found == self.version else found

    @cached_property
    def labelled(self) -> pd.DataFrame:
        """Every row labelled by ``as_of``, from ``since`` on."""
        return feature_store.build_training_set(self.as_of, since=self.since)

    @cached_property
    def rows(self) -> pd.DataFrame:
        """Its test rows."""
        return feature_store.training_rows(self.labelled, "test")

    @cached_property
    def learned(self) -> pd.DataFrame:
        """The rows that it was trained on, by its record."""
        return feature_store.training_rows(lineage.read_training_set(self.version), "train")

    @cached_property
    def questioning(self) -> Future:
        """It is being asked, in a process of its own (``probing.ask``), on ``rows`` and then on ``learned``; once."""
        asked = pd.concat([self.rows, self.learned], ignore_index=True)
        return isolation.submit(self.ask, self.version, asked, len(self.rows), seconds=self.seconds)

    @cached_property
    def answers(self) -> dict:
        """What it answered.

        Raises:
            IsolationError: it raised, hung, or its process died: this time and, without asking again, every other.
        """
        return self.questioning.result()

    @cached_property
    def probability(self) -> np.ndarray:
        """The challenger's probabilities on ``rows``."""
        return self.answers["probability"][: len(self.rows)]

    @cached_property
    def learned_probability(self) -> np.ndarray:
        """The challenger's probabilities on the rows that it was trained on."""
        return self.answers["probability"][len(self.rows) :]

    @cached_property
    def refitted(self) -> np.ndarray:
        """Probabilities on ``rows`` of a model trained again from the challenger's record alone.

        It is asked meanwhile: that takes as long, on another core.
        """
        _ = self.questioning
        return scoring.predict_probability(lineage.refit(self.version), self.rows)

    @cached_property
    def champion_probability(self) -> np.ndarray:
        """The champion's probabilities on the same rows."""
        return scoring.predict_probability(scoring.load_model(self.champion), self.rows)

    @cached_property
    def samples(self) -> dict[str, pd.DataFrame]:
        """Bootstrap metrics over customers, paired where there is a champion."""
        models = {"challenger": self.probability}
        if self.champion is not None:
            models["champion"] = self.champion_probability
        return evaluation.bootstrap_metrics(
            self.rows["churned"], models, self.rows["customer_id"], self.economics, self.draws, self.seed
        )

    @cached_property
    def weights(self) -> np.ndarray:
        """Bootstrap weights over customers, shape (draws, rows)."""
        return evaluation.resample(self.rows["customer_id"], self.draws, self.seed)

    def with_probability(self, probability: np.ndarray, draws: int | None = None) -> Candidate:
        """The same challenger, had it given these probabilities to ``rows``; with other ``draws`` if need be."""
        impostor = replace(self, draws=draws or self.draws)
        changed = {"probability", "samples", "weights", "draws"}
        kept = {name: value for name, value in self.__dict__.items() if name not in changed}
        impostor.__dict__.update(kept, probability=np.asarray(probability))  # fills the cached properties
        return impostor


def make_finding(holds: bool, requirement: str, detail: str, value=None, lower=None, upper=None) -> dict:
    """One check's verdict with its evidence; ``value, lower, upper`` where there is a number behind it."""
    return {
        "verdict": PASS if holds else FAIL, "value": value, "lower": lower, "upper": upper,
        "requirement": requirement, "detail": detail,
    }  # fmt: skip
