"""The serving image: no container runs here, so its parts are compared with each other."""

import ast
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from package_imports import imported_modules

from churn_utils.settings import PROJECT

DOCKERFILE = (PROJECT / "Dockerfile").read_text()
PACKAGE = PROJECT / "churn_utils"


def read_pins(path):
    return dict(re.findall(r"^([a-z0-9-]+)==([^ ]+)", path.read_text(), re.M))


def modules_of_the_api():
    found, waiting = set(), ["cli"]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += imported_modules(PACKAGE / f"{name}.py")
    return found


def packages_imported(name):
    for node in ast.walk(ast.parse((PACKAGE / f"{name}.py").read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


def test_hadolint_has_no_objection():
    program = shutil.which("hadolint", path=Path(sys.executable).parent)
    if program is None:
        pytest.skip("hadolint is not installed on this platform")
    found = subprocess.run([program, PROJECT / "Dockerfile"], capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (0, "")


def test_the_image_holds_every_imported_package():
    pins = read_pins(PROJECT / "locks" / "serving.lock")
    of_package = importlib.metadata.packages_distributions()
    wanted = {package for name in modules_of_the_api() for package in packages_imported(name)}
    wanted -= set(sys.stdlib_module_names) | {"churn_utils", "__future__"}
    known = {
        package: {re.sub(r"[-_.]+", "-", d).lower() for d in of_package[package]}
        for package in wanted
    }
    assert {package for package, names in known.items() if not names & set(pins)} == set()
    assert len(wanted) > 10


def test_the_image_has_the_tested_versions_with_hashes():
    ours, image = (
        read_pins(PROJECT / "requirements.lock"),
        read_pins(PROJECT / "locks" / "serving.lock"),
    )
    assert {
        name: version for name, version in image.items() if ours.get(name, version) != version
    } == {}
    text = (PROJECT / "locks" / "serving.lock").read_text()
    assert "://" not in text and all(
        line.endswith("\\") for line in re.findall(r"^[a-z0-9-]+==.*$", text, re.M)
    )


def test_the_image_copies_existing_files_and_is_not_root():
    for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.M):
        assert all((PROJECT / source).exists() for source in line.split()[:-1])
    assert re.search(r"^USER \d+$", DOCKERFILE, re.M) and "HEALTHCHECK" in DOCKERFILE
    assert DOCKERFILE.count("FROM ") == 2


def test_compose_opens_ports_on_this_machine_only():
    services = yaml.safe_load((PROJECT / "compose.yaml").read_text())["services"]
    assert set(services) == {"api", "redis", "mlflow"}
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports and all(port.startswith("127.0.0.1:") for port in ports)
    version = read_pins(PROJECT / "requirements.lock")["mlflow"]
    assert services["mlflow"]["image"].endswith(f":v{version}")


def test_the_documented_compose_command_sets_its_variables(tmp_path):
    text = (PROJECT / "compose.yaml").read_text()
    command = re.search(r"^#.*?(\w+=.* docker compose up.*)$", text, re.M).group(1)
    docker = tmp_path / "docker"
    docker.write_text("#!/bin/sh\nenv\n")
    docker.chmod(0o755)
    found = subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
    )
    assert (found.returncode, found.stderr) == (0, "")
    given = dict(line.split("=", 1) for line in found.stdout.splitlines())
    assert (given["HOME_DIR"], given["CHURN_UID"]) == (f"{tmp_path}/data", str(os.getuid()))
    assert (
        "${CHURN_UID:-10001}" in text and "${UID" not in text
    )  # bash's own, which it neither sets nor exports
