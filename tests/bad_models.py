"""Challengers that must not pass, each with the check that is meant for it.

Tests and benchmarks/gauntlet.py submit each to the real gate: it is trained, logged and registered
if the model or its record is bad, else it is a sound version with other predictions. A seed gives
its own customers and labels: the first month of the simulation with that seed.
"""

import shutil
from pathlib import Path
from urllib.parse import urlparse

import factories
import numpy as np
import pandas as pd
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import LatentDirichletAllocation
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, OrdinalEncoder
from skops.io import dump

from churn_utils import settings
from churn_utils.data import source
from churn_utils.errors import DeploymentError
from churn_utils.features import definitions, labelling, model_inputs, offline, publishing
from churn_utils.registry import approvals, artifacts, deployments, promotion, versions
from churn_utils.registry.connection import connect_mlflow
from churn_utils.simulation import customers, deliveries
from churn_utils.simulation.scenarios import Simulation
from churn_utils.training import models
from churn_utils.validation import gate
from churn_utils.validation.challenger import Challenger

MONTH = settings.month_start(1)
AS_OF = settings.month_start(2)
LIGHTGBM = {"family": "lightgbm", **models.DEFAULTS["lightgbm"]}
# Behind by 0.03 to 0.05 ROC AUC.
STUMPS = LIGHTGBM | {"n_estimators": 12, "learning_rate": 0.1, "num_leaves": 2}
BY_HEART = {
    "family": "lightgbm",
    "n_estimators": 200,
    "learning_rate": 0.3,
    "num_leaves": 63,
    "min_child_samples": 1,
    "colsample_bytree": 0.8,
    "reg_lambda": 0.0,
}


def publish_month(seed: int, settled_bills: bool = False) -> pd.DataFrame:
    """Publish the first simulated month of a seed with its labels.

    Args:
        seed: of the simulation.
        settled_bills: upstream has written the final bill of customers who left into this month.

    Returns:
        The training set.
    """
    simulation = Simulation("none", seed)
    rows = deliveries.deliver_at(1, simulation)[1]
    labels = deliveries.make_labels(customers.simulate_month(1, simulation))
    if settled_bills:
        rows = _settle_bills(rows, labels)
    source.obtain_extract()
    publishing.publish_snapshot(rows, MONTH, MONTH)
    labelling.record_labels(labels, MONTH, AS_OF, labels["slot_id"])
    return offline.build_training_set(AS_OF)


def _settle_bills(rows: pd.DataFrame, labels: pd.DataFrame) -> pd.DataFrame:
    churned = labels.loc[labels["churn"] == "Yes", "customer_id"]
    months = pd.to_numeric(rows["tenure"])
    is_settled = rows["customer_id"].isin(churned) & (months > 0)
    half = (0.5 * months * pd.to_numeric(rows["monthly_charges"])).round(2).astype(str)
    return rows.assign(total_charges=rows["total_charges"].where(~is_settled, half))


def register(rows: pd.DataFrame, params=LIGHTGBM, model=None, **more) -> int:
    """Train as a challenger of this gauntlet is trained, unless a model is given, and register."""
    model = model or factories.fit_model(rows, params)
    return factories.register_model(rows, model, params=params, as_of=AS_OF, **more)


def challenge(version: int, as_of=AS_OF, since=None, **more) -> Challenger:
    """Return the version as the gate sees it."""
    return Challenger(version, as_of, since, draws=400, seed=0, **more)


