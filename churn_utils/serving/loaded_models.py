"""Versions that are loaded and ready to score, and the set of them that serves."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import datetime

from churn_utils import settings
from churn_utils.errors import ModelError
from churn_utils.evaluation.economics import NO_OFFER, OFFER, Economics, decide
from churn_utils.features import definitions, model_inputs
from churn_utils.features.offer_policy import TREATED, OfferPolicy
from churn_utils.inference import compiled, scoring
from churn_utils.registry import versions
from churn_utils.registry.versions import ModelVersion
from churn_utils.serving import ab_test
from churn_utils.serving.ab_test import CHALLENGER, CHAMPION, SHADOW, AbTest

CACHED_VERSIONS = 8  # so that rollbacks and receipts need not load them again


@dataclass(frozen=True)
class LoadedModel:
    """A version that is loaded, compiled, compared with its model and ready to score."""

    version: int
    predict_probability: compiled.Scorer  # model inputs of one customer to a probability
    economics: Economics  # costs that it was trained for
    threshold: float  # probability from which an offer pays under these costs
    trained_as_of: str  # simulated date of the training, YYYY-MM-DD
    family: str  # such as lightgbm
    registered_at: datetime  # in UTC
    positions: tuple[int, ...]  # of its inputs among all; a version may be older than a feature

    def can_score(self, inputs: tuple) -> bool:
        """Tell whether a customer's model inputs hold all those of this version."""
        if None not in inputs:
            return True
        return all(inputs[position] is not None for position in self.positions)

    def score(self, inputs: tuple) -> tuple[float, float, str, float]:
        """Score the model inputs of one customer, in the order of ``MODEL_INPUTS``.

        Returns:
            Churn probability, threshold, decision and expected value of an offer in USD: a plain
            tuple, because this is the hot path.
        """
        probability = self.predict_probability(inputs)
        decision, expected_value_usd = decide(probability, self.economics)
        return probability, self.threshold, decision, expected_value_usd


@dataclass(frozen=True)
class LoadedModels:
    """The champion, and the challenger of a running A/B test; only replaced as a whole."""

    champion: LoadedModel
    approved_by: str  # the approver of its promotion
    challenger: LoadedModel | None = None
    ab_test: AbTest | None = None
    offer_policy: OfferPolicy | None = None  # None where no offers are made

    def assign_group(self, customer_id: str, decision: str, arm: str) -> tuple[str, str | None]:
        """Leave the control group out of offers.

        Returns:
            The decision, which is ``no_offer`` for the control group, and the customer's group;
            None where no offers are made, and of a shadow's decision, which is not carried out.
        """
        if self.offer_policy is None or arm == SHADOW:
            return decision, None
        group = self.offer_policy.assign(customer_id, decision == OFFER)
        return (OFFER if group == TREATED else NO_OFFER), group

    @property
    def shadow(self) -> LoadedModel | None:
        """The challenger, if it scores every customer without being returned.

        It is None without an A/B test, and in a split.
        """
        if self.ab_test is None or self.ab_test.mode != ab_test.SHADOW:
            return None
        return self.challenger

    def choose(self, customer_id: str) -> tuple[LoadedModel, str]:
        """Return the model that serves a customer, and its arm."""
        running = self.ab_test
        if running is None or running.mode == ab_test.SHADOW or self.challenger is None:
            return self.champion, CHAMPION
        if running.includes(customer_id):
            return self.challenger, CHALLENGER
        return self.champion, CHAMPION

    def list_arms(self) -> dict[str, int]:
        """Return the version of each arm: ``champion``, and ``challenger`` or ``shadow``."""
        arms = {CHAMPION: self.champion.version}
        if self.challenger is not None:
            arms[SHADOW if self.shadow else CHALLENGER] = self.challenger.version
        return arms


class ModelCache:
    """Loads versions and keeps the last few.

    A number does not identify a version, because a new home counts from 1 again. So the key is
    number and training run.
    """

    def __init__(self) -> None:
        """Start empty."""
        self._models: dict[tuple[int, str], LoadedModel] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Return the number of versions that are kept."""
        return len(self._models)

    def load(self, version: int) -> LoadedModel:
        """Return a version from the cache; else load, compile and compare it.

        Raises:
            ModelError: this home has no registry, or no such version in it.
            ModelError: there is no compiled form, or it differs from the model.
        """
        if not settings.mlflow_database().exists():  # MLflow would create an empty one
            raise ModelError(f"there is no registry in {settings.mlflow_folder()}.")
        with self._lock:
            info = versions.read_version(version)
            key = (version, info.run_id)
            if key not in self._models:
                loaded = _load(info)
                while len(self._models) >= CACHED_VERSIONS:
                    oldest = next(iter(self._models))
                    del self._models[oldest]
                self._models[key] = loaded
            return self._models[key]

    def clear(self) -> None:
        """Drop every version."""
        with self._lock:
            self._models.clear()


def _load(info: ModelVersion) -> LoadedModel:
    predict_probability = compiled.load_compiled(info)  # refuses inputs that are not defined
    order = list(definitions.MODEL_INPUTS)
    inputs = model_inputs.inputs_of(scoring.load_model(info))
    return LoadedModel(
        version=info.version,
        predict_probability=predict_probability,
        economics=info.economics,
        threshold=info.threshold,
        trained_as_of=info.params.get("as_of", ""),
        family=info.params.get("family", ""),
        registered_at=info.registered_at,
        positions=tuple(order.index(name) for name in inputs),
    )
