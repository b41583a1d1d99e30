import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import factories
import pytest
from log_entries import make_entries

from churn_utils import cli, settings
from churn_utils.data import table_writes
from churn_utils.inference import log_rows
from churn_utils.registry import approvals, deployments, promotion

COMMANDS = [
    "serve",
    "ab-test",
    "rollback",
    "accept-delivery",
    "erase",
    "audit",
    "compact-log",
    "republish-features",
]
AB_TEST = [f"ab-test {action}" for action in ("start", "shadow", "status", "stop")]


@pytest.mark.parametrize("command", ["", *COMMANDS, *AB_TEST])
def test_help_shows_exit_codes_and_examples(command, capsys):
    assert cli.main([*command.split(), "--help"]) == 0
    text = capsys.readouterr().out
    assert "exit codes:" in text and f"  python -m churn_utils {command}".rstrip() in text


def test_help_imports_neither_pandas_nor_mlflow():
    code = "import sys; from churn_utils.cli import main; main(['--help']); "
    code += "sys.exit('pandas' in sys.modules or 'mlflow' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.returncode == 0 and all(command in found.stdout for command in COMMANDS)


def test_serve_help_names_options_and_variables(capsys):
    assert cli.main(["serve", "--help"]) == 0
    text = capsys.readouterr().out
    for name in ("127.0.0.1", "CHURN_RATE_LIMIT", "CHURN_HOME"):
        assert name in text


@pytest.mark.parametrize(
    ("variables", "arguments", "code", "message"),
    [
        ({"RATE_LIMIT": "fast"}, [], 2, "CHURN_RATE_LIMIT is 'fast'"),
        ({}, ["--port", "99999"], 2, "--port is 99999"),
        ({"ONLINE_STORE": "localhost:6379"}, [], 2, "write one such as redis://localhost:6379/0"),
        ({"ONLINE_STORE": "redis://localhost:x/0"}, [], 2, "CHURN_ONLINE_STORE is no address"),
        ({"ONLINE_STORE": "redis://127.0.0.1:1/0"}, [], 1, "no Redis server answers"),
        ({"HOME": "/proc/home"}, [], 1, "the home /proc/home (CHURN_HOME) cannot be written"),
    ],
)
def test_serve_says_in_one_line_why_it_cannot_start(
    home, monkeypatch, capsys, variables, arguments, code, message
):
    for name, value in variables.items():
        monkeypatch.setenv(f"CHURN_{name}", value)
    assert cli.main(["serve", *(arguments or ["--port", "0"])]) == code
    said = capsys.readouterr().err
    assert said.startswith("error: ") and message in said and said.count("\n") == 1


def test_serve_ends_with_1_when_its_port_is_taken(home, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code = cli.main(["serve", "--port", str(port)])
    said = (
        f"error: port {port} of 127.0.0.1 cannot be had: Address already in use. "
        "Choose another with --port.\n"
    )
    assert (code, capsys.readouterr().err) == (1, said)


@pytest.mark.parametrize(
    "command",
    [
        "ab-test status",
        "ab-test stop 3 --reason x",
        "rollback --by x --reason x",
        "accept-delivery 2025-04 --by x --reason x",
        "erase 7590-VHVEG --by x --reason x",
        "audit",
        "compact-log",
        "republish-features",
    ],
)
def test_a_mistyped_home_is_refused_and_not_created(command, tmp_path, home, monkeypatch, capsys):
    monkeypatch.setenv("CHURN_HOME", str(home))  # restored after the command has set its own
    assert cli.main([*command.split(), "--home", str(tmp_path / "typo")]) == 1
    said = capsys.readouterr().err
    assert "is --home (CHURN_HOME) right?" in said and said.count("\n") == 1
    assert not (tmp_path / "typo").exists()


def test_rollback_restores_the_predecessor_and_audit_shows_it(serving_home, monkeypatch, capsys):
    monkeypatch.setenv("CHURN_TODAY", "2025-02-01")
    approvals.approve(serving_home.challenger, "Ada", "good", factories.AS_OF)
    promotion.promote(serving_home.challenger, factories.AS_OF)
    assert cli.main(["rollback", "--by", "Grace", "--reason", "complaints"]) == 0
    assert f"Version {serving_home.predecessor} is in effect again" in capsys.readouterr().out
    assert deployments.version_in_effect() == serving_home.predecessor
    assert cli.main(["audit"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert "rolled back" in last and "Grace" in last and "complaints" in last
    assert cli.main(["rollback", "--by", "Grace", "--reason", "again"]) == 1
    assert "nothing to roll back to" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--by", "Grace"],
        ["--reason", "x"],
        ["--by", " ", "--reason", "x"],
        ["--by", "Grace", "--reason", " "],
        ["--by", "Grace", "--reason", "x", "--as-of", "2025-02-02"],
    ],
)
def test_rollback_needs_a_name_a_reason_and_a_month(arguments, home, capsys):
    assert cli.main(["rollback", *arguments]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_compact_log_removes_old_answers(home, monkeypatch, capsys):
    settings.mlflow_folder().mkdir(parents=True)
    settings.mlflow_database().touch()  # the home of a registry
    for days in (100, 10):
        answered_at = datetime.now(UTC) - timedelta(days=days)
        entries = make_entries(3, answered_at=answered_at)
        table_writes.append("inference_log", log_rows.to_arrow(entries))
    monkeypatch.setenv("CHURN_LOG_RETENTION_MONTHS", "0")
    assert cli.main(["compact-log"]) == 2
    assert "CHURN_LOG_RETENTION_MONTHS is '0'" in capsys.readouterr().err
    monkeypatch.setenv("CHURN_LOG_RETENTION_MONTHS", "2")
    assert cli.main(["compact-log"]) == 0
    said = capsys.readouterr().out
    assert said == "3 answer(s) older than 2 months were removed; 2 file(s) became 1.\n"
