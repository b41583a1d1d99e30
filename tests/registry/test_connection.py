"""Homes that are moved or copied, and homes at unusual paths."""

import shutil
import subprocess
import sys

import factories
import pytest

from churn_utils import settings
from churn_utils.data import tables
from churn_utils.errors import DataError
from churn_utils.features import online
from churn_utils.inference import batch, compiled, scoring
from churn_utils.registry import approvals, promotion, versions

AS_OF, SNAPSHOT = factories.AS_OF, factories.SNAPSHOT


@pytest.fixture(params=["moved", "a home ü 50% #1"])
def moved(serving_home, tmp_path, request, monkeypatch):
    """A home that was used where it was and then moved."""
    promotion.check_deployed(serving_home.predecessor)
    path = tmp_path / request.param
    shutil.move(serving_home.home, path)
    monkeypatch.setenv("CHURN_HOME", str(path))
    return path, serving_home


def test_a_moved_home_goes_on_in_its_new_place(moved):
    path, former = moved
    scoring._load.cache_clear()
    info = versions.read_version(former.predecessor)
    compiled.load_compiled(info)
    batch.score_snapshot(SNAPSHOT, AS_OF, "backfill")
    online.publish_changes(online.open_store())
    factories.pass_gate(former.challenger)
    approvals.approve(former.challenger, "Ada Lovelace", "tested", AS_OF)
    promotion.promote(former.challenger, AS_OF)
    assert str(factories.find_model_file(former.challenger)).startswith(str(path.parent))
    assert not former.home.exists()


def test_a_copy_does_not_read_the_original(serving_home, tmp_path, monkeypatch):
    copy = shutil.copytree(serving_home.home, tmp_path / "copy")
    factories.find_model_file(serving_home.predecessor).unlink()
    monkeypatch.setenv("CHURN_HOME", str(copy))
    scoring._load.cache_clear()
    scoring.load_model(versions.read_version(serving_home.predecessor))


@pytest.mark.parametrize("name", ["a[b", "a]b", "a%20b", "a^b", "a|b", "a?b", "a\\b"])
def test_a_path_that_delta_cannot_read_is_refused(tmp_path, name, monkeypatch):
    monkeypatch.setenv("CHURN_HOME", str(tmp_path / name))
    with pytest.raises(DataError, match="Give the home another path"):
        tables.exists("customers")


@pytest.mark.long
def test_a_run_in_a_folder_with_blanks_and_umlauts(tmp_path):
    folder = tmp_path / "Läufe 50% fertig"
    command = [sys.executable, str(settings.PROJECT / "run_all.py"), "--profile", "fast"]
    places = ["--home", str(folder / "home"), "--reports", str(folder / "reports")]
    done = subprocess.run([*command, *places], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    verify = [sys.executable, "-m", "churn_utils", "verify", "--home", str(folder / "home")]
    verified = subprocess.run(verify, capture_output=True, text=True, check=False)
    assert verified.returncode == 0 and " 0 wrong" in verified.stdout, verified.stdout
