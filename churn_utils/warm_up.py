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
    "churn_utils.batch",
    "churn_utils.charts",
    "churn_utils.gate_report",
    "churn_utils.governance_charts",
    "churn_utils.online_store",
    "churn_utils.payoff",
    "churn_utils.rehearsal",
    "churn_utils.reporting",
    "churn_utils.review",
    "churn_utils.search_report",
    "churn_utils.serving_charts",
    "churn_utils.serving_client",
    "churn_utils.source",
    "churn_utils.tracking",
    "churn_utils.trials",
    "churn_utils.validation",
]:
    importlib.import_module(name)

from churn_utils import charts, contract, source  # noqa: E402

charts.plot_loop([]).to_plotly_json()  # plotly builds its validators and template on first use
pd.DataFrame({"a": [1]}).style.to_html()
contract.check_rows(
    pd.DataFrame({name: ["0"] for name in source.COLUMNS.values()})
)  # so does pandera
