"""A home in which features are added: what is done before, and after in a copy of the package.

As a program it does the second part, with that copy on its path, and prints what it saw as JSON.
"""

import asyncio
import json
import logging
import shutil
import sys
from pathlib import Path

import factories
import numpy as np
import pandas as pd

from churn_utils import cli, settings
from churn_utils.data import contract, tables
from churn_utils.errors import ChurnError
from churn_utils.features import labelling, offline, publishing
from churn_utils.inference import batch, compiled, scoring
from churn_utils.monitoring import history, monthly_cycle
from churn_utils.monitoring.champion import load_champion
from churn_utils.registry import (
    approvals,
    artifacts,
    deployments,
    gate_evidence,
    lineage,
    promotion,
    versions,
)
from churn_utils.serving.metrics import ServingMetrics
from churn_utils.serving.predictor import Predictor
from churn_utils.serving.settings import ServingSettings
from churn_utils.validation import gate
from churn_utils.validation.challenger import Challenger

FIRST, SECOND, THIRD = (settings.month_start(month) for month in range(3))
LEFT = 50  # customers that are delivered only before the features are added
PLACE = '    Feature(\n        "num_optional_services",'
NEW_FEATURES = """    Feature(
        "pays_automatically",
        WHOLE,
        "0 or 1",
        "1 if the bill is debited",
        computed_from=("payment_method",),
        compute=lambda method: (
            method.str.contains("automatic").astype("int64")
            if isinstance(method, pd.Series)
            else int("automatic" in method)
        ),
    ),
    Feature(
        "line",
        TEXT,
        "category",
        "fibre or not",
        computed_from=("internet_service",),
        compute=lambda service: (
            (service == "Fiber optic").map({True: "fibre", False: "other"})
            if isinstance(service, pd.Series)
            else "fibre" if service == "Fiber optic" else "other"
        ),
        categories=("fibre", "other"),
        is_slice=True,
    ),
    Feature(
        "yearly_charges",
        DECIMAL,
        "USD per year",
        "the current bill, twelve times",
        is_stored=False,
        computed_from=("monthly_charges",),
        compute=lambda monthly: 12 * monthly,
    ),
    Feature(
        "months_debited",
        WHOLE,
        "months",
        "tenure of those who pay automatically",
        is_stored=False,
        computed_from=("pays_automatically", "tenure"),
        compute=lambda automatic, tenure: automatic * tenure,
    ),
"""
STORED_NEW = ["pays_automatically", "line"]
NEW = [*STORED_NEW, "yearly_charges", "months_debited"]


def copy_package(folder: Path) -> None:
    """Copy the package and add the features to the definitions of the copy."""
    for name in ("churn_utils", "requirements.lock"):
        source = settings.PROJECT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, folder / name)
    path = folder / "churn_utils" / "features" / "definitions.py"
    text = path.read_text()
    assert text.count(PLACE) == 1
    path.write_text(text.replace(PLACE, NEW_FEATURES + PLACE))


def publish(extract: pd.DataFrame, month: pd.Timestamp, written: pd.Timestamp) -> None:
    """Publish a month of IBM's customers without labels."""
    publishing.publish_snapshot(extract.drop(columns="churn"), month, written)


def ask(customer_ids, refreshed=None):
    """Predictions of the API for customers by id, and the predictor."""
    predictor = refreshed or Predictor(ServingSettings(), ServingMetrics())
    if refreshed is None:
        predictor.features.open()
        predictor.refresh()
    return asyncio.run(predictor.predict(customer_ids, "request")), predictor


def write_log(predictor) -> None:
    """Write the predictions that wait to be logged."""
    predictor.log.start()
    predictor.log.close()


def predict_first_month(version: int) -> np.ndarray:
    """Probabilities of a version for the customers of the first month."""
    rows = batch.read_scoring_rows(FIRST, SECOND)
    return scoring.score_rows(versions.read_version(version), rows)["churn_probability"].to_numpy()


