"""Frames that the figures of several modules read."""

import numpy as np
import pandas as pd
import pytest

from churn_utils.evaluation.economics import Economics

MARCH, APRIL, MAY = (pd.Timestamp(f"2025-0{month}-01") for month in (3, 4, 5))


@pytest.fixture
def customers():
    return pd.DataFrame(
        {
            "contract": ["One year"] * 10 + ["Two year"] * 40,
            "tenure": list(range(50)),
            "churned": [True] * 5 + [False] * 5 + [True] * 4 + [False] * 36,
        }
    )


@pytest.fixture
def predictions():
    probability = np.array([0.05, 0.2, 0.3, 0.9])
    return pd.DataFrame(
        {
            "churn_probability": probability,
            "threshold": 0.25,
            "decision": ["no_offer", "no_offer", "offer", "offer"],
            "expected_value_usd": Economics().expected_value_usd(probability),
        }
    )


@pytest.fixture
def months():
    """Two months with one champion and one with two, as ``review.value_by_month`` returns them."""
    values = {
        "best": [230.0, 450.0, 440.0],
        "champion": [225.0, 390.0, 435.0],
        "shadow": [np.nan, np.nan, 385.0],
    }
    frame = pd.DataFrame({"snapshot_date": [MARCH, APRIL, MAY], "customers": 7043, **values})
    for model in values:
        frame[f"{model}_lower"], frame[f"{model}_upper"] = frame[model] - 10, frame[model] + 20
    return frame.assign(lost_usd=[35215.0, 422580.4, 35215.0])


@pytest.fixture
def events():
    """April's three, May's two."""
    names = ["world", "alert", "alert", "retrain", "promoted"]
    return pd.DataFrame({"date": [APRIL] * 3 + [MAY] * 2, "event": names, "what": "x"})


@pytest.fixture
def compared():
    return pd.DataFrame(
        {
            "window": ["2025-03", "2025-04"],
            "estimated": [220.0, 400.0],
            "lower": [200.0, 390.0],
            "upper": [250.0, 410.0],
            "realised": [225.0, 300.0],
            "inside": [True, False],
        }
    )


@pytest.fixture
def slices():
    """The second has too few labels for a value."""
    return pd.DataFrame(
        {
            "slice": ["all", "contract=Two year"],
            "value": [220.0, np.nan],
            "lower": [200.0, np.nan],
            "upper": [250.0, np.nan],
            "rows": [7043, 90],
            "rows_labelled": [7000, 12],
        }
    )


@pytest.fixture
def shifts():
    """As ``review.table_shifts`` returns them; April's delivery was broken."""
    names = pd.Index(["tenure", "champion_score", "contract"], name="feature")
    psi = {MARCH: [0.001, 0.0, 0.02], APRIL: [np.nan] * 3, MAY: [0.25, 0.1234, np.nan]}
    return pd.DataFrame(psi, index=names).assign(feature_reliance=[0.4, 1.0, 0.07])


@pytest.fixture
def gains():
    return pd.DataFrame(
        {
            "as_of_date": [APRIL, MAY],
            "decision": ["ok", "retrain"],
            "gain_usd": [1.0, 60.0],
            "lower": [-4.0, 45.0],
            "upper": [7.0, 80.0],
        }
    )


@pytest.fixture
def recovery():
    names = ["old champion", "new champion", "best possible", "recovered"]
    return pd.DataFrame(
        {
            "value": [385.0, 435.0, 440.0, 0.9],
            "lower": [375.0, 425.0, 431.0, 0.8],
            "upper": [397.0, 447.0, 452.0, 0.97],
        },
        index=names,
    )
