"""Manipulations of a finished home by somebody who can write its files."""

import json
import shutil
from dataclasses import dataclass, field

import factories
import pandas as pd
import pytest
from deltalake import DeltaTable, write_deltalake

from churn_utils import cli, settings
from churn_utils.data import integrity, table_writes, tables
from churn_utils.data.table_commits import LEDGER
from churn_utils.data.table_log import LOG
from churn_utils.errors import ChurnError
from churn_utils.features import offline, online
from churn_utils.inference import batch, scoring
from churn_utils.registry import (
    aliases,
    approval_checks,
    artifacts,
    deployments,
    gate_evidence,
    lineage,
    promotion,
    verification,
    versions,
)
from churn_utils.serving import ab_test

AS_OF, SNAPSHOT = factories.AS_OF, factories.SNAPSHOT


@pytest.fixture(scope="module")
def finished(serving_world, tmp_path_factory):
    """A home with two versions, a deployment, predictions and a running A/B test."""
    folder = tmp_path_factory.mktemp("finished") / "home"
    with factories.at_home(shutil.copytree(serving_world.home, folder)) as path:
        batch.score_snapshot(SNAPSHOT, AS_OF, "backfill")
        ab_test.start(serving_world.challenger, AS_OF)
    return path, serving_world.predecessor, serving_world.challenger


@dataclass(frozen=True)
class Copy:
    """A copy of that home, which is the home of the test."""

    path: object
    champion: int
    challenger: int
    state: dict = field(default_factory=dict)

    def table(self, name):
        return self.path / "lakehouse" / name

    def data_file(self, name):
        return next(self.table(name).glob("*.parquet"))

    def artifacts_of(self, version):
        return factories.find_model_file(version).parent

    def run_folder(self, version):
        run_id = versions.read_version(version).run_id
        return self.path / "mlflow" / "artifacts" / run_id / "artifacts"

    def approval_tag(self, version):
        tags = versions.read_version(version).tags
        return next(tag for tag in tags if tag.startswith("approval."))


@pytest.fixture
def copy(finished, tmp_path):
    path, champion, challenger = finished
    with factories.at_home(shutil.copytree(path, tmp_path / "home")) as copied:
        yield Copy(copied, champion, challenger)


def edit(path, before, after):
    """Replace bytes in a file, keeping its times."""
    content = path.read_bytes()
    assert before in content
    path.write_bytes(content.replace(before, after, 1))


def flip(path):
    """Change one byte in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def rewrite_parquet(copy, table, column, value):
    """Write a file of a table again with another value in its first row."""
    path = copy.data_file(table)
    rows = pd.read_parquet(path)
    rows.loc[rows.index[0], column] = value
    rows.to_parquet(path, index=False)


def change_tag(version, tag, **changes):
    """Change facts in a tag of a version, in MLflow's database."""
    facts = json.loads(versions.read_version(version).tags[tag]) | changes
    statement = "UPDATE model_version_tags SET value = ? WHERE key = ? AND version = ?"
    factories.change_registry(statement, json.dumps(facts), tag, version)


def drop_line(path, number):
    lines = path.read_bytes().splitlines(keepends=True)
    del lines[number]
    path.write_bytes(b"".join(lines))


def forge_commit(copy):
    """Add rows with Delta's own library."""
    rows = DeltaTable(str(copy.table("churn_labels"))).to_pandas().head(1)
    write_deltalake(str(copy.table("churn_labels")), rows.assign(customer_id="X"), mode="append")


def forge_commit_and_record(copy):
    """Add rows, and a line to the table's ledger that follows from no other."""
    forge_commit(copy)
    ledger = copy.table("churn_labels") / LEDGER
    line = json.loads(ledger.read_text().splitlines()[-1])
    line["facts"] = {"version": line["facts"]["version"] + 1, "files": {}}
    with ledger.open("a") as file:
        file.write(json.dumps(line) + "\n")


def score(copy):
    return batch.score_snapshot(SNAPSHOT, AS_OF, "backfill")


def load_champion(copy):
    return scoring.load_model(versions.read_version(copy.champion))


def serve(copy):
    return promotion.check_deployed(copy.champion)


def verify(copy):
    """Nothing but ``verify`` looks for it."""
    raise ChurnError("; ".join(f.detail for f in verification.verify_home() if f.state == "wrong"))


