import factories
import pytest

from churn_utils import settings
from churn_utils.errors import DeploymentError, ModelError
from churn_utils.registry import gate_evidence, versions
from churn_utils.registry.connection import connect_mlflow


@pytest.fixture
def version(built_home, tmp_path):
    """A version that the gate has not judged, in a home of its own."""
    path, contents = built_home
    with factories.at_copy(path, tmp_path):
        yield contents["version"]


def test_evidence_is_added_and_the_same_facts_are_kept_once(version):
    first = factories.pass_gate(version, seed=0, verdict="fail")
    second = factories.pass_gate(version, seed=1)
    assert factories.pass_gate(version, seed=0, verdict="fail") == first != second
    assert versions.read_version(version).tags["gate_runs"] == "2"
    kept = [gate_evidence.read_evidence(version, digest) for digest in (first, second)]
    assert [(found.seed, found.run, digest) for found, digest in kept] == [
        (0, 1, first),
        (1, 2, second),
    ]
    assert gate_evidence.read_evidence(version) == kept[0]  # the newest is what the gate found last


def test_a_gate_that_was_cut_short_is_counted_by_the_next(version):
    factories.pass_gate(version)
    connect_mlflow().MlflowClient().delete_model_version_tag(
        settings.MODEL_NAME, str(version), "gate_runs"
    )
    factories.pass_gate(version)
    assert versions.read_version(version).tags["gate_runs"] == "1"


def test_edited_evidence_is_not_taken_for_the_same_facts(version):
    first = factories.pass_gate(version, seed=0)
    factories.change_evidence(version, first, seed=1)
    again = factories.pass_gate(version, seed=1)
    assert gate_evidence.read_evidence(version)[1] == again != first


def test_evidence_that_is_gone_is_missed(version):
    factories.pass_gate(version)
    with pytest.raises(
        ModelError, match=f"the evidence {'0' * 64} of version {version} cannot be read"
    ):
        gate_evidence.read_evidence(version, "0" * 64)


def test_evidence_with_wrong_facts_is_refused(version):
    digest = factories.pass_gate(version)
    factories.change_evidence(version, digest, verdict=None, champion="the best")
    with pytest.raises(DeploymentError, match="was changed: 2 of its facts are missing or wrong"):
        gate_evidence.read_evidence(version)