class Gauntlet:
    """A home of one seed with a sound version, and every bad challenger by name (``BAD``)."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.generator = np.random.default_rng(seed)
        self.rows = publish_month(seed)
        self.sound = challenge(register(self.rows))
        self.findings: dict[str, pd.DataFrame] = {}

    def submit(self, name: str) -> pd.DataFrame:
        """Return the findings of the gate, by check; each challenger is judged once."""
        if name not in self.findings:
            submitted = self.sound if name == "sound" else getattr(self, name)()
            self.findings[name] = gate.evaluate_checks(submitted).set_index("check")
        return self.findings[name]

    def judge_alone(self, name: str) -> str:
        """Return the verdict of the one check that is meant for a challenger.

        It is the same as in the whole gate, and quicker.
        """
        meant, _ = BAD[name]
        submitted = getattr(self, name)()
        return gate.run_check(gate.CHECKS[meant], submitted).verdict

    def edit_after_approval(self) -> str:
        """Approve the sound version, change its evidence and return the error of its promotion."""
        gate.evaluate_gate(self.sound)
        approval = approvals.approve(self.sound.version, "Ada Lovelace", "good", AS_OF)
        factories.change_evidence(self.sound.version, approval.evidence_sha256, seed=99)
        try:
            promotion.promote(self.sound.version, AS_OF)
        except DeploymentError as error:
            return str(error)
        return "promoted"

    def promote(self, version: int) -> bool:
        """Send a version through gate, approval and promotion; tell whether it is champion then."""
        if set(factories.run_gate(version, AS_OF)["verdict"]) == {"pass"}:
            approvals.approve(version, "Ada Lovelace", "good", AS_OF)
            promotion.promote(version, AS_OF)
        return deployments.champion_at(AS_OF) == version

    def predicting(self, probability: np.ndarray) -> Challenger:
        """Return the sound version as if it had predicted other probabilities."""
        return self.sound.with_parts(probability=probability)

    def against_itself(self, probability: np.ndarray) -> Challenger:
        """Return a challenger with these predictions where the sound version is champion."""
        return self.sound.with_parts(
            probability=probability,
            champion=99,
            champion_probability=self.sound.probability,
            champion_threshold=0.25,
        )

    def always_no(self):
        return self.predicting(np.zeros(len(self.sound.rows)))

    def offers_to_all(self):
        return self.predicting(0.9 + 0.05 * self.sound.probability)

    def random(self):
        return self.predicting(self.generator.uniform(size=len(self.sound.rows)))

    def shuffled_labels(self):
        shuffled = self.generator.permutation(self.rows["churned"].to_numpy())
        return challenge(
            register(
                self.rows, model=factories.fit_model(self.rows.assign(churned=shuffled), LIGHTGBM)
            )
        )

    def learned_the_test(self):
        everything = pd.concat(
            [self.rows, self.rows[self.rows["split"] == "test"].assign(split="train")]
        )
        return challenge(register(self.rows, model=factories.fit_model(everything, LIGHTGBM)))

    def overfitted(self):
        return challenge(register(self.rows, BY_HEART))

    def miscalibrated(self):
        stretch = self.generator.uniform(1.7, 2.5)
        return self.predicting(np.clip(stretch * self.sound.probability, 0, 1))

    def wrong_signature(self):
        version = register(self.rows)
        mlflow = connect_mlflow()
        example = self.sound.rows[list(definitions.MODEL_INPUTS)].head().assign(shoe_size=42.0)
        mlflow.models.set_signature(
            _folder(version).as_uri(), mlflow.models.infer_signature(example)
        )
        folder = versions.read_version(version).artifact_folder
        artifacts.record_files(version, folder)  # as if it had been logged so
        return challenge(version)

    def no_description(self):
        version = register(self.rows)
        versions.register_version(versions.read_version(version).run_id, "A model.", {})
        return challenge(version)

    def missing_artifact(self):
        version = register(self.rows)
        run = connect_mlflow().MlflowClient().get_run(versions.read_version(version).run_id)
        (Path(urlparse(run.info.artifact_uri).path) / "importance.json").unlink()
        return challenge(version)

    def pickled(self):
        """As good as the sound one, and its file may run whatever code its author likes."""
        version, mlflow = register(self.rows), connect_mlflow()
        model, address = artifacts.load_model(version), artifacts.name_version(version)
        signature = mlflow.models.get_model_info(address).signature
        shutil.rmtree(_folder(version))
        mlflow.sklearn.save_model(
            model,
            str(_folder(version)),
            serialization_format="cloudpickle",
            signature=signature,
            input_example=self.sound.rows[list(definitions.MODEL_INPUTS)].head(),
        )
        return challenge(version)

    def worse_on_one_slice(self):
        """Better than the champion on the whole; it treats every two-year contract."""
        champion = self.sound.probability
        hint = 0.06 * (self.sound.rows["churned"].to_numpy(dtype=float) - champion)
        group = (self.sound.rows["contract"] == "Two year").to_numpy()
        probability = np.where(group, 0.3, np.clip(champion + hint, 0.001, 0.999))
        return self.against_itself(probability)

    def equal_to_the_champion(self):
        return self.against_itself(self.sound.probability)

    def empty_split(self):
        return challenge(self.sound.version, since=pd.Timestamp("2030-01-01"))

    def stale_labels(self):
        return challenge(self.sound.version, as_of=settings.month_start(5))

    def raises(self):
        """Its encoder knows one payment method and raises for any other."""
        version, rows = register(self.rows), _typed(self.rows)
        known = rows[rows["payment_method"] == "Mailed check"]
        model = models.build_model(LIGHTGBM, 0)
        model[0].transformers = [("categories", OrdinalEncoder(), list(definitions.CATEGORICAL))]
        dump(_fit(model, known), _folder(version) / "model.skops")
        return challenge(version)

    def hangs(self):
        """Its file asks for 10^12 rounds over every row, and has no type that loading refuses."""
        rows = _typed(self.rows)
        topics = LatentDirichletAllocation(2, max_iter=1, random_state=0)
        model = make_pipeline(
            models.build_encoder(), MinMaxScaler(clip=True), topics, LogisticRegression()
        )
        calibrated = _fit(model, rows)
        version = register(self.rows, model=calibrated)
        topics.set_params(max_doc_update_iter=10**12, mean_change_tol=-1.0)
        dump(calibrated, _folder(version) / "model.skops")
        return challenge(version, probe_seconds=5.0)

    def settled_bills(self, folder: Path):
        """Judge a model whose features hold what is known only afterwards, in a home of its own."""
        with factories.at_home(folder):
            found = gate.evaluate_checks(
                challenge(register(publish_month(self.seed, settled_bills=True)))
            )
            shutil.rmtree(folder, ignore_errors=True)
        return found.set_index("check")


def _fit(model, rows: pd.DataFrame) -> CalibratedClassifierCV:
    inputs, churned = model_inputs.select_model_inputs(rows), rows["churned"].to_numpy()
    fitted = FrozenEstimator(model.fit(inputs, churned))
    return CalibratedClassifierCV(fitted).fit(inputs, churned)


def _typed(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.astype(dict.fromkeys(definitions.INTEGER, "int64"))


def _folder(version: int) -> Path:
    """Folder of the version's file."""
    client = connect_mlflow().MlflowClient()
    return Path(
        urlparse(client.get_model_version_download_uri(settings.MODEL_NAME, str(version))).path
    )


# Challenger to the check that is meant for it and the verdict that it must give.
BAD = {
    "always_no": ("value_floor", "fail"),
    "offers_to_all": ("value_floor", "fail"),
    "random": ("auc_floor", "fail"),
    "shuffled_labels": ("auc_floor", "fail"),
    "learned_the_test": ("lineage", "fail"),
    "overfitted": ("overfitting", "fail"),
    "miscalibrated": ("calibration", "fail"),
    "wrong_signature": ("signature", "fail"),
    "no_description": ("documentation", "fail"),
    "missing_artifact": ("artifacts", "fail"),
    "pickled": ("artifacts", "fail"),
    "worse_on_one_slice": ("slices", "fail"),
    "equal_to_the_champion": ("champion", "fail"),
    "empty_split": ("auc_floor", "not_evaluated"),
    "stale_labels": ("label_freshness", "fail"),
    "raises": ("prediction", "not_evaluated"),
    "hangs": ("prediction", "not_evaluated"),
}