def exchange_model(copy):
    other = factories.find_model_file(copy.challenger)
    shutil.copy2(other, factories.find_model_file(copy.champion))


def exchange_address(copy):
    statement = "UPDATE model_versions SET storage_location = ? WHERE version = ?"
    uri = copy.artifacts_of(copy.challenger).as_uri()
    factories.change_registry(statement, uri, copy.champion)


def exchange_run(copy):
    statement = "UPDATE model_versions SET run_id = ? WHERE version = ?"
    run_id = versions.read_version(copy.challenger).run_id
    factories.change_registry(statement, run_id, copy.champion)


def set_param(name, value):
    return lambda copy: factories.change_param(copy.champion, name, value)


def rename_trainer(copy):
    run_id = versions.read_version(copy.champion).run_id
    statement = "UPDATE tags SET value = 'Eve' WHERE key = 'trained_by' AND run_uuid = ?"
    factories.change_registry(statement, run_id)


def forge_approval(copy):
    """Turn the challenger's approval for an A/B test into one for a promotion."""
    tag = copy.approval_tag(copy.challenger)
    facts = json.loads(versions.read_version(copy.challenger).tags[tag]) | {"scope": "champion"}
    forged = f"approval.champion.{facts['evidence_sha256']}"
    versions.set_tags(copy.challenger, {forged: json.dumps(facts)})


def edit_evidence(copy):
    digest = versions.read_version(copy.champion).tags["gate_evidence_sha256"]
    edit(copy.run_folder(copy.champion) / "gate" / f"{digest}.json", b'"pass"', b'"pas" ')


def put_back(copy, table):
    """Take the last commit of a table away, and its record."""
    delta = DeltaTable(str(copy.table(table)))
    (copy.table(table) / LOG / f"{delta.version():020}.json").unlink()


def forge_checkpoint(copy):
    delta = DeltaTable(str(copy.table("churn_labels")))
    delta.create_checkpoint()


def read_audit(copy):
    return deployments.read_audit()


def append_again(copy):
    """Write what is there with the next commit's number, as a copy of an older file."""
    log = copy.table("churn_labels") / LOG
    newest = DeltaTable(str(copy.table("churn_labels"))).version()
    shutil.copy2(log / f"{0:020}.json", log / f"{newest + 1:020}.json")


def train(copy):
    return offline.build_training_set(AS_OF)


def publish_online(copy):
    return online.publish_changes(online.open_store())


