"""Homes for tests: an empty one for each test, and one with a registered model that a module shares."""

import dataclasses
import os
import shutil
import subprocess
import time

import factories
import nbformat
import notebook_factory
import pytest

from churn_utils import settings
from churn_utils.data import contract
from churn_utils.data import source as data_source
from churn_utils.features import offline
from churn_utils.pipeline import executor, stages
from churn_utils.serving import sandbox


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty home and reports folder."""
    monkeypatch.setenv("CHURN_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CHURN_REPORTS", str(tmp_path / "reports"))
    return tmp_path / "home"


@pytest.fixture(scope="session")
def shared_world(tmp_path_factory):
    """Path and contents of a home with IBM's month and one registered version."""
    with factories.at_home(tmp_path_factory.mktemp("registered")) as path:
        return path, factories.build_registered_home()


@pytest.fixture(scope="module")
def registered_home(shared_world):
    """That home, for reading and for new versions: its ``version, model, training_set, trainer``."""
    path, contents = shared_world
    with factories.at_home(path):
        yield contents


@pytest.fixture(scope="session")
def extract_file(tmp_path_factory):
    """IBM's extract as a file of its own, outside any test's home."""
    with factories.at_home(tmp_path_factory.mktemp("extract")):
        return data_source.obtain_extract()


@pytest.fixture(scope="session")
def extract(extract_file):
    """Rows of IBM's extract as delivered; copy before changing them."""
    return data_source.read_delivery(extract_file)


@pytest.fixture(scope="session")
def first_month(extract, tmp_path_factory):
    """Training set of IBM's month, from a home of its own; copy before changing it."""
    start, end = settings.month_start(0), settings.month_start(1)
    with factories.at_home(tmp_path_factory.mktemp("first_month")):
        offline.publish_snapshot(extract, start, start)
        offline.record_labels(contract.check_rows(extract)[0], start, end)
        return offline.build_training_set(end)


@pytest.fixture
def asked():
    """What each round of production will ask for; the months themselves are played in tests/test_run_all.py."""
    return []


@pytest.fixture
def notebooks(home, tmp_path, monkeypatch, asked):
    """A folder of tiny notebooks, and months, that write down that they ran; returns a function to change one."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    monkeypatch.setenv("CHURN_NOTEBOOKS", str(folder))
    monkeypatch.setattr(executor.deployments, "champion_at", lambda date: 1)

    def play(function, *arguments, report):
        with (tmp_path / "ran").open("a") as log:
            log.write("production\n")
        return asked.pop(0) if asked else None

    monkeypatch.setattr(executor.kernels, "call_in_warm_process", play)

    def write(name, source="pass"):
        month = "('_' + AS_OF[:7]) * (AS_OF == '2025-05-01')"
        log = f"open({str(tmp_path / 'ran')!r}, 'a').write({name!r} + {month} + '\\n')"
        nbformat.write(
            notebook_factory.small_notebook(f"{log}\n{source}"), folder / f"{name}.ipynb"
        )

    for name in stages.NOTEBOOKS:
        write(name)
    return write


@pytest.fixture
def ran(tmp_path):
    """Names of the stages that ran since the last call."""

    def read():
        path = tmp_path / "ran"
        names = path.read_text().split() if path.exists() else []
        path.unlink(missing_ok=True)
        return names

    return read


@pytest.fixture(scope="session")
def serving_world(shared_world, tmp_path_factory):
    """A home with a champion (a crude predecessor) and a challenger that passed its gate; copy before using it."""
    path, contents = shared_world
    with factories.at_home(path):
        return sandbox.build_rehearsal(
            tmp_path_factory.mktemp("serving"), factories.AS_OF, contents["version"]
        )


@pytest.fixture(scope="module")
def shared_serving_home(serving_world, tmp_path_factory):
    """A copy of that home for one module."""
    with factories.at_home(
        shutil.copytree(serving_world.home, tmp_path_factory.mktemp("module") / "home")
    ) as path:
        yield dataclasses.replace(serving_world, home=path)


@pytest.fixture
def serving_home(serving_world, tmp_path):
    """A copy of that home for one test."""
    with factories.at_home(shutil.copytree(serving_world.home, tmp_path / "home")) as path:
        yield dataclasses.replace(serving_world, home=path)


@pytest.fixture(scope="session")
def redis_address(tmp_path_factory):
    """A Redis server of our own, reached through a socket file; without persistence, ended after the tests."""
    program = shutil.which("redis-server")
    if program is None and os.environ.get("CI") != "true":
        pytest.skip("redis-server is not installed (apt-get install redis-server)")
    path = tmp_path_factory.mktemp("redis") / "socket"
    command = [
        program,
        "--port",
        "0",
        "--unixsocket",
        str(path),
        "--save",
        "",
        "--appendonly",
        "no",
    ]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=path.parent)
    for _ in range(100):
        if path.exists():
            break
        time.sleep(0.05)
    yield f"unix://{path}"
    server.terminate()
    server.wait(10)
