import shutil

import pytest

from churn_utils import settings
from churn_utils.data import source
from churn_utils.registry import provenance


def test_the_origin_is_that_of_the_files_that_are_there(home):
    empty = provenance.describe_origin()
    assert list(empty) == provenance.FIELDS
    assert empty["source_sha256"] == empty["world"] == ""
    source.obtain_extract()
    (home / "world.json").write_text('{"scenario": "none"}')
    found = provenance.describe_origin()
    assert found["source_sha256"] == source.SHA256
    assert "none" in found["world"]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project folder with one module, no git and no lock."""
    monkeypatch.setattr(settings, "PROJECT", tmp_path)
    monkeypatch.setenv("CHURN_HOME", str(tmp_path / "home"))
    (tmp_path / "churn_utils").mkdir()
    (tmp_path / "churn_utils" / "training.py").write_text("FOLDS = 5\n")
    return tmp_path


def test_the_code_is_told_apart_by_its_contents_and_without_git(project):
    before = provenance.describe_origin()
    assert before["code_commit"] == before["lock_sha256"] == ""
    (project / "churn_utils" / "training.py").write_text("FOLDS = 6\n")
    (project / "requirements.lock").write_text("numpy==2\n")
    after = provenance.describe_origin()
    assert after["code_sha256"] != before["code_sha256"]
    assert len(after["lock_sha256"]) == 64


def test_uncommitted_code_is_said_to_be_so(project):
    def git(*arguments):
        provenance.subprocess.run(["git", *arguments], cwd=project, check=True, capture_output=True)

    git("init")
    git("add", ".")
    git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-m", "first")
    committed = provenance.describe_origin()["code_commit"]
    assert len(committed) == 40
    (project / "churn_utils" / "training.py").write_text("FOLDS = 6\n")
    assert provenance.describe_origin()["code_commit"] == f"{committed}+changes"


PACKAGE = settings.PROJECT / "churn_utils"
ONE_MODULE_A_FOLDER = sorted(
    min(path for path in folder.glob("*.py"))
    for folder in {path.parent for path in PACKAGE.rglob("*.py")}
)


@pytest.mark.parametrize(
    "module", ONE_MODULE_A_FOLDER, ids=lambda path: path.parent.relative_to(PACKAGE).as_posix()
)
def test_code_digest_changes_with_a_module_of_any_folder(module, tmp_path, monkeypatch):
    copy = tmp_path / "churn_utils"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    original = provenance.hash_code()
    monkeypatch.setattr(settings, "PROJECT", tmp_path)
    assert provenance.hash_code() == original
    changed = copy / module.relative_to(PACKAGE)
    changed.write_text(changed.read_text() + "CHANGED = True\n")
    assert provenance.hash_code() != original