# name: manipulation, first use, and what its message names
MANIPULATIONS = {
    "costs": (set_param("offer_cost_usd", 5.0), score, "offer_cost_usd"),
    "hyperparameters": (set_param("num_leaves", 3), serve, "num_leaves"),
    "training date": (set_param("as_of", "2025-03-01"), serve, "as_of"),
    "table version": (
        set_param("churn_labels_version", 7),
        lambda copy: lineage.refit(copy.champion),
        "churn_labels_version",
    ),
    "trainer": (rename_trainer, serve, "trained_by"),
    "model file of another version": (exchange_model, load_champion, "model folder"),
    "address of another version": (exchange_address, load_champion, "model folder"),
    "run of another version": (exchange_run, serve, "run_id"),
    "loader": (
        lambda copy: edit(
            copy.artifacts_of(copy.champion) / "MLmodel", b"mlflow.sklearn", b"os.path.sklearn"
        ),
        load_champion,
        "model folder",
    ),
    "added file beside the model": (
        lambda copy: (copy.artifacts_of(copy.champion) / "code.py").write_text("1"),
        load_champion,
        "model folder",
    ),
    "feature contract": (
        lambda copy: edit(
            copy.run_folder(copy.champion) / "feature_contract.json", b"tenure", b"gender"
        ),
        lambda copy: artifacts.read_inputs(copy.champion),
        "feature contract",
    ),
    "approver": (
        lambda copy: change_tag(copy.champion, copy.approval_tag(copy.champion), approver="Eve"),
        score,
        "approver",
    ),
    "expiry": (
        lambda copy: change_tag(
            copy.challenger, copy.approval_tag(copy.challenger), expires="2099-01-01"
        ),
        lambda copy: ab_test.check_may_serve(copy.challenger, AS_OF),
        "expires",
    ),
    "forged approval": (
        forge_approval,
        lambda copy: approval_checks.check_newest(versions.read_version(copy.challenger), AS_OF),
        "somebody else wrote it",
    ),
    "dropped approval": (
        lambda copy: factories.change_registry(
            "DELETE FROM model_version_tags WHERE key LIKE 'approval.%' AND version = ?",
            copy.champion,
        ),
        score,
        "no approval",
    ),
    "share of an A/B test": (
        lambda copy: change_tag(copy.challenger, "trial", share=0.5),
        lambda copy: ab_test.read_running(),
        "share: 0.1, now 0.5",
    ),
    "evidence": (edit_evidence, serve, "evidence"),
    "dropped evidence": (
        lambda copy: shutil.rmtree(copy.run_folder(copy.challenger) / "gate"),
        lambda copy: gate_evidence.read_evidence(copy.challenger),
        "evidence",
    ),
    "description": (
        lambda copy: factories.change_registry(
            "UPDATE model_versions SET description = 'x' WHERE version = ?", copy.champion
        ),
        verify,
        "description changed after the gate",
    ),
    "alias": (
        lambda copy: aliases.set_champion(copy.challenger),
        verify,
        "alias champion",
    ),
    "verdict of the gate": (
        lambda copy: versions.set_tags(copy.challenger, {"gate": "fail"}),
        verify,
        "the tag says otherwise",
    ),
    "features": (
        lambda copy: rewrite_parquet(copy, "customer_features", "monthly_charges", 1.0),
        score,
        "customer_features/part-.* was changed",
    ),
    "features, then published": (
        lambda copy: rewrite_parquet(copy, "customer_features", "monthly_charges", 1.0),
        publish_online,
        "customer_features/part-.* was changed",
    ),
    "labels": (
        lambda copy: rewrite_parquet(copy, "churn_labels", "churned", True),
        train,
        "churn_labels/part-.* was changed",
    ),
    "predictions": (
        lambda copy: rewrite_parquet(copy, "predictions", "churn_probability", 0.9),
        lambda copy: tables.read("predictions"),
        "predictions/part-.* was changed",
    ),
    "deployments": (
        lambda copy: rewrite_parquet(copy, "deployments", "approved_by", "Eve"),
        score,
        "deployments/part-.* was changed",
    ),
    "audit": (
        lambda copy: rewrite_parquet(copy, "audit", "by", "Eve"),
        read_audit,
        "audit/part-.* was changed",
    ),
    "dropped entry of the audit": (
        lambda copy: shutil.rmtree(copy.table("audit")),
        read_audit,
        "entries .1. of the audit are gone",
    ),
    "commit log": (
        lambda copy: flip(copy.table("churn_labels") / LOG / f"{0:020}.json"),
        train,
        "json",
    ),
    "dropped commit": (
        lambda copy: put_back(copy, "deployments"),
        score,
        "table deployments is empty|commit 0 .*is missing|no champion",
    ),
    "forged commit": (forge_commit, train, "was not written by this project"),
    "forged commit and record": (forge_commit_and_record, train, "line .* was edited"),
    "commit repeated": (append_again, train, "was not written by this project"),
    "forged checkpoint": (forge_checkpoint, train, "was not written by this project"),
    "digests of a table": (
        lambda copy: (copy.table("churn_labels") / LEDGER).unlink(),
        train,
        "is missing",
    ),
    "line of the ledger": (
        lambda copy: edit(
            settings.ledger(), b'"offer_cost_usd":"500.0"', b'"offer_cost_usd":"5.0"'
        ),
        score,
        "line .* was edited",
    ),
    "dropped line of the ledger": (
        lambda copy: drop_line(settings.ledger(), 3),
        score,
        "line 4 .*a line before it was dropped",
    ),
    "cut end of the ledger": (
        lambda copy: drop_line(settings.ledger(), -1),
        lambda copy: ab_test.read_running(),
        "somebody else wrote it|trial",
    ),
    "ledger": (
        lambda copy: settings.ledger().unlink(),
        verify,
        "does not know of them",
    ),
}


IN_SHORT = {"costs", "loader", "approver", "features", "forged commit", "cut end of the ledger"}
CASES = [
    pytest.param(name, marks=[] if name in IN_SHORT else pytest.mark.long) for name in MANIPULATIONS
]


