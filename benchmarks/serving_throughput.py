"""Throughput and latency of the API beside MLflow's scoring server, BentoML and a constant.

Needs wrk (apt-get install wrk) and the peers' environment (make .venv-peers/installed). Every
server runs for the whole time on this machine; each round measures every server once at each number
of connections, in turn.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from results import save_table

from churn_utils import settings
from churn_utils.data import tables
from churn_utils.features import definitions, model_inputs
from churn_utils.registry import deployments
from churn_utils.registry.connection import connect_mlflow
from churn_utils.serving.client import find_free_port

ROUNDS, SECONDS, CONNECTIONS = 5, 3, (1, 8, 32)
OURS, CONSTANT, MLFLOW, BENTOML = "this API", "constant route", "mlflow models serve", "BentoML"
PEERS = settings.PROJECT / ".venv-peers" / "bin"
HERE = Path(__file__).parent


@dataclass
class Server:
    """A process that serves ``url``, and the Lua script with which wrk sends it requests."""

    name: str
    url: str
    script: Path
    process: subprocess.Popen


def copy_home(folder: Path) -> Path:
    """Copy a home that has a champion: the default one, or one that a run makes for this."""
    home = settings.home()
    if deployments.version_in_effect() is None:
        home = folder / "run"
        command = [
            sys.executable,
            settings.PROJECT / "run_all.py",
            "--home",
            home,
            "--reports",
            folder / "reports",
        ]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        os.environ["CHURN_HOME"] = str(home)
    ignored = shutil.ignore_patterns("inference_log")
    for part in ("lakehouse", "mlflow"):
        shutil.copytree(home / part, folder / "home" / part, ignore=ignored)
    os.environ["CHURN_HOME"] = str(folder / "home")
    return folder / "home"


def write_script(path: Path, bodies: list[str]) -> Path:
    """Write the Lua script with which wrk posts one body after the other."""
    listed = ",\n".join(f"[==[{body}]==]" for body in bodies)
    path.write_text(
        f"local bodies = {{{listed}}}\nlocal at = 0\n"
        'wrk.method = "POST"\nwrk.headers["Content-Type"] = "application/json"\n'
        "request = function() at = at % #bodies + 1; "
        "return wrk.format(nil, nil, nil, bodies[at]) end\n"
    )
    return path


def start_servers(folder: Path, home: Path) -> list[Server]:
    """Start the four servers and wait until each answers its own kind of request."""
    version = deployments.version_in_effect()
    rows = model_inputs.select_model_inputs(
        definitions.add_on_demand(tables.read("customer_features"))
    ).head(2000)
    ids = tables.read("customer_features", columns=["customer_id"])["customer_id"].head(2000)
    records = rows.to_dict("records")
    mlflow = connect_mlflow()
    local = mlflow.artifacts.download_artifacts(
        f"models:/{settings.MODEL_NAME}/{version}", dst_path=str(folder / "m")
    )
    model_file = next(Path(local).rglob("*.skops"))
    split = {"columns": list(rows), "index": [0]}
    plans = {
        OURS: (
            [sys.executable, "-m", "churn_utils", "serve", "--port"],
            "/v1/predictions",
            [json.dumps({"customer_ids": [name]}) for name in ids],
        ),
        CONSTANT: (
            [sys.executable, HERE / "peers" / "constant.py"],
            "/constant",
            [json.dumps({"customer_ids": [name]}) for name in ids],
        ),
        MLFLOW: (
            [
                Path(sys.executable).with_name("mlflow"),
                "models",
                "serve",
                "--env-manager",
                "local",
                "-m",
                f"models:/{settings.MODEL_NAME}/{version}",
                "--port",
            ],
            "/invocations",
            [
                json.dumps({"dataframe_split": {**split, "data": [list(r.values())]}})
                for r in records
            ],
        ),
        BENTOML: (
            [PEERS / "bentoml", "serve", "bento_service:Churn", "--host", "127.0.0.1", "--port"],
            "/predict",
            [json.dumps({"customer": record}) for record in records],
        ),
    }
    variables = {
        **os.environ,
        "CHURN_TODAY": "2025-02-01",
        "MODEL_FILE": str(model_file),
        "BENTOML_DO_NOT_TRACK": "true",
        "MLFLOW_TRACKING_URI": f"sqlite:///{home / 'mlflow' / 'mlflow.db'}",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    servers = []
    for name, (command, path, bodies) in plans.items():
        port, log = find_free_port(), (folder / f"{name.split()[0]}.log").open("w")
        process = subprocess.Popen(
            [*map(str, command), str(port)],
            env=variables,
            stdout=log,
            stderr=log,
            cwd=HERE / "peers",
            start_new_session=True,
        )
        script = write_script(folder / f"{len(servers)}.lua", bodies)
        servers.append(Server(name, f"http://127.0.0.1:{port}{path}", script, process))
        wait_for_answer(servers[-1], bodies[0])
    return servers


def wait_for_answer(server: Server, body: str) -> None:
    """Wait up to a minute for a first good answer."""
    request = urllib.request.Request(
        server.url, body.encode(), {"Content-Type": "application/json"}
    )
    for _ in range(300):
        try:
            urllib.request.urlopen(request, timeout=5).read()
            return
        except OSError:
            time.sleep(0.2)
    raise SystemExit(f"{server.name} does not answer at {server.url}")


def run_wrk(server: Server, connections: int, seconds: int = SECONDS) -> dict:
    """Send a server requests for some seconds.

    Returns:
        ``server, connections, rate`` (requests a second), ``p50, p99`` (ms) and ``failed``.
    """
    command = [
        "wrk",
        "-t1",
        f"-c{connections}",
        f"-d{seconds}s",
        "--latency",
        "-s",
        server.script,
        server.url,
    ]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = dict(re.findall(r"^\s+(50|99)%\s+([\d.]+(?:us|ms|s|m))\s*$", text, re.M))
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    return {
        "server": server.name,
        "connections": connections,
        "rate": float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1]),
        "p50": _in_ms(found.get("50")),
        "p99": _in_ms(found.get("99")),
        "failed": int(failed[1]) if failed else 0,
    }


def _in_ms(text: str | None) -> float:
    if text is None:  # a server so slow that wrk saw too few answers for a percentile
        return float("nan")
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text).groups()
    return float(number) * {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}[unit]


def measure(servers: list[Server]) -> pd.DataFrame:
    """Measure all servers in turn, in another order each round.

    Returns:
        One row per measurement: ``round`` and the keys of ``run_wrk``.
    """
    for server in servers:
        run_wrk(server, 8, 1)
    rows = []
    for number in range(ROUNDS):
        for connections in CONNECTIONS:
            for server in servers[number % len(servers) :] + servers[: number % len(servers)]:
                rows.append({"round": number, **run_wrk(server, connections)})
                print(rows[-1], flush=True)
    return pd.DataFrame(rows)


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """Return medians over rounds, and of the ratios within each round, as they are printed."""
    rates = rows.pivot_table(index=["round", "connections"], columns="server", values="rate")
    slow = rows.pivot_table(index=["round", "connections"], columns="server", values="p99")
    table = []
    for name in (OURS, CONSTANT, MLFLOW, BENTOML):
        line = {f"one customer a request, {ROUNDS} rounds of {SECONDS} s in turn": name}
        for connections in CONNECTIONS:
            line[f"requests/s, {connections} conn."] = (
                f"{rates.xs(connections, level=1)[name].median():,.0f}"
            )
        line["p99 at 8 conn., ms"] = round(slow.xs(8, level=1)[name].median(), 2)
        ratio = (rates[OURS] / rates[name]).groupby("connections").median()
        line["this API is … times as fast (1 / 8 / 32)"] = " / ".join(
            f"{ratio[c]:.2f}" for c in CONNECTIONS
        )
        table.append(line)
    return pd.DataFrame(table)


def main() -> None:
    """Start, measure, end, report."""
    if not shutil.which("wrk") or not PEERS.exists():
        raise SystemExit(
            "wrk and .venv-peers are needed: apt-get install wrk; make .venv-peers/installed"
        )
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        home = copy_home(folder)
        servers: list[Server] = []
        try:
            servers = start_servers(folder, home)
            rows = measure(servers)
        finally:
            for server in servers:
                os.killpg(server.process.pid, 15)
                server.process.wait(30)
        logged = len(tables.read("inference_log"))
    print(
        f"failed requests: {rows.groupby('server')['failed'].sum().to_dict()}; "
        f"answers logged: {logged}"
    )
    save_table("Serving", summarise(rows), Path(__file__).name)


if __name__ == "__main__":
    main()
