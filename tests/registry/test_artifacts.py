import os
import tempfile

import factories
import pytest
import yaml

from churn_utils.errors import ModelError
from churn_utils.registry import artifacts, gate_evidence, versions
from churn_utils.registry.connection import connect_mlflow


@pytest.fixture
def change_flavor(registered_home):
    """Change the file that says how a version's model is loaded, as write access allows."""
    path = factories.find_model_file(registered_home["version"]).with_name("MLmodel")
    text = path.read_text()

    def change(**facts):
        content = yaml.safe_load(text)
        content["flavors"]["sklearn"] |= facts
        path.write_text(yaml.safe_dump(content))

    yield change
    path.write_text(text)


@pytest.mark.parametrize(
    "read",
    [
        artifacts.hash_model,
        artifacts.load_model,
        artifacts.read_example,
        artifacts.read_inputs,
        artifacts.read_schema,
        lambda version: gate_evidence.describe_record(versions.read_version(version)),
    ],
)
def test_reading_a_version_leaves_no_copy(registered_home, tmp_path, monkeypatch, read):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    read(registered_home["version"])
    assert list(tmp_path.iterdir()) == []


def test_ours_are_kept_in_a_format_that_runs_no_code(registered_home):
    artifacts.check_format(registered_home["version"])


def test_a_pickled_model_is_not_loaded(registered_home, change_flavor):
    change_flavor(serialization_format="cloudpickle")
    with pytest.raises(ModelError, match="is kept as cloudpickle, which may run code when"):
        artifacts.load_model(registered_home["version"])


def test_a_model_may_not_widen_the_list_of_types_itself(registered_home, change_flavor):
    change_flavor(skops_trusted_types=[*artifacts.TRUSTED_TYPES, "os.system"])
    with pytest.raises(ModelError, match="asks for types that no model here has: os.system"):
        artifacts.load_model(registered_home["version"])


class Touch:
    """What a pickle can do: run a command when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_the_code_in_a_pickle_does_not_run(registered_home, change_flavor, tmp_path):
    import cloudpickle

    folder, trace = factories.find_model_file(registered_home["version"]).parent, tmp_path / "ran"
    (folder / "model.pkl").write_bytes(cloudpickle.dumps(Touch(str(trace))))
    try:
        change_flavor(serialization_format="cloudpickle", pickled_model="model.pkl")
        loaded = connect_mlflow().sklearn.load_model
        with pytest.raises(ModelError):
            artifacts.load_model(registered_home["version"])
        assert not trace.exists()
        loaded(str(folder))  # to see that it would have run
        assert trace.exists()
    finally:
        (folder / "model.pkl").unlink()