@pytest.mark.parametrize("name", CASES)
def test_a_manipulation_is_found_before_use(copy, name):
    manipulate, use, message = MANIPULATIONS[name]
    scoring._load.cache_clear()
    manipulate(copy)
    with pytest.raises(ChurnError, match=message):
        use(copy)
    assert cli.main(["verify"]) == 1


def test_a_sound_home_is_verified(copy, capsys):
    assert cli.main(["verify"]) == 0
    printed = capsys.readouterr().out
    assert " sound, 0 not recorded, 0 wrong. Ledger: " in printed and "not signed" in printed


@pytest.fixture
def old_home(copy):
    """The copy as if it had been written before digests were kept."""
    settings.ledger().unlink()
    for ledger in copy.path.rglob(LEDGER):
        ledger.unlink()
    return copy


def test_an_old_home_works_and_is_no_error(old_home, capsys):
    score(old_home)
    publish_online(old_home)
    assert serve(old_home).approver
    assert cli.main(["verify"]) == 0
    printed = capsys.readouterr().out
    assert "not recorded: table churn_labels: written before digests were kept" in printed
    assert "0 wrong" in printed


def test_what_an_old_home_writes_is_recorded(old_home):
    labels = tables.read("churn_labels").head(1)
    table_writes.merge("churn_labels", labels.assign(customer_id="X"))
    score(old_home)
    newest = max(old_home.table("churn_labels").glob("*.parquet"), key=lambda p: p.stat().st_mtime)
    flip(newest)
    with pytest.raises(ChurnError, match="was changed after it was written"):
        train(old_home)


def test_an_old_home_can_be_adopted(old_home, capsys):
    assert cli.main(["verify", "--adopt"]) == 0
    assert ", 0 not recorded, 0 wrong" in capsys.readouterr().out
    rewrite_parquet(old_home, "churn_labels", "churned", True)
    with pytest.raises(ChurnError, match="churn_labels/part-.* was changed"):
        train(old_home)


# --- with a key


@pytest.fixture
def signed(copy, monkeypatch):
    """The copy, signed."""
    monkeypatch.setenv("CHURN_SIGNING_KEY", "secret")
    assert cli.main(["verify", "--adopt"]) == 0
    return copy


def forge_chain(path, before, after):
    """Edit a ledger and compute all its digests again, as can be done without the key."""
    entries = [json.loads(line) for line in path.read_text().replace(before, after).splitlines()]
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("CHURN_SIGNING_KEY", raising=False)
        path.unlink()
        for entry in entries:
            integrity.append_facts(path, entry["facts"])


def test_a_chain_made_without_the_key_is_found(signed, capsys):
    factories.change_param(signed.champion, "offer_cost_usd", 5.0)
    forge_chain(settings.ledger(), '"offer_cost_usd":"500.0"', '"offer_cost_usd":"5.0"')
    with pytest.raises(ChurnError, match="line 1 of .* is not signed with the key"):
        score(signed)
    assert cli.main(["verify"]) == 1


def test_another_key_verifies_nothing(signed, monkeypatch):
    score(signed)
    monkeypatch.setenv("CHURN_SIGNING_KEY", "guess")
    with pytest.raises(ChurnError, match="is not signed with the key"):
        score(signed)


def test_without_the_key_a_signed_home_is_only_read(signed, monkeypatch):
    labels = tables.read("churn_labels").head(1)
    monkeypatch.delenv("CHURN_SIGNING_KEY")
    assert cli.main(["verify"]) == 0
    with pytest.raises(ChurnError, match="is signed; set CHURN_SIGNING_KEY to write"):
        table_writes.merge("churn_labels", labels.assign(customer_id="X"))
    with pytest.raises(ChurnError, match="is signed; set CHURN_SIGNING_KEY to write"):
        ab_test.stop(signed.challenger, "tested")


def test_with_a_key_an_unsigned_home_is_refused(copy, monkeypatch, capsys):
    monkeypatch.setenv("CHURN_SIGNING_KEY", "secret")
    with pytest.raises(ChurnError, match="verify --adopt"):
        score(copy)
    settings.ledger().unlink()
    (copy.table("churn_labels") / LEDGER).unlink()
    with pytest.raises(ChurnError, match="nothing signs it"):
        train(copy)
