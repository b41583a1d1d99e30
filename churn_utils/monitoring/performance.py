"""How the champion does: metrics per window once labels arrive, an estimate before, and how far the data moved.

Pure functions over frames. Everything that goes into the table ``monitoring_metrics`` is a long frame with ``COLUMNS``.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pandas as pd

from churn_utils.errors import DataError
from churn_utils.evaluation import bootstrap
from churn_utils.evaluation import metrics as model_metrics
from churn_utils.evaluation.economics import Economics
from churn_utils.features import definitions
from churn_utils.features.definitions import SLICES

COLUMNS = [
    "as_of_date",
    "window",
    "model_version",
    "slice",
    "metric",
    "value",
    "lower",
    "upper",
    "rows",
    "rows_labelled",
]
METRICS = [*model_metrics.METRICS, "loss_usd"]
ALL = "all"
SCORE = "champion_score"  # the prediction, where it is measured beside the features
MIN_LABELLED = 50  # fewer labelled rows give no interval worth the name
PSI_BINS = 10


def join_labels(
    predictions: pd.DataFrame, labels: pd.DataFrame, as_of: pd.Timestamp
) -> pd.DataFrame:
    """Join predictions with the labels that had arrived by ``as_of``.

    Args:
        predictions: ``customer_id, snapshot_date`` and anything else; none is dropped.
        labels: rows of ``churn_labels``.
        as_of: labels that arrived later are not looked at.

    Returns:
        The predictions in their order with ``churned``: 1.0, 0.0, or missing where no label is known yet.

    Raises:
        DataError: two labels for the same customer and snapshot.
    """
    key = ["customer_id", "snapshot_date"]
    known = labels.loc[labels["label_date"] <= as_of, [*key, "churned"]].astype(
        {"churned": "float64"}
    )
    doubles = known.duplicated(key)
    if doubles.any():
        example = known.loc[doubles, key].iloc[0].to_dict()
        raise DataError(
            f"{doubles.sum()} label(s) repeat a customer and snapshot, such as {example}; drop the doubles first."
        )
    joined = predictions.drop(columns="churned", errors="ignore").merge(known, on=key, how="left")
    return joined.set_axis(predictions.index)


def measure_performance(
    scored: pd.DataFrame,
    as_of: pd.Timestamp,
    window: str,
    economics: Economics,
    draws: int = 500,
    seed: int = 0,
) -> pd.DataFrame:
    """Measure every model version of a window, over all customers and by slice, with 95 % bootstrap intervals.

    Args:
        scored: as ``join_labels`` returns it: ``customer_id, model_version, churn_probability, churned`` and, for
            slices, the columns in ``SLICES`` (those that are missing are left out).
        as_of: date that the figures are known at.
        window: name of the window, such as ``2025-04``.
        economics: gives the threshold and the value of a decision.
        draws: of the bootstrap, over customers.
        seed: of the bootstrap.

    Returns:
        Rows with ``COLUMNS``: ``METRICS`` for each version and slice. Only labelled rows enter a metric;
        where they are fewer than ``MIN_LABELLED`` or all alike, the values are missing and the counts are there.
    """
    parts = []
    for version, rows in scored.groupby("model_version"):
        for name, part in _slices(rows):
            table = _measure_rows(part.dropna(subset=["churned"]), economics, draws, seed)
            stamp = {"window": window, "model_version": version, "slice": name, "rows": len(part)}
            parts.append(table.assign(**stamp, rows_labelled=int(part["churned"].notna().sum())))
    return _long(parts, as_of)


def _slices(rows: pd.DataFrame):
    yield ALL, rows
    for column in SLICES:
        if column in rows:
            for group, part in rows.groupby(column):
                yield f"{column}={group}", part


def _measure_rows(rows: pd.DataFrame, economics: Economics, draws: int, seed: int) -> pd.DataFrame:
    if len(rows) < MIN_LABELLED or rows["churned"].nunique() < 2:
        return pd.DataFrame({"metric": METRICS, "value": np.nan, "lower": np.nan, "upper": np.nan})
    churned, probability = rows["churned"].to_numpy(), rows["churn_probability"].to_numpy()
    drawn = bootstrap.resample(rows["customer_id"], draws, seed)
    weights = bootstrap.with_all_rows_first(drawn)
    table = _metrics(churned, probability, economics, weights)
    return bootstrap.summarize_draws(table).rename_axis("metric").reset_index()


def _metrics(
    churned: np.ndarray, probability: np.ndarray, economics: Economics, weights: np.ndarray
) -> pd.DataFrame:
    """``evaluation``'s metrics and ``loss_usd``: USD per customer less than with every churner known in advance."""
    rate = weights @ churned / weights.sum(axis=1)
    table = model_metrics.score_metrics(churned, probability, economics, weights)
    known = rate * (economics.churner_value_usd - economics.offer_cost_usd)
    return table.assign(loss_usd=known - table["value_usd"])


