"""Imported once by the process that kernels are forked from (see ``kernels``): heavy imports and first-use costs.

Nothing here may start threads or open files, because forks inherit both.
"""

import importlib
import sys

import pandas as pd

sys.modules["debugpy"] = None  # 0.8 s a kernel, and nobody debugs a pipeline's kernel

for name in [
    "tqdm.auto",  # before ipykernel: afterwards it looks for a notebook and complains
    "ipykernel.kernelapp",
    "ipykernel.ipkernel",
    "lightgbm",
    "mlflow",
    "mlflow.sklearn",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.model_registry.sqlalchemy_store",
    "mlflow.genai.scorers",
    "plotly.subplots",
    "skops.io",
    "churn_utils.inference.batch",
    "churn_utils.reports.figures.figures",
    "churn_utils.reports.gate_page",
    "churn_utils.reports.figures.governance_figures",
    "churn_utils.features.online",
    "churn_utils.evaluation.profit_curves",
    "churn_utils.serving.sandbox",
    "churn_utils.reports.html",
    "churn_utils.monitoring.recovery",
    "churn_utils.training.search_analysis",
    "churn_utils.reports.figures.serving_figures",
    "churn_utils.serving.client",
    "churn_utils.data.source",
    "churn_utils.registry.tracking",
    "churn_utils.serving.ab_test",
    "churn_utils.validation.gate",
]:
    importlib.import_module(name)

from churn_utils.data import columns, contract  # noqa: E402
from churn_utils.reports.figures import figures  # noqa: E402

figures.plot_loop([]).to_plotly_json()  # plotly builds its validators and template on first use
pd.DataFrame({"a": [1]}).style.to_html()
contract.check_rows(pd.DataFrame({name: ["0"] for name in columns.BY_NAME}))  # so does pandera
