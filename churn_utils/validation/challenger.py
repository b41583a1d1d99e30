"""The challenger as the gate sees it: its record, the rows that decide, its predictions on them."""

from __future__ import annotations

import copy
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from churn_utils.errors import ChurnError, DataError
from churn_utils.evaluation import bootstrap
from churn_utils.evaluation.bootstrap import ScoredRows
from churn_utils.evaluation.economics import Economics
from churn_utils.features import offers, offline
from churn_utils.inference import scoring
from churn_utils.registry import artifacts, deployments, lineage, versions
from churn_utils.registry.versions import ModelVersion
from churn_utils.validation import isolation
from churn_utils.validation.behaviour_probes import ProbeResults

# Limits of CPU time in seconds. A sound challenger needs one or two for its probes, and one or two
# for each 5,000 rows of its refit.
PROBE_SECONDS = 60.0
REFIT_SECONDS = 300.0
BOOTSTRAP = (
    "samples",
    "weights",
    "row_weights",
)  # parts that follow from predictions, rows and draws


@dataclass(eq=False)
class Challenger:
    """A challenger on the rows that decide about it; each part is computed when first needed."""

    version: int
    as_of: pd.Timestamp  # only labels that had arrived by this simulated date count
    since: pd.Timestamp | None = None  # only labels of months from this date on
    draws: int = 2000  # of the bootstrap
    seed: int = 0
    economics: Economics = Economics()  # costs that hold now, whatever it was trained for
    probes: str = "churn_utils.validation.behaviour_probes:run_behaviour_probes"
    probe_seconds: float = PROBE_SECONDS

    def __post_init__(self) -> None:
        """Start the isolated process: its imports take as long as a refit."""
        isolation.server.start()

    def with_parts(self, **parts) -> Challenger:
        """Return a copy with other values of some attributes, such as ``probability``.

        What was computed is kept, apart from the bootstrap, which follows from the rest.

        Raises:
            AttributeError: a challenger has no such attribute.
        """
        other = copy.copy(self)
        for name in BOOTSTRAP:
            vars(other).pop(name, None)
        for name, value in parts.items():
            if not hasattr(type(self), name) and name not in self.__dataclass_fields__:
                raise AttributeError(f"a challenger has no attribute {name!r}.")
            setattr(other, name, value)
        return other

    @cached_property
    def info(self) -> ModelVersion:
        """Registry entry of the challenger."""
        return versions.read_version(self.version)

    @cached_property
    def champion(self) -> int | None:
        """Champion in effect, or the one before it if this version is in effect; None without."""
        found = deployments.champion_at(self.as_of)
        if found == self.version:
            return deployments.predecessor_at(self.as_of)
        return found

    @cached_property
    def champion_info(self) -> ModelVersion:
        """Registry entry of the champion.

        Raises:
            DataError: there is no champion.
        """
        if self.champion is None:
            raise DataError("there is no champion to compare with.")
        return versions.read_version(self.champion)

    @cached_property
    def labelled(self) -> pd.DataFrame:
        """Training set of all rows labelled by ``as_of``, from ``since`` on."""
        return offline.build_training_set(self.as_of, since=self.since)

    @cached_property
    def inputs(self) -> list[str]:
        """Model inputs of the challenger, by its record."""
        return artifacts.read_inputs(self.version)

    @cached_property
    def rows(self) -> pd.DataFrame:
        """Test rows of ``labelled`` with all inputs of challenger and champion: they decide."""
        inputs = list(self.inputs)
        if self.champion is not None:
            inputs += artifacts.read_inputs(self.champion)
        return offline.training_rows(self.labelled, "test", dict.fromkeys(inputs))

    @cached_property
    def learned(self) -> pd.DataFrame:
        """Rows that the challenger was trained on by its record, with the columns of ``rows``."""
        return offline.training_rows(lineage.read_training_set(self.version), "train", self.inputs)

    @cached_property
    def probe_future(self) -> Future[ProbeResults]:
        """Results of the probes, which run in the background on ``rows`` and ``learned``, once."""
        probed = pd.concat([self.rows, self.learned], ignore_index=True)
        future = isolation.server.submit(
            self.probes, self.version, probed, len(self.rows), seconds=self.probe_seconds
        )
        _ = self.refit_future  # queued behind the probes; meanwhile other checks are computed here
        return future

    @cached_property
    def refit_future(self) -> Future[np.ndarray]:
        """Result of the refit, which runs in the background: a record may ask for years of work."""
        return isolation.server.submit(
            "churn_utils.validation.behaviour_probes:refit",
            self.version,
            self.rows,
            seconds=REFIT_SECONDS,
        )

    @cached_property
    def probe_results(self) -> ProbeResults:
        """Results of the probes.

        Raises:
            IsolationError: the challenger raised, hung, or ended its process. The probes do not run
                a second time: each later access raises the same error.
        """
        return self.probe_future.result()

    @cached_property
    def probability(self) -> np.ndarray:
        """Predicted churn probability of each row of ``rows``, shape (n,).

        Raises:
            DataError: the challenger returned another number of probabilities than of rows.
        """
        predicted = self.probe_results.probability
        expected = len(self.rows) + len(self.learned)
        if len(predicted) != expected:
            raise DataError(
                f"{expected} probabilities were asked for, {len(predicted)} were given."
            )
        return predicted[: len(self.rows)]

    @cached_property
    def learned_probability(self) -> np.ndarray:
        """Predicted churn probability of each row of ``learned``, shape (n,)."""
        return self.probe_results.probability[len(self.rows) :]

    @cached_property
    def refitted_probability(self) -> np.ndarray:
        """Probabilities on ``rows`` of a model that was trained again from the record alone."""
        return self.refit_future.result()  # IsolationError where it cannot be trained in time

    def has_probe_results(self) -> bool:
        """Tell whether the probes ran to their end."""
        try:
            _ = self.probe_results
        except Exception:  # noqa: BLE001 - the checks that need the results report what went wrong
            return False
        return True

    def has_predictions(self) -> bool:
        """Tell whether there are rows to decide on, with a probability for each of them."""
        try:
            return len(self.probability) > 0
        except ChurnError:
            return False

    def scored_rows(self) -> ScoredRows:
        """Return ``rows`` with the challenger's probabilities."""
        return ScoredRows(
            self.rows["churned"], self.probability, self.rows["customer_id"], self.row_weights
        )

    @cached_property
    def row_weights(self) -> np.ndarray | None:
        """What each row of ``rows`` counts, shape (n,); None where each counts once."""
        return offers.sample_weights(self.rows)

    @cached_property
    def champion_probability(self) -> np.ndarray:
        """The champion's probability of each row of ``rows``, shape (n,)."""
        return scoring.predict_probability(scoring.load_model(self.champion_info), self.rows)

    @cached_property
    def champion_threshold(self) -> float:
        """The champion's threshold, from the costs that it was trained for: it decides by these."""
        return self.champion_info.threshold

    @property
    def treated(self) -> np.ndarray:
        """Whether the challenger makes the offer to each row of ``rows``, under today's costs."""
        threshold = self.economics.threshold
        return self.probability >= threshold

    @cached_property
    def samples(self) -> dict[str, pd.DataFrame]:
        """Bootstrap metrics over customers of ``challenger`` and, if there is one, ``champion``.

        One row for each draw, columns ``metrics.METRICS``; both models are drawn in pairs.
        """
        probabilities = {"challenger": self.probability}
        thresholds = {}
        if self.champion is not None:
            probabilities["champion"] = self.champion_probability
            thresholds["champion"] = self.champion_threshold
        return bootstrap.bootstrap_metrics(
            self.rows["churned"],
            probabilities,
            self.rows["customer_id"],
            self.economics,
            self.draws,
            self.seed,
            thresholds,
            self.row_weights,
        )

    @cached_property
    def weights(self) -> np.ndarray:
        """Bootstrap weights over customers, times what each row counts, shape (draws, rows)."""
        drawn = bootstrap.resample(self.rows["customer_id"], self.draws, self.seed)
        return bootstrap.weigh(drawn, self.row_weights)
