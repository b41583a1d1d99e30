"""Homes that tests share, small pipelines, and a Redis server."""

import dataclasses
import os
import shutil
import sqlite3
import subprocess
import time
from contextlib import closing
from types import SimpleNamespace

import factories
import notebook_factory
import papermill
import pytest

from churn_utils import settings
from churn_utils.data import delivered_files
from churn_utils.data import source as data_source
from churn_utils.pipeline import kernels, warm_process
from churn_utils.registry import connection, deployments, promotion, versions
from churn_utils.reports import html
from churn_utils.serving import sandbox

# The host that starlette's client names.
os.environ["CHURN_ALLOWED_HOSTS"] = "testserver,localhost,127.0.0.1"
# What takes seconds to build: a test that uses one of these is slow.
SLOW_FIXTURES = {
    "built_home",
    "extract",
    "first_month",
    "gauntlet",
    "kernel_pipeline",
    "published_home",
    "redis_address",
    "registered_home",
    "serving_home",
    "shared_serving_home",
    "shared_world",
}


def pytest_collection_modifyitems(items):
    """Mark the tests whose fixtures take seconds to build as slow."""
    for item in items:
        if SLOW_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session", autouse=True)
def patched_new_databases(tmp_path_factory):
    """MLflow runs its migrations for the first new database; the next ones are copies of it."""
    template = tmp_path_factory.mktemp("mlflow") / "empty.db"
    open_database = connection.open_database

    def open_copy(database):
        is_new = not database.exists()
        if is_new and template.exists():
            shutil.copy(template, database)
        has_experiment = open_database(database)
        if is_new and not template.exists():
            with (
                closing(sqlite3.connect(database)) as made,
                closing(sqlite3.connect(template)) as copy,
            ):
                made.backup(copy)
        return has_experiment

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connection, "open_database", open_copy)
        yield


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty home and reports folder."""
    monkeypatch.setenv("CHURN_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CHURN_REPORTS", str(tmp_path / "reports"))
    return tmp_path / "home"


@pytest.fixture(scope="session")
def published_home(tmp_path_factory):
    """Path of a home with IBM's month and its labels, and the training set; copy before use."""

    def build(folder):
        with factories.at_home(folder / "home") as path:
            return path, factories.publish_first_month()

    return factories.build_once(tmp_path_factory, "published", build)


@pytest.fixture(scope="session")
def built_home(published_home, tmp_path_factory):
    """Path and contents of such a home with one registered version; copy before use."""
    published, training_set = published_home

    def build(folder):
        with factories.at_copy(published, folder) as path:
            return path, factories.register_first_version(training_set)

    return factories.build_once(tmp_path_factory, "built", build)


@pytest.fixture(scope="session")
def shared_world(built_home, tmp_path_factory):
    """A copy of that home, in which tests register more versions, and its contents."""
    path, contents = built_home
    with factories.at_copy(path, tmp_path_factory.mktemp("registered")) as copy:
        return copy, contents


@pytest.fixture(scope="module")
def registered_home(shared_world):
    """That home, to read and to register versions: ``version, model, training_set, trainer``."""
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
    return delivered_files.read_delivery(extract_file)


@pytest.fixture(scope="session")
def first_month(published_home):
    """Training set of IBM's month; copy before changing it."""
    return published_home[1]


@pytest.fixture
def kernel_pipeline(home, tmp_path, monkeypatch):
    """A pipeline of small notebooks in real kernels; months and the champion are patched."""
    pipeline = notebook_factory.SmallPipeline(tmp_path)
    monkeypatch.setenv("CHURN_NOTEBOOKS", str(pipeline.notebooks))
    monkeypatch.setattr(deployments, "champion_at", lambda date: 1)
    monkeypatch.setattr(warm_process, "call_in_warm_process", pipeline.call_in_warm_process)
    return pipeline


@pytest.fixture
def patched_pipeline(kernel_pipeline, monkeypatch):
    """The same without kernels, page export and MLflow; the index is written as ever."""
    monkeypatch.setattr(papermill, "execute_notebook", notebook_factory.execute_in_process)
    monkeypatch.setattr(kernels, "use_forked_kernels", lambda: False)
    monkeypatch.setattr(html, "export_notebook", notebook_factory.write_empty_page)
    monkeypatch.setattr(html, "copy_assets", lambda folder: None)
    monkeypatch.setattr(promotion, "realign_champion", lambda: None)
    return kernel_pipeline


@pytest.fixture(scope="session")
def sandbox_build(built_home, tmp_path_factory):
    """A sandbox, the home named after its build, and the copied home's versions round it."""
    path, contents = built_home

    def build(folder):
        with factories.at_home(path):
            before = versions.list_versions()
            built = sandbox.build_sandbox(folder / "home", factories.AS_OF, contents["version"])
            named = settings.home()
        with factories.at_home(path):
            after = versions.list_versions()
        return SimpleNamespace(sandbox=built, named=named, before=before, after=after)

    return factories.build_once(tmp_path_factory, "sandbox", build)


@pytest.fixture(scope="session")
def serving_world(sandbox_build):
    """A home with a crude champion and a challenger that passed its gate; copy before use."""
    return sandbox_build.sandbox


@pytest.fixture(scope="module")
def shared_serving_home(serving_world, tmp_path_factory):
    """A copy of that home for one module."""
    with factories.at_copy(serving_world.home, tmp_path_factory.mktemp("module")) as path:
        yield dataclasses.replace(serving_world, home=path)


@pytest.fixture
def serving_home(serving_world, tmp_path):
    """A copy of that home for one test."""
    with factories.at_copy(serving_world.home, tmp_path) as path:
        yield dataclasses.replace(serving_world, home=path)


@pytest.fixture(scope="session")
def redis_address(tmp_path_factory):
    """Address of a Redis server for the tests: a socket file, nothing is kept."""
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
    for _ in range(1200):
        if path.exists():
            break
        time.sleep(0.05)
    yield f"unix://{path}"
    server.terminate()
    server.wait(10)
