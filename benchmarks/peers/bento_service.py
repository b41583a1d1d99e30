"""BentoML's plain service around the same model, as its documentation shows for scikit-learn."""

import os

import bentoml
import pandas as pd
import skops.io


@bentoml.service(workers=1, metrics={"enabled": False}, logging={"access": {"enabled": False}})
class Churn:
    """Loads the model once and answers for one customer given as a dictionary."""

    def __init__(self) -> None:
        """Load the model that the registry holds."""
        path = os.environ["MODEL_FILE"]
        self.model = skops.io.load(path, trusted=skops.io.get_untrusted_types(file=path))

    @bentoml.api
    def predict(self, customer: dict) -> float:
        """Churn probability of one customer."""
        return float(self.model.predict_proba(pd.DataFrame([customer]))[0, 1])