def _long(parts: list[pd.DataFrame], as_of: pd.Timestamp) -> pd.DataFrame:
    if not parts:
        return pd.DataFrame(columns=COLUMNS)
    return pd.concat(parts, ignore_index=True).assign(as_of_date=as_of)[COLUMNS]


def estimate_performance(
    scored: pd.DataFrame,
    as_of: pd.Timestamp,
    window: str,
    economics: Economics,
    draws: int = 200,
    seed: int = 0,
) -> pd.DataFrame:
    """Estimate a window's performance before any label, from the calibrated probabilities alone.

    Confidence-based: a row with probability p counts as p of a churner and 1 - p of a customer who stays. The
    interval is that of 95 % of the outcomes which such probabilities would draw. It holds as long as the model is
    calibrated; a concept that changed is exactly what it cannot see, so compare it with the labels when they come.

    Args:
        scored: ``model_version, churn_probability``; labels, if there are any, are not looked at.
        as_of, window, economics, seed: as for ``measure_performance``.
        draws: of labels.

    Returns:
        Rows with ``COLUMNS``: metrics named ``estimated_roc_auc``, ``estimated_value_usd`` and so on; calibration
        error has none, it is 0 by assumption. ``rows_labelled`` is 0: none was used.
    """
    parts = []
    for version, rows in scored.groupby("model_version"):
        table = _estimate_rows(rows["churn_probability"].to_numpy(), economics, draws, seed)
        parts.append(
            table.assign(
                window=window, model_version=version, slice=ALL, rows=len(rows), rows_labelled=0
            )
        )
    return _long(parts, as_of)


def _estimate_rows(p: np.ndarray, economics: Economics, draws: int, seed: int) -> pd.DataFrame:
    drawn = np.random.default_rng(seed).random((draws, len(p))) < p
    share = np.vstack(
        [p, drawn]
    )  # every row stands twice, as churner and as one who stays, with these weights
    both = np.r_[np.ones(len(p)), np.zeros(len(p))]
    table = _metrics(both, np.r_[p, p], economics, np.hstack([share, 1 - share])).drop(
        columns="calibration_error"
    )
    bounds = bootstrap.interval(table.iloc[1:].dropna())
    table = bounds.assign(value=table.iloc[0]).rename_axis("metric").reset_index()
    return table.assign(metric="estimated_" + table["metric"])


def compare_estimate(metrics: pd.DataFrame) -> pd.DataFrame:
    """Hold the estimates made before labels against what the labels said.

    Args:
        metrics: rows of ``monitoring_metrics``.

    Returns:
        ``window, model_version, metric, estimated, lower, upper, realised, inside`` (whether the labels fell into
        the estimate's interval), for windows that have both.
    """
    key, total = (
        ["window", "model_version", "metric"],
        metrics[metrics["slice"] == ALL].sort_values("as_of_date"),
    )
    guessed = total["metric"].str.startswith("estimated_")
    before = total[guessed].assign(
        metric=lambda rows: rows["metric"].str.removeprefix("estimated_")
    )
    before = before.drop_duplicates(key).rename(
        columns={"value": "estimated"}
    )  # the first one was the forecast
    after = total[~guessed & total["value"].notna()].drop_duplicates(key, keep="last")
    both = before[[*key, "estimated", "lower", "upper"]].merge(
        after[[*key, "value"]].rename(columns={"value": "realised"}), on=key
    )
    return both.assign(inside=both["realised"].between(both["lower"], both["upper"]))


def measure_shift(current: pd.DataFrame, reference: pd.DataFrame) -> pd.DataFrame:
    """Measure how far each column moved from the reference, as effects that do not grow with the number of rows.

    Args:
        current: model inputs, and ``SCORE`` if the champion's probabilities are to be compared as well.
        reference: the same columns for the champion's training data.

    Returns:
        Index ``feature``: ``psi`` (population stability index over the reference's deciles or the categories),
        ``psi_beyond_chance`` (less what two samples of these sizes from the same world show at most, not below 0)
        and ``effect_size`` (Cohen's d for numbers; for categories the largest change of a share).

    Raises:
        DataError: no rows on one side.
    """
    if current.empty or reference.empty:
        raise DataError(
            f"a shift needs rows: {len(current)} now, {len(reference)} in the reference."
        )
    names = [
        name for name in [*definitions.MODEL_INPUTS, SCORE] if name in current and name in reference
    ]
    table = [{"feature": name, **_shift(current[name], reference[name])} for name in names]
    return pd.DataFrame(table).set_index("feature")