def use_before(folder: Path, extract: pd.DataFrame, older: int) -> str:
    """Use a home with the features of today: some rows of the second month, an answer, scores.

    Returns:
        Id of the API's prediction.
    """
    np.save(folder / "before.npy", predict_first_month(older))
    publish(extract.head(LEFT), SECOND, SECOND)
    answers, predictor = ask(extract["customer_id"].head(2).tolist())
    write_log(predictor)
    return answers.predictions[0]["prediction_id"]


class Messages(logging.Handler):
    """Keeps what is logged."""

    def __init__(self):
        super().__init__()
        self.texts = []

    def emit(self, record):
        self.texts.append(record.getMessage())


def refusal_of(function, *arguments, **named) -> str:
    try:
        function(*arguments, **named)
    except ChurnError as error:
        return str(error)
    return ""


def look_at_old_rows(folder: Path, older: int, champion: int) -> dict:
    """What rows and versions of before say, before anything is written with the new features."""
    training_set = offline.build_training_set(SECOND)
    old_inputs = artifacts.read_inputs(older)
    rows = offline.training_rows(training_set, "test", old_inputs)
    model = artifacts.load_model(older)
    before = np.load(folder / "before.npy")
    return {
        "lacks": training_set["lacks_features"].value_counts().to_dict(),
        "on_demand_known": int(training_set["yearly_charges"].notna().sum()),
        "on_demand_lacking": int(training_set["months_debited"].isna().sum()),
        "training": refusal_of(offline.training_rows, training_set, "train"),
        "old_inputs": old_inputs,
        "same": bool((predict_first_month(older) == before).all()),
        "compiled": compiled.compare_forms(model, compiled.compile_model(model), rows.head(20)),
        "refits": [
            lineage.compare_refit(
                version, rows, scoring.predict_probability(artifacts.load_model(version), rows)
            ).differing
            for version in (older, champion)
        ],
    }


def ingest_new_months(extract: pd.DataFrame) -> dict:
    """Publish the second and third month with the new features, and the labels of the second."""
    later = extract.iloc[LEFT:]
    publish(later, SECOND, SECOND)
    labelling.record_labels(contract.check_rows(extract)[0], SECOND, THIRD)
    publish(later, THIRD, THIRD)
    version = tables.version_of("customer_features")
    publish(later, THIRD, THIRD)
    published = publishing.PublishedSnapshot(len(later), accepted=len(later), quarantined=0)
    decided = monthly_cycle.decide_month(THIRD, published)
    rows = tables.read("customer_features", snapshot_date=SECOND)
    old = load_champion(deployments.champion_at(THIRD))
    return {
        "written_twice": tables.version_of("customer_features") - version,
        "lacking": int(rows["pays_automatically"].isna().sum()),
        "before_the_columns": list(tables.read("customer_features", version=0)),
        "decision": decided.action,
        "gains": len(decided.evidence.gains),
        "shifts": sorted(decided.evidence.shifts),
        "measured": len(old.with_score(history.read_inputs(SECOND, THIRD))),
    }


def train_new() -> tuple[int, dict]:
    """Train, register and judge a version on the rows that hold the new features; promote it."""
    training_set = offline.build_training_set(THIRD)
    model = factories.fit_model(training_set)
    version = factories.register_model(training_set, model, as_of=THIRD)
    challenger = Challenger(version, THIRD, None, draws=gate.MIN_DRAWS, seed=0)
    findings = gate.evaluate_gate(challenger).set_index("check")
    failed = findings[findings["verdict"] != "pass"]
    assert failed.empty, failed["detail"].to_dict()
    evidence, _ = gate_evidence.read_evidence(version)
    approvals.approve(version, "Ada Lovelace", "tested", THIRD)
    promotion.promote(version, THIRD)
    return version, {
        "gate": findings["verdict"].to_dict(),
        "gate_rows": evidence.rows,
        "new_inputs": artifacts.read_inputs(version),
        "rows_train": int(versions.read_version(version).params["rows_train"]),
        "refit": lineage.compare_refit(
            version,
            offline.training_rows(training_set, "test"),
            scoring.predict_probability(model, offline.training_rows(training_set, "test")),
        ).differing,
    }


