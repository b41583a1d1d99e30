"""Check that a challenger beats the champion: the rule that decides about a promotion."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from churn_utils.evaluation import bootstrap
from churn_utils.validation.challenger import Challenger
from churn_utils.validation.finding import Finding

# How much worse on one measure a challenger may be when it wins on the other.
MARGINS = {"roc_auc": 0.01, "value_usd": 15.0}
ERROR_RATE = 0.05  # of a promotion by chance, over both measures together


@dataclass(frozen=True)
class PairedComparison:
    """The gate's rule applied to challenger less champion.

    Attributes:
        wins: measures on which the challenger is clearly better.
        is_harmless: whether it is clearly worse on no measure.
        intervals: 95 % intervals; index measure, columns ``lower, upper``.
    """

    wins: list[str]
    is_harmless: bool
    intervals: pd.DataFrame

    @property
    def beats_champion(self) -> bool:
        """Whether the challenger may take over."""
        return bool(self.wins) and self.is_harmless


def check_champion(challenger: Challenger) -> Finding:
    """It clearly beats the champion on ROC AUC or on USD and is not clearly worse on the other.

    Protects from a change for nothing: "too close to call" keeps the champion. Each model decides
    by its own threshold, and both are valued under the costs that hold now.
    """
    samples = challenger.samples
    difference = samples["challenger"] - samples["champion"]
    comparison = compare_paired(difference)
    auc_lower, auc_upper = comparison.intervals.loc["roc_auc", ["lower", "upper"]]
    usd_lower, usd_upper = comparison.intervals.loc["value_usd", ["lower", "upper"]]
    detail = (
        f"against version {challenger.champion}: ROC AUC {difference['roc_auc'].mean():+.4f} "
        f"[{auc_lower:+.4f}, {auc_upper:+.4f}], {len(challenger.rows)} rows; "
        f"wins on {', '.join(comparison.wins) or 'nothing'}"
    )
    requirement = (
        "clearly better in ROC AUC or USD; "
        f"neither below -{MARGINS['roc_auc']}, -{MARGINS['value_usd']:.0f} USD"
    )
    gain_usd = difference["value_usd"].mean()
    return Finding.of(
        comparison.beats_champion, requirement, detail, gain_usd, usd_lower, usd_upper
    )


def compare_paired(difference: pd.DataFrame) -> PairedComparison:
    """Apply the rule of the gate to the paired bootstrap, challenger less champion.

    There are two routes to a promotion, so each must be won at half the error rate (Bonferroni).

    Args:
        difference: one row per draw; columns ``roc_auc, value_usd``, and others that do not decide.
    """
    corrected = bootstrap.interval(difference, level=1 - ERROR_RATE / len(MARGINS))
    plain = bootstrap.interval(difference, level=1 - ERROR_RATE)
    wins = [measure for measure in MARGINS if corrected.loc[measure, "lower"] > 0]
    is_harmless = all(plain.loc[measure, "lower"] > -margin for measure, margin in MARGINS.items())
    return PairedComparison(wins, is_harmless, plain)