def _shift(now: pd.Series, then: pd.Series) -> dict:
    if pd.api.types.is_numeric_dtype(then):
        edges = np.unique(np.quantile(then, np.linspace(0, 1, PSI_BINS + 1)[1:-1]))
        counts = [
            np.bincount(np.searchsorted(edges, s), minlength=len(edges) + 1) for s in (now, then)
        ]
        spread = np.sqrt((now.var() + then.var()) / 2)
        effect = (now.mean() - then.mean()) / spread if spread > 0 else 0.0
    else:
        values = sorted(set(now.unique()) | set(then.unique()))
        counts = [s.value_counts().reindex(values, fill_value=0).to_numpy() for s in (now, then)]
        change = counts[0] / len(now) - counts[1] / len(then)
        effect = change[np.abs(change).argmax()]
    bins = len(counts[0])
    a, b = (
        (c + 0.5) / (c.sum() + bins / 2) for c in counts
    )  # half a row: an empty bin is not infinitely far
    psi = float(((a - b) * np.log(a / b)).sum())
    # PSI of two samples of one world is chi-squared with bins - 1 degrees of freedom, times this (Yurdakul 2018)
    chance = (1 / len(now) + 1 / len(then)) * (bins - 1 + 2 * np.sqrt(2 * (bins - 1)))
    return {"psi": psi, "psi_beyond_chance": max(0.0, psi - chance), "effect_size": float(effect)}


def measure_use(model, rows: pd.DataFrame, seed: int = 0, sample: int = 1000) -> pd.Series:
    """Measure what a model really uses: how far its probabilities move when a feature is shuffled.

    It needs no labels, and it asks the model and not the world.

    Returns:
        Share of each feature in the sum of mean absolute changes; index feature, sums to 1.
    """
    inputs = definitions.select_model_inputs(rows.sample(min(sample, len(rows)), random_state=seed))
    base, generator = model.predict_proba(inputs)[:, 1], np.random.default_rng(seed)
    shuffled = [
        inputs.assign(**{name: generator.permutation(inputs[name].to_numpy())}) for name in inputs
    ]
    changed = model.predict_proba(pd.concat(shuffled, ignore_index=True))[:, 1].reshape(
        len(shuffled), -1
    )
    moved = dict(zip(inputs.columns, np.abs(changed - base).mean(axis=1), strict=True))
    total = sum(moved.values())
    return pd.Series(moved, name="use").rename_axis("feature") / (total or 1.0)


def report_shift(
    shift: pd.DataFrame,
    as_of: pd.Timestamp,
    window: str,
    model_version: int,
    rows: int,
    labels: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Write what ``measure_shift`` and ``measure_label_shift`` found in a window down for ``monitoring_metrics``.

    Returns:
        Rows with ``COLUMNS``; metrics ``psi.<feature>``, ``psi_beyond_chance.<feature>``, ``effect_size.<feature>``
        and those of the labels.
    """
    table = shift.rename_axis("feature").reset_index().melt("feature", var_name="measure")
    table["metric"] = table["measure"] + "." + table["feature"]
    table = table.assign(lower=np.nan, upper=np.nan, rows_labelled=0)
    if labels is not None:
        table = pd.concat([table, labels], ignore_index=True)
    return _long(
        [table.assign(window=window, model_version=model_version, slice=ALL, rows=rows)], as_of
    )


def measure_label_shift(churned: pd.Series, reference: pd.Series) -> pd.DataFrame:
    """Compare the churn rate of a labelled window with that of the champion's training data.

    Returns:
        ``metric, value, lower, upper, rows_labelled``: ``churn_rate`` (95 % interval, normal approximation) and
        ``effect_size.churned`` (Cohen's h: difference of arcsine-transformed rates). Missing without labels.
    """
    known = churned.dropna().astype(float)
    now, then = (known.mean() if len(known) else np.nan), reference.astype(float).mean()
    half = 1.96 * np.sqrt(now * (1 - now) / len(known)) if len(known) else np.nan
    effect = 2 * np.arcsin(np.sqrt(now)) - 2 * np.arcsin(np.sqrt(then))
    table = {
        "metric": ["churn_rate", "effect_size.churned"],
        "value": [now, effect],
        "lower": [now - half, np.nan],
        "upper": [now + half, np.nan],
    }
    return pd.DataFrame(table).assign(rows_labelled=len(known))


def move_intercept(known: np.ndarray, churned: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    """Shift log-odds by one number so that the mean probability equals the churn rate of the known rows."""
    log_odds, shift = np.log(known / (1 - known)), 0.0
    for _ in range(20):  # Newton's method on a smooth increasing function of one number
        p = 1 / (1 + np.exp(-(log_odds + shift)))
        shift += (churned.mean() - p.mean()) / max((p * (1 - p)).mean(), 1e-6)
    return 1 / (1 + np.exp(-(np.log(unknown / (1 - unknown)) + shift)))


def interval_by_customer(
    gain: np.ndarray, customers: pd.Series, confidence: float
) -> tuple[float, float]:
    """Interval of the mean gain per row; the months of one customer are no independent evidence.

    Linearised ratio of customers' sums (the cluster-robust variance of a mean): what a paired bootstrap over
    customers converges to, at a thousandth of its time and without a seed that could tip a decision.
    """
    codes, _ = pd.factorize(customers)
    residual = np.bincount(codes, gain - gain.mean())
    error = np.sqrt((residual**2).sum()) / len(gain)
    half = NormalDist().inv_cdf((1 + confidence) / 2) * error
    return gain.mean() - half, gain.mean() + half
