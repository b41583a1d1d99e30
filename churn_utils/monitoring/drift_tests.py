"""Statistics of drift: how far features, scores and labels moved, and which features matter.

Sources: population stability index (PSI), N. Siddiqi, Credit Risk Scorecards, 2006; its
distribution by chance, B. Yurdakul, Statistical Properties of Population Stability Index, 2018;
effect sizes d and h, J. Cohen, Statistical Power Analysis, 1988.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from churn_utils.errors import DataError
from churn_utils.features import definitions, model_inputs

SCORE = "champion_score"  # the prediction, where it is measured beside the features
PSI_BINS = 10


def measure_shift(current: pd.DataFrame, reference: pd.DataFrame) -> pd.DataFrame:
    """Measure how far model inputs, and ``SCORE`` where both sides have it, moved from a reference.

    Returns:
        Index ``feature``, columns ``psi`` (over the reference's deciles, or the categories),
        ``psi_beyond_chance`` (less what two samples of these sizes from one population show at
        most, not below 0) and ``effect_size`` (Cohen's d for numbers; for categories the largest
        change of a share).

    Raises:
        DataError: no rows on one side.
    """
    if current.empty or reference.empty:
        raise DataError(
            f"a shift needs rows: {len(current)} now, {len(reference)} in the reference."
        )
    table = {}
    for name in [*definitions.MODEL_INPUTS, SCORE]:
        if name in current and name in reference:
            table[name] = _measure_column(current[name], reference[name])
    return pd.DataFrame(table).T.rename_axis("feature")


def _measure_column(now: pd.Series, then: pd.Series) -> dict[str, float]:
    """Return ``psi, psi_beyond_chance, effect_size`` of one column."""
    if pd.api.types.is_numeric_dtype(then):
        counts_now, counts_then = _count_by_decile(now, then)
        effect = _cohens_d(now, then)
    else:
        counts_now, counts_then = _count_by_category(now, then)
        change = counts_now / len(now) - counts_then / len(then)
        effect = change[np.abs(change).argmax()]
    psi = compute_psi(counts_now, counts_then)
    chance = compute_psi_of_chance(counts_now, counts_then)
    return {
        "psi": psi,
        "psi_beyond_chance": max(0.0, psi - chance),
        "effect_size": float(effect),
    }


def _count_by_decile(now: pd.Series, then: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Return both columns' counts in bins whose edges are the deciles of ``then``."""
    shares = np.linspace(0, 1, PSI_BINS + 1)[1:-1]
    deciles = np.quantile(then, shares)
    edges = np.unique(deciles)
    bins = len(edges) + 1
    bin_now = np.searchsorted(edges, now)
    bin_then = np.searchsorted(edges, then)
    counts_now = np.bincount(bin_now, minlength=bins)
    counts_then = np.bincount(bin_then, minlength=bins)
    return counts_now, counts_then


def _count_by_category(now: pd.Series, then: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Return both columns' counts of every value that stands in either."""
    values = sorted(set(now.unique()) | set(then.unique()))
    counts_now = now.value_counts().reindex(values, fill_value=0)
    counts_then = then.value_counts().reindex(values, fill_value=0)
    return counts_now.to_numpy(), counts_then.to_numpy()


def _cohens_d(now: pd.Series, then: pd.Series) -> float:
    """Return the difference of means in pooled standard deviations; 0 for constants."""
    variance = (now.var() + then.var()) / 2
    spread = np.sqrt(variance)
    difference = now.mean() - then.mean()
    return difference / spread if spread > 0 else 0.0


def compute_psi(counts_now: np.ndarray, counts_then: np.ndarray) -> float:
    """Return the PSI, sum of (a - b) * ln(a / b) over the bins' shares a (now) and b (then)."""
    bins = len(counts_now)
    # Half a row is added to each bin: an empty one would be infinitely far.
    rows_now = counts_now.sum() + bins / 2
    rows_then = counts_then.sum() + bins / 2
    now = (counts_now + 0.5) / rows_now
    then = (counts_then + 0.5) / rows_then
    distance = (now - then) * np.log(now / then)
    return float(distance.sum())


def compute_psi_of_chance(counts_now: np.ndarray, counts_then: np.ndarray) -> float:
    """Return the PSI that two samples of one population stay below in about 19 of 20 cases.

    Their PSI is distributed as (1/n + 1/m) times chi-squared with bins - 1 degrees of freedom
    (Yurdakul 2018); this is its mean and two standard deviations.
    """
    freedom = len(counts_now) - 1
    scale = 1 / counts_now.sum() + 1 / counts_then.sum()
    deviation = np.sqrt(2 * freedom)
    return scale * (freedom + 2 * deviation)


def measure_label_shift(
    churned: pd.Series, reference: pd.Series, weights: np.ndarray | None = None
) -> pd.DataFrame:
    """Compare the churn rate of a labelled window with that of the champion's training data.

    Args:
        churned: labels of the window, missing where unknown.
        reference: labels that the champion was trained on.
        weights: what each label of the window counts; 1 when not given.

    Returns:
        ``metric, value, lower, upper, rows_labelled``: ``churn_rate`` (95 % interval, normal
        approximation) and ``effect_size.churned`` (Cohen's h, the difference of arcsine-transformed
        rates). Values are missing without labels.
    """
    is_known = churned.notna().to_numpy()
    known = churned[is_known].astype(float)
    counts = np.ones(len(known)) if weights is None else weights[is_known]
    # NaN without labels, as is all that follows from it
    now = np.average(known, weights=counts) if len(known) else np.nan
    then = reference.astype(float).mean()
    rows = counts.sum() ** 2 / (counts**2).sum() if len(known) else np.nan  # Kish's effective size
    half = 1.96 * np.sqrt(now * (1 - now) / rows)
    effect = 2 * np.arcsin(np.sqrt(now)) - 2 * np.arcsin(np.sqrt(then))
    table = {
        "metric": ["churn_rate", "effect_size.churned"],
        "value": [now, effect],
        "lower": [now - half, np.nan],
        "upper": [now + half, np.nan],
    }
    return pd.DataFrame(table).assign(rows_labelled=len(known))


def list_shift_metrics(shift: pd.DataFrame) -> pd.DataFrame:
    """Turn what ``measure_shift`` returns into metrics.

    Returns:
        ``metric`` (``psi.<feature>``, ``psi_beyond_chance.<feature>``, ``effect_size.<feature>``),
        ``value, lower, upper`` (missing), ``rows_labelled`` (0).
    """
    table = shift.reset_index().melt("feature", var_name="measure")
    metric = table["measure"] + "." + table["feature"]
    return table.assign(metric=metric, lower=np.nan, upper=np.nan, rows_labelled=0)


def measure_feature_reliance(
    model, rows: pd.DataFrame, seed: int = 0, sample: int = 1000
) -> pd.Series:
    """Measure how much a model relies on each feature: how far its output moves without it.

    Each feature is shuffled in turn. No label is needed: the model is measured, not the data. Of
    ``rows``, model inputs, at most ``sample`` are used.

    Returns:
        Share of each feature in the sum of the mean absolute changes of the probability; index
        ``feature``; sums to 1.
    """
    sampled = rows.sample(min(sample, len(rows)), random_state=seed)
    inputs = model_inputs.select_model_inputs(sampled, model_inputs.inputs_of(model))
    generator = np.random.default_rng(seed)
    shuffled = []
    for name in inputs:
        values = generator.permutation(inputs[name].to_numpy())
        shuffled.append(inputs.assign(**{name: values}))
    base = model.predict_proba(inputs)[:, 1]
    stacked = pd.concat(shuffled, ignore_index=True)  # one call is faster than one per feature
    changed = model.predict_proba(stacked)[:, 1].reshape(len(shuffled), -1)
    moved = np.abs(changed - base).mean(axis=1)
    total = sum(moved.tolist())
    reliance = pd.Series(moved, index=inputs.columns, name="reliance")
    return reliance.rename_axis("feature") / (total or 1.0)
