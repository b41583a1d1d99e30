"""Figures of the notebooks and reports: plotly, one style; every function takes a frame and returns a figure."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

BLUE, ORANGE, GREEN, RED, GREY, INK = (
    "#2F6DB5",
    "#E08A1E",
    "#3A9A62",
    "#C8423F",
    "#9AA5B1",
    "#243447",
)
VERDICT_COLOURS = {"pass": GREEN, "fail": RED, "not_evaluated": ORANGE}
LOOP = [
    ("01", "features", "Delta tables"),
    ("02", "search", "Optuna, MLflow"),
    ("03", "registry", "challenger"),
    ("04a", "gate", "checks, evidence"),
    ("04b", "approval", "promotion"),
    ("05", "batch", "predictions"),
    ("06", "serving", "API"),
    ("07", "monitoring", "late labels"),
    ("08", "drift", "decision"),
]


def new_figure(title: str, x: str = "", y: str = "", height: int = 380) -> go.Figure:
    """Return an empty figure in the style that all of them share; ``x`` and ``y`` name the axes."""
    figure = go.Figure()
    figure.update_layout(
        template="plotly_white",
        title={"text": title, "x": 0, "xref": "paper", "font": {"size": 17}},
        font={
            "family": "system-ui, Segoe UI, Helvetica, Arial, sans-serif",
            "size": 13,
            "color": INK,
        },
        height=height,
        margin={"l": 70, "r": 30, "t": 56, "b": 56},
        xaxis={"title": x, "automargin": True},
        yaxis={"title": y, "automargin": True},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 1, "xanchor": "right"},
        colorway=[BLUE, ORANGE, GREEN, RED, GREY],
        bargap=0.25,
    )
    return figure


def plot_loop(done: list[str]) -> go.Figure:
    """Draw the whole loop as a ring; stages named in ``done`` are filled, the others are still to come."""
    figure = new_figure("The loop: nine steps, and back to the first", height=420)
    angles = np.pi / 2 - 2 * np.pi * np.arange(len(LOOP)) / len(LOOP)
    x, y = 1.5 * np.cos(angles), np.sin(angles)
    for i, (number, name, detail) in enumerate(LOOP):
        j = (i + 1) % len(LOOP)
        figure.add_annotation(
            x=x[j] - 0.27 * (x[j] - x[i]),
            y=y[j] - 0.27 * (y[j] - y[i]),
            ax=x[i] + 0.27 * (x[j] - x[i]),
            ay=y[i] + 0.27 * (y[j] - y[i]),
            xref="x",
            yref="y",
            axref="x",
            ayref="y",
            arrowhead=2,
            arrowwidth=2,
            arrowcolor=GREY,
            text="",
        )
        filled = number in done
        figure.add_annotation(
            x=x[i],
            y=y[i],
            text=f"<b>{number} {name}</b><br>{detail}",
            showarrow=False,
            borderpad=7,
            font={"color": "white" if filled else INK, "size": 13},
            bgcolor=BLUE if filled else "white",
            bordercolor=BLUE if filled else GREY,
        )
    figure.add_annotation(
        x=0,
        y=0,
        text="what is retraining worth,<br>in USD per customer?",
        showarrow=False,
        font={"size": 15, "color": GREY},
    )
    figure.update_xaxes(visible=False, range=[-2.1, 2.1])
    figure.update_yaxes(visible=False, range=[-1.2, 1.2])
    return figure.update_layout(margin={"b": 10})


def plot_churn_rate(customers: pd.DataFrame, column: str, title: str) -> go.Figure:
    """Churn rate by group with 95 % Wilson intervals; ``customers`` has ``churned`` (bool) and ``column``."""
    groups = customers.groupby(column)["churned"].agg(["mean", "size"])
    n, p, z = groups["size"], groups["mean"], 1.96
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    figure = new_figure(title, y="churned")
    figure.add_bar(
        x=groups.index.astype(str),
        y=p,
        marker_color=BLUE,
        error_y={
            "array": centre + half - p,
            "arrayminus": p - (centre - half),
            "color": INK,
            "thickness": 1.2,
        },
        customdata=n,
        hovertemplate="%{x}: %{y:.1%} of %{customdata} customers<extra></extra>",
    )
    figure.add_hline(
        y=customers["churned"].mean(),
        line={"color": ORANGE, "dash": "dot"},
        annotation_text=f"all: {customers['churned'].mean():.1%}",
    )
    return figure.update_yaxes(tickformat=".0%", rangemode="tozero")


def plot_distribution(customers: pd.DataFrame, column: str, title: str, unit: str) -> go.Figure:
    """Distribution of a number for those who stayed and those who churned, as shares of each group."""
    figure = new_figure(title, x=f"{column} ({unit})", y="share of the group")
    low, high = customers[column].min(), customers[column].max()
    edges = np.linspace(low, high, 31)
    for churned, name, colour in ((False, "stayed", BLUE), (True, "churned", ORANGE)):
        share, _ = np.histogram(customers.loc[customers["churned"] == churned, column], bins=edges)
        share = share / max(1, share.sum())
        figure.add_scatter(
            x=(edges[1:] + edges[:-1]) / 2,
            y=share,
            name=name,
            mode="lines",
            fill="tozeroy",
            line={"shape": "hvh", "color": colour},
        )
    return figure.update_yaxes(tickformat=".0%")


def plot_bars(values: pd.Series, title: str, unit: str) -> go.Figure:
    """One horizontal bar per entry of ``values``, in its order, labelled with its value."""
    rows = values.iloc[::-1]
    figure = new_figure(title, x=unit, height=120 + 44 * len(rows))
    figure.add_bar(
        x=rows,
        y=rows.index,
        orientation="h",
        marker_color=BLUE,
        text=[f"{value:,.0f}" for value in rows],
    )
    return figure


def plot_splits(labels: pd.DataFrame) -> go.Figure:
    """Customers of each split, churned and not; ``labels`` has ``split`` and ``churned``."""
    counts = labels.groupby(["split", "churned"]).size().unstack(fill_value=0)
    counts = counts.reindex(
        index=["train", "validate", "test"], columns=[False, True], fill_value=0
    )
    figure = new_figure(
        "60 / 20 / 20 by the hash of the customer's slot", y="customers", height=340
    )
    for churned, name, colour in ((False, "stayed", BLUE), (True, "churned", ORANGE)):
        figure.add_bar(
            x=counts.index, y=counts[churned], name=name, marker_color=colour, text=counts[churned]
        )
    return figure.update_layout(barmode="stack")


def plot_trials(trials: pd.DataFrame) -> go.Figure:
    """Cross-validated log loss of each finished trial by family, the pruned ones at the top, the best so far."""
    figure = new_figure("The search: every trial", x="trial", y="log loss in cross-validation")
    done = trials[trials["state"] == "complete"]
    for family, rows in done.groupby("family"):
        figure.add_scatter(
            x=rows["trial"], y=rows["log_loss"], mode="markers", name=family, marker={"size": 9}
        )
    pruned = trials[trials["state"] == "pruned"]
    figure.add_scatter(
        x=pruned["trial"],
        y=np.full(len(pruned), done["log_loss"].max() + 0.0008),
        mode="markers",
        name="pruned",
        marker={"symbol": "x", "color": GREY},
        text=pruned["family"],
    )
    figure.add_scatter(
        x=trials["trial"],
        y=trials["best_so_far"],
        mode="lines",
        name="best so far",
        line={"color": INK, "shape": "hv", "width": 1.5},
    )
    return figure


def plot_importance(importance: pd.DataFrame) -> go.Figure:
    """Permutation importance of every feature, most important on top."""
    rows = importance.iloc[::-1]
    figure = new_figure(
        "What the model needs: rise in log loss when a feature is shuffled",
        x="rise in log loss",
        height=560,
    )
    figure.add_bar(
        x=rows["importance"],
        y=rows["feature"],
        orientation="h",
        marker_color=BLUE,
        error_x={"array": rows["spread"], "color": INK, "thickness": 1.2},
    )
    return figure


def _thin(*columns: np.ndarray, most: int = 300) -> list[np.ndarray]:
    keep = (
        np.unique(np.linspace(0, len(columns[0]) - 1, most).astype(int)) if len(columns[0]) else []
    )
    return [np.asarray(column)[np.asarray(keep, dtype=int)] for column in columns]


def plot_roc(churned: pd.Series, probability: np.ndarray, title: str) -> go.Figure:
    """ROC curve against the diagonal of a coin."""
    from sklearn.metrics import roc_auc_score, roc_curve

    false_positive, true_positive, _ = roc_curve(churned, probability)
    x, y = _thin(false_positive, true_positive)
    figure = new_figure(title, x="false positive rate", y="true positive rate", height=420)
    figure.add_scatter(
        x=x,
        y=y,
        name=f"model, area {roc_auc_score(churned, probability):.3f}",
        line={"color": BLUE, "width": 3},
    )
    figure.add_scatter(
        x=[0, 1], y=[0, 1], name="coin, area 0.5", line={"color": GREY, "dash": "dot"}
    )
    return figure


def plot_precision_recall(churned: pd.Series, probability: np.ndarray, title: str) -> go.Figure:
    """Precision against recall, and the base rate that a coin would reach."""
    from sklearn.metrics import average_precision_score, precision_recall_curve

    precision, recall, _ = precision_recall_curve(churned, probability)
    x, y = _thin(recall, precision)
    area, rate = average_precision_score(churned, probability), churned.mean()
    figure = new_figure(
        title, x="recall: churners found", y="precision: offers to churners", height=420
    )
    figure.add_scatter(x=x, y=y, name=f"model, area {area:.3f}", line={"color": BLUE, "width": 3})
    figure.add_scatter(
        x=[0, 1], y=[rate, rate], name=f"coin, {rate:.3f}", line={"color": GREY, "dash": "dot"}
    )
    return figure


def plot_reliability(bins: pd.DataFrame, title: str) -> go.Figure:
    """Observed against predicted churn rate in ten equally filled bins, with 95 % intervals."""
    half = 1.96 * np.sqrt(bins["observed"] * (1 - bins["observed"]) / bins["rows"])
    figure = new_figure(title, x="predicted probability", y="observed churn rate", height=420)
    figure.add_scatter(x=[0, 1], y=[0, 1], name="perfect", line={"color": GREY, "dash": "dot"})
    figure.add_scatter(
        x=bins["predicted"],
        y=bins["observed"],
        name="model",
        mode="markers+lines",
        error_y={"array": half, "color": BLUE},
        line={"color": BLUE},
        marker={"size": 9},
    )
    return figure


def plot_confusion(churned: pd.Series, treated: np.ndarray, title: str) -> go.Figure:
    """Confusion matrix of the decision, in customers."""
    table = pd.crosstab(
        np.where(churned, "churned", "stayed"), np.where(treated, "offer", "no offer")
    )
    table = table.reindex(index=["stayed", "churned"], columns=["no offer", "offer"], fill_value=0)
    figure = new_figure(title, x="decision", y="what happened", height=360)
    figure.add_heatmap(
        z=table.to_numpy(),
        x=table.columns,
        y=table.index,
        colorscale=[[0, "#EEF3F9"], [1, BLUE]],
        text=table.to_numpy(),
        texttemplate="%{text}",
        showscale=False,
    )
    return figure


def plot_verdicts(findings: pd.DataFrame, title: str) -> go.Figure:
    """One coloured row per check of the gate: verdict, requirement and evidence."""
    rows = findings.iloc[::-1].reset_index(drop=True)
    figure = new_figure(title, height=110 + 46 * len(rows))
    figure.add_bar(
        x=np.ones(len(rows)),
        y=rows["check"],
        orientation="h",
        showlegend=False,
        marker_color=rows["verdict"].map(VERDICT_COLOURS),
        opacity=0.16,
        hoverinfo="skip",
    )
    for row in rows.itertuples():
        figure.add_annotation(
            x=0.01,
            y=row.check,
            xanchor="left",
            showarrow=False,
            align="left",
            font={"size": 12},
            text=f"<b>{row.verdict}</b>  {row.requirement}<br>{str(row.detail)[:130]}",
        )
    return figure.update_xaxes(visible=False, range=[0, 1]).update_layout(
        bargap=0.12, margin={"b": 10}
    )


def plot_intervals(findings: pd.DataFrame, bounds: dict[str, float], title: str) -> go.Figure:
    """Interval of each check that has one, each on its own axis, beside the bound that it must clear."""
    from plotly.subplots import make_subplots

    rows = findings[findings["check"].isin(bounds)]
    grid = make_subplots(
        rows=max(1, len(rows)),
        cols=1,
        subplot_titles=rows["check"].tolist(),
        vertical_spacing=min(0.25, 0.5 / max(1, len(rows))),
    )
    figure = go.Figure(grid).update_layout(new_figure(title, height=120 + 130 * len(rows)).layout)
    for position, row in enumerate(rows.itertuples(), start=1):
        arms = {
            "array": [row.upper - row.value],
            "arrayminus": [row.value - row.lower],
            "thickness": 3,
        }
        figure.add_scatter(
            x=[row.value],
            y=[""],
            error_x=arms,
            marker={"size": 12, "color": BLUE},
            row=position,
            col=1,
        )
        figure.add_vline(
            x=bounds[row.check], line={"color": RED, "dash": "dot"}, row=position, col=1
        )
    return figure.update_layout(showlegend=False)


def plot_lineage(links: pd.DataFrame, title: str) -> go.Figure:
    """Draw what came from what: ``links`` has ``source`` and ``target``, left to right."""
    names = list(dict.fromkeys([*links["source"], *links["target"]]))
    figure = new_figure(title, height=340)
    labels = [
        name.replace(" ", "<br>", 1) for name in names
    ]  # else the last ones run into each other
    figure.add_sankey(
        node={"label": labels, "color": BLUE, "pad": 28, "thickness": 16},
        link={
            "source": [names.index(s) for s in links["source"]],
            "target": [names.index(t) for t in links["target"]],
            "value": [1] * len(links),
            "color": "rgba(47,109,181,0.18)",
        },
    )
    return figure


def plot_scores(predictions: pd.DataFrame, title: str) -> go.Figure:
    """Distribution of the churn probability, coloured by decision."""
    figure = new_figure(title, x="churn probability", y="customers")
    threshold = predictions[
        "threshold"
    ].max()  # one version, one threshold; missing where nobody was scored
    for decision, colour in (("no_offer", BLUE), ("offer", ORANGE)):
        rows = predictions[predictions["decision"] == decision]
        figure.add_histogram(
            x=rows["churn_probability"].round(4),
            name=decision.replace("_", " "),
            marker_color=colour,
            xbins={"start": 0, "end": 1, "size": 0.025},
        )
    figure.add_vline(x=threshold, line={"color": INK, "dash": "dot"}, annotation_text="threshold")
    return figure.update_layout(barmode="stack", bargap=0.05)


def plot_expected_value(predictions: pd.DataFrame, title: str) -> go.Figure:
    """Expected value in USD of offers to the best customers, the more the further right."""
    ordered = predictions["expected_value_usd"].sort_values(ascending=False).to_numpy()
    x, y = _thin(np.arange(1, len(ordered) + 1), ordered.cumsum())
    figure = new_figure(
        title, x="customers who get the offer, best first", y="expected value (USD)"
    )
    figure.add_scatter(x=x, y=y, line={"color": BLUE, "width": 3}, name="expected value")
    best = int((ordered > 0).sum())
    figure.add_vline(
        x=best,
        line={"color": ORANGE, "dash": "dot"},
        annotation_text=f"offers pay up to customer {best:,}",
    )
    return figure.update_layout(showlegend=False)


def plot_deployments(deployments: pd.DataFrame, as_of: pd.Timestamp, title: str) -> go.Figure:
    """One bar per deployment from its first to its last day; the one in effect ends a month after ``as_of``."""
    figure = new_figure(title, height=140 + 50 * max(1, len(deployments)))
    for row in deployments.itertuples():
        end = as_of + pd.DateOffset(months=1) if pd.isna(row.effective_to) else row.effective_to
        figure.add_scatter(
            x=[row.effective_from, end],
            y=[f"version {row.version}"] * 2,
            mode="lines",
            line={"width": 22, "color": BLUE},
            hovertemplate=f"approved by {row.approved_by}<extra>version {row.version}</extra>",
        )
    figure.add_vline(x=as_of, line={"color": ORANGE, "dash": "dot"})
    if deployments.empty:
        figure.add_annotation(
            text="no version has been promoted",
            showarrow=False,
            xref="paper",
            yref="paper",
            x=0.5,
            y=0.5,
        )
    return figure.update_layout(showlegend=False)