def score_months(version: int) -> dict:
    """Score the months in batch with the new version."""
    scored = batch.score_snapshot(SECOND, THIRD, "champion")
    listed = batch.build_retention_list(scored, THIRD, 5)
    return {
        "scored": len(scored),
        "by": scored["model_version"].unique().tolist(),
        "reasons": len(listed),
        "first_month": refusal_of(batch.score_snapshot, FIRST, THIRD, "champion"),
        "third_month": len(batch.score_snapshot(THIRD, THIRD, "champion")),
        "shadow": len(batch.score_snapshot(THIRD, THIRD, "shadow", version=version - 1)),
    }


def ask_api(extract: pd.DataFrame, prediction_id: str) -> dict:
    """Ask the API for a customer of before, one of now and an unknown one; read receipts."""
    left, present = extract["customer_id"].iloc[0], extract["customer_id"].iloc[LEFT]
    answers, predictor = ask([left, present, "UNKNOWN"])
    customers = contract.check_rows(extract.head(1))[0].drop(columns="churn")
    given = asyncio.run(predictor.score(customers.astype(object).to_dict("records"), "request"))
    nothing, _ = ask([left], predictor)
    write_log(predictor)
    scored = tables.read("predictions", snapshot_date=THIRD)
    batched = scored.query("role == 'champion'").set_index("customer_id")["churn_probability"]
    old = predictor.find_receipt(prediction_id)
    new = predictor.find_receipt(answers.predictions[0]["prediction_id"])
    counted = predictor.metrics.registry.get_sample_value("churn_incomplete_customers_total")
    return {
        "answered": [document["customer_id"] == present for document in answers.predictions],
        "version": answers.predictions[0]["model_version"],
        "gap_to_batch": abs(answers.predictions[0]["churn_probability"] - batched[present]),
        "unknown": answers.unknown,
        "incomplete": [name == left for name in answers.incomplete],
        "alone": len(nothing.predictions),
        "counted": counted,
        "given_version": given[0]["model_version"],
        "old_receipt": [old["churn_probability"], old["reproduced_probability"]],
        "old_features": sorted(set(NEW) & set(old["features"])),
        "new_receipt": [new["churn_probability"], new["reproduced_probability"]],
        "new_features": sorted(set(NEW) & set(new["features"])),
        "logged": sorted(set(NEW) & set(tables.read("inference_log"))),
    }


def republish(version: int, older: int) -> dict:
    """Give the features to the rows of before; score them, and train the old version again."""
    code = cli.main(["republish-features"])
    rows = offline.training_rows(
        lineage.read_training_set(older), "test", artifacts.read_inputs(older)
    )
    probability = scoring.predict_probability(artifacts.load_model(older), rows)
    return {
        "republished": code,
        "lacking_then": int(offline.read_features(snapshot_date=SECOND)["line"].isna().sum()),
        "scored_then": len(batch.score_snapshot(SECOND, THIRD, "champion")),
        "refit_then": lineage.compare_refit(older, rows, probability).differing,
    }


def use_after(folder: Path, older: int, champion: int, prediction_id: str) -> dict:
    """Use the home with the new features."""
    messages = Messages()
    logging.getLogger("churn_utils").addHandler(messages)
    extract = pd.read_pickle(folder / "extract.pkl")
    found = look_at_old_rows(folder, older, champion) | ingest_new_months(extract)
    version, trained = train_new()
    found |= trained | score_months(version) | {"api": ask_api(extract, prediction_id)}
    said = sorted(set(messages.texts))
    return found | republish(version, older) | {"version": version, "log": said}


if __name__ == "__main__":
    home, older, champion, prediction_id = sys.argv[1:]
    found = use_after(Path(home), int(older), int(champion), prediction_id)
    print(json.dumps(found, default=str))
