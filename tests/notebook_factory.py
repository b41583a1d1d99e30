"""A pipeline of tiny notebooks that write down that they ran: what runs when, without the work."""

import nbformat

RUN = "price_rise-seed42-full"
ALL = [
    "00_overview",
    "01_feature_engineering",
    "02_hyperparameter_optimisation",
    "03_model_registry",
    "04a_challenger_validation",
    "04b_challenger_approval",
    "05_batch_inference",
    "06_real_time_serving",
    "production",
    "07_model_monitoring",
    "08_drift_detection",
]
MAY = {"as_of": "2025-05-01", "since": "2025-04-01"}
RETRAINED = [
    "07_model_monitoring_2025-05",
    "08_drift_detection_2025-05",
    "02_hyperparameter_optimisation_2025-05",
    "03_model_registry_2025-05",
    "04a_challenger_validation_2025-05",
    "04b_challenger_approval_2025-05",
    "05_batch_inference_2025-05",
    "production",
]  # as they write it down: production has no date of its own


def small_notebook(source: str) -> nbformat.NotebookNode:
    cells = [
        nbformat.v4.new_markdown_cell("# 00 – Try it\n\nDoes it run? It should."),
        nbformat.v4.new_code_cell(
            "SEED: int = 42  # seed\nAS_OF: str = '2025-02-01'  # today\nOFFER_COST_USD: float = 500.0  # an offer\n"
            "APPROVER: str = 'policy'  # who",
            metadata={"tags": ["parameters"]},
        ),
        nbformat.v4.new_code_cell(source),
    ]
    return nbformat.v4.new_notebook(
        cells=cells,
        metadata={
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}
        },
    )
