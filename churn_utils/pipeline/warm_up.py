"""Imported once by the warm process: heavy imports, and what libraries do on their first use.

Nothing here may start threads or open files, because forks inherit both.
"""

import importlib
import pkgutil
import sys

import pandas as pd

from churn_utils.data import columns, contract
from churn_utils.reports import figures
from churn_utils.reports.figures import pipeline
from churn_utils.validation import isolation

# No pipeline's kernel is debugged, and debugpy costs each one 0.8 s.
sys.modules["debugpy"] = None  # type: ignore[assignment]  # None makes its import fail

MODULES = [
    "tqdm.auto",  # before ipykernel: afterwards it looks for a notebook and complains
    "ipykernel.kernelapp",
    "ipykernel.ipkernel",
    *isolation.PRELOAD,
    "mlflow.genai.scorers",
    "plotly.subplots",
    "churn_utils.data.source",
    "churn_utils.evaluation.profit_curves",
    "churn_utils.features.online",
    "churn_utils.inference.batch",
    "churn_utils.monitoring.monthly_cycle",
    "churn_utils.monitoring.recovery",
    "churn_utils.pipeline.runner",  # every fork imports what run_all.py imports
    "churn_utils.registry.tracking",
    "churn_utils.reports.html",
    "churn_utils.reports.summary",
    "churn_utils.serving.ab_test",
    "churn_utils.serving.client",
    "churn_utils.serving.sandbox",
    "churn_utils.training.search_analysis",
    "churn_utils.validation.gate",
]
MODULES += [
    f"{figures.__name__}.{module.name}" for module in pkgutil.iter_modules(figures.__path__)
]
for name in MODULES:
    importlib.import_module(name)


# Plotly builds its validators and its template on first use, pandas compiles the templates of
# styled tables, and pandera registers its checks.
pipeline.plot_loop([]).to_plotly_json()
pd.DataFrame({"a": [1]}).style.to_html()
contract.check_rows(pd.DataFrame({name: ["0"] for name in columns.BY_NAME}))
