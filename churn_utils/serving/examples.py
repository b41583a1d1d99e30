"""Examples that the API's documents show: one customer, and what the API says of it."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict

from churn_utils.features import definitions

EXAMPLE_CUSTOMER: dict[str, Any] = {
    "customer_id": "7590-VHVEG",
    "gender": "Female",
    "senior_citizen": 0,
    "partner": "Yes",
    "dependents": "No",
    "tenure": 1,
    "phone_service": "No",
    "multiple_lines": "No phone service",
    "internet_service": "DSL",
    "online_security": "No",
    "online_backup": "Yes",
    "device_protection": "No",
    "tech_support": "No",
    "streaming_tv": "No",
    "streaming_movies": "No",
    "contract": "Month-to-month",
    "paperless_billing": "Yes",
    "payment_method": "Electronic check",
    "monthly_charges": 29.85,
    "total_charges": 29.85,
}
EXAMPLE_PREDICTION: dict[str, Any] = {
    "prediction_id": "01946dc1-6f3a-7c2e-9a51-3c5f2b9d8e10",
    "customer_id": "7590-VHVEG",
    "churn_probability": 0.6289,
    "decision": "offer",
    "threshold": 0.25,
    "expected_value_usd": 757.8,
    "model_version": 1,
    "arm": "champion",
    "features_as_of": "2025-01-01",
    "features_stale": False,
}
_EXAMPLE_INPUTS = definitions.complete_inputs(definitions.features_of_customer(EXAMPLE_CUSTOMER))
EXAMPLE_RECEIPT = {
    **{name: value for name, value in EXAMPLE_PREDICTION.items() if name != "features_stale"},
    "answered_at": "2025-02-01T09:30:00.123456+00:00",
    "as_of_date": "2025-02-01",
    "route": "predictions",
    "request_id": "01946dc1-6f3a-7c2e-9a51-3c5f2b9d8e0f",
    "caller": "crm",
    "offer_group": "treated",
    "reproduced_probability": 0.6289,
    "features": dict(zip(definitions.MODEL_INPUTS, _EXAMPLE_INPUTS, strict=True)),
}
EXAMPLE_SCORES = {"predictions": [{**EXAMPLE_PREDICTION, "features_as_of": None}]}
EXAMPLE_MODEL = {
    "model_version": 1,
    "approved_by": "Ada Lovelace",
    "threshold": 0.25,
    "offer_cost_usd": 500.0,
    "churner_value_usd": 2000.0,
    "save_rate": 1.0,
    "trained_as_of": "2025-02-01",
    "family": "logistic_regression",
    "trial": {"version": 2, "mode": "split", "share": 0.1, "started": "2025-02-01"},
    "refused_version": None,
    "features_published": "2025-01-01",
}
EXAMPLE_FIELD_ERROR = {"field": "customers.0.tenure", "message": "Input should be a valid integer"}
EXAMPLE_PROBLEM = {
    "title": "Unprocessable Entity",
    "status": 422,
    "detail": "1 field(s) are not as documented.",
    "request_id": "01946dc1-6f3a-7c2e-9a51-3c5f2b9d8e0f",
    "errors": [EXAMPLE_FIELD_ERROR],
}
EXAMPLE_INFERENCE_PROBLEM = {
    **EXAMPLE_PROBLEM,
    "error": "1 field(s) are not as documented. "
    "customers.0.tenure: Input should be a valid integer",
}


def show_example(example: dict[str, Any]) -> ConfigDict:
    """Return a schema's configuration with an example; fields may be named ``model_...``."""
    return ConfigDict(protected_namespaces=(), json_schema_extra={"examples": [example]})
