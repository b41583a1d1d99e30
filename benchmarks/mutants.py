"""Mutants of the modules that decide: are they killed by the tests of their module?

A mutant is one change of cosmic-ray's operators (a comparison, a number, an `and`, a decorator, a
loop, …). Some are drawn from all of them, and each is put into a copy of the project, where the
tests of its module run: those that reach the changed line, the quickest first, until one fails. A
line that runs only while modules are imported is tried with all tests of its module. A mutant that
cannot be imported, or changes annotations alone, is not counted; one that runs for ever counts as
killed.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
PACKAGES = PROJECT / ".venv-mutants"
TESTS = {
    "data/table_writes": ["data/test_table_writes.py"],
    "data/tables": ["data/test_tables.py"],
    "features/labelling": ["features/test_labelling.py"],
    "features/offline": ["features/test_offline.py"],
    "features/publishing": ["features/test_publishing.py"],
    "monitoring/decision": ["monitoring/test_decision.py", "monitoring/test_drift.py"],
    "monitoring/drift": ["monitoring/test_drift.py"],
    "monitoring/drift_tests": ["monitoring/test_drift_tests.py", "monitoring/test_drift.py"],
    "monitoring/retraining_value": [
        "monitoring/test_retraining_value.py",
        "monitoring/test_drift.py",
    ],
    "registry/deployments": ["registry/test_promotion.py"],
    "validation/behaviour_checks": ["validation/test_behaviour_checks.py"],
    "validation/behaviour_probes": ["validation/test_behaviour_probes.py"],
    "validation/challenger": ["validation/test_challenger.py"],
    "validation/gate": ["validation/test_gate.py"],
    "validation/performance_checks": ["validation/test_performance_checks.py"],
    "validation/record_checks": ["validation/test_record_checks.py"],
    "validation/slice_check": ["validation/test_slice_check.py"],
}
# Imported once: each mutant runs in a fork of this process.
PRELOAD = [
    "deltalake",
    "hypothesis",
    "jupyter_client",
    "lightgbm",
    "mlflow.lightgbm",
    "mlflow.sklearn",
    "mlflow.store.model_registry.sqlalchemy_store",
    "mlflow.store.tracking.sqlalchemy_store",
    "nbformat",
    "optuna",
    "pandera.pandas",
    "papermill",
    "plotly.graph_objects",
    "psutil",
    "pyarrow.dataset",
    "pydantic_settings",
    "pytest",
    "scipy.stats",
    "sklearn.calibration",
    "sklearn.ensemble",
    "sklearn.linear_model",
    "skops.io",
    "statsmodels.stats.multitest",
]
CPU_SECONDS, WALL_SECONDS = 600, 3600
SURVIVED, INVALID = 0, 99


@dataclass(frozen=True)
class Mutant:
    """One change of one module: a place where an operator of cosmic-ray applies."""

    module: str
    operator: str
    occurrence: int
    line: int

    def code(self) -> str:
        """Return the module after the change; unchanged where the operator fails on it."""
        from cosmic_ray.mutating import mutate_code
        from cosmic_ray.plugins import get_operator

        source = read_module(self.module)
        try:
            return mutate_code(source, get_operator(self.operator)(), self.occurrence) or source
        except AttributeError:  # the tool does not know `except module.Error`
            return source

    def describe(self) -> str:
        """Return module, line, operator, and the text before and after."""
        pairs = zip(read_module(self.module).splitlines(), self.code().splitlines(), strict=False)
        changed = [
            f"{before.strip()} -> {after.strip()}" for before, after in pairs if before != after
        ]
        return f"{self.module}:{self.line} {self.operator}: {changed[0] if changed else ''}"


def read_module(module: str) -> str:
    """Return the source of a module of the package."""
    return (PROJECT / "churn_utils" / f"{module}.py").read_text()


def list_mutants(module: str) -> list[Mutant]:
    """Return all mutants of a module that cosmic-ray knows."""
    from cosmic_ray import plugins
    from cosmic_ray.ast import ast_nodes, get_ast

    nodes = list(ast_nodes(get_ast(read_module(module))))
    mutants = []
    for name in plugins.operator_names():
        operator_class = plugins.get_operator(name)
        if operator_class.arguments():
            continue
        operator = operator_class()
        starts = [start for node in nodes for start, _ in operator.mutation_positions(node)]
        mutants += [Mutant(module, name, at, line) for at, (line, _) in enumerate(starts)]
    return mutants


class WithoutAnnotations(ast.NodeTransformer):
    """Removes annotations: they are not run, so a change of one changes nothing."""

    def visit_arg(self, node):
        """Remove the annotation of a parameter."""
        node.annotation = None
        return node

    def visit_AnnAssign(self, node):
        """Keep the value alone."""
        node.annotation = ast.Constant(None)
        return node

    def visit_FunctionDef(self, node):
        """Remove the annotation of what a function returns."""
        node.returns = None
        return self.generic_visit(node)


def is_change(before: str, after: str) -> bool:
    """Tell whether a source is valid Python and differs from another in more than annotations."""
    try:
        trees = [WithoutAnnotations().visit(ast.parse(code)) for code in (before, after)]
    except SyntaxError:
        return False
    return ast.dump(trees[0]) != ast.dump(trees[1])


class Recorder:
    """A pytest plugin: which test reached which line, and how long it took."""

    def __init__(self, coverage):
        """Start with no test."""
        self.coverage, self.seconds = coverage, {}

    def pytest_runtest_logstart(self, nodeid):
        """Count what is run from now on for this test."""
        self.coverage.switch_context(nodeid)

    def pytest_runtest_logreport(self, report):
        """Add the seconds of a phase."""
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0) + report.duration


class Nearest:
    """A pytest plugin: the tests that reach a line, the quickest first; all if none is known."""

    def __init__(self, reaching: list[str], seconds: dict[str, float]):
        """Take what ``Recorder`` found."""
        self.reaching, self.seconds = set(reaching), seconds

    def pytest_collection_modifyitems(self, items):
        """Choose and sort the tests."""
        if self.reaching & {item.nodeid for item in items}:
            items[:] = [item for item in items if item.nodeid in self.reaching]
        items.sort(key=lambda item: self.seconds.get(item.nodeid, 0.0))


def run_tests(tree: Path, files: list[str], plugins: list, log: Path) -> int:
    """Run test files of a copy of the project in this process; returns pytest's exit code.

    Homes that the first run built are copied by the next ones, as pytest's workers share them.
    """
    import pytest

    folder = tree.parent / "temporary" / str(os.getpid())
    folder.mkdir(parents=True)
    tempfile.tempdir = str(folder)
    os.environ |= {"TMPDIR": str(folder), "PYTHONPATH": str(tree), "PYTEST_XDIST_WORKER": "gw0"}
    os.chdir(tree)
    sys.path.insert(0, str(tree))
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", "not long and not e2e"]
    options += ["--basetemp", str(tree.parent / f"pytest-{os.getpid()}")]
    return int(pytest.main([*options, "-x", *(f"tests/{name}" for name in files)], plugins))


def in_fork(work) -> int:
    """Run a function in a fork of its own process group; returns its exit code, None if it hung."""
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
        code = 1
        try:
            code = work()
        finally:
            sys.stdout.flush()
            os._exit(code)
    end = time.monotonic() + WALL_SECONDS
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > end:
            os.killpg(pid, 9)
        time.sleep(0.05)


def record_lines(tree: Path, modules: list[str]) -> dict:
    """Run the tests of modules once.

    Returns:
        ``lines``, the tests that reach each line of each module, and their ``seconds``.
    """
    found = tree.parent / "recorded.json"

    def work():
        import coverage

        paths = {module: str(tree / "churn_utils" / f"{module}.py") for module in modules}
        measured = coverage.Coverage(data_file=None, include=list(paths.values()))
        measured.start()
        recorder = Recorder(measured)
        files = list(dict.fromkeys(name for module in modules for name in TESTS[module]))
        code = run_tests(tree, files, [recorder], found.with_suffix(".log"))
        measured.stop()
        data = measured.get_data()
        lines = {module: data.contexts_by_lineno(path) for module, path in paths.items()}
        found.write_text(json.dumps({"lines": lines, "seconds": recorder.seconds}))
        return code

    code = in_fork(work)
    if code != 0:
        raise SystemExit(f"the tests fail without a mutant:\n{tail(found)}")
    return json.loads(found.read_text())


def tail(found: Path) -> str:
    """Return the end of the output of the tests beside a file."""
    return found.with_suffix(".log").read_text()[-2000:]


def try_mutant(tree: Path, mutant: Mutant, known: dict) -> str:
    """Run the tests on a mutant; returns ``killed``, ``survived`` or ``invalid``."""
    original, mutated = read_module(mutant.module), mutant.code()
    if not is_change(original, mutated):
        return "invalid"
    reaching = known["lines"][mutant.module].get(str(mutant.line), [])
    nearest = Nearest(reaching, known["seconds"])

    def work():
        sys.path.insert(0, str(tree))
        try:
            importlib.import_module(f"churn_utils.{mutant.module.replace('/', '.')}")
        except Exception:  # noqa: BLE001  # whatever a mutant raises
            return INVALID
        return run_tests(tree, TESTS[mutant.module], [nearest], tree.parent / "mutant.log")

    path = tree / "churn_utils" / f"{mutant.module}.py"
    path.write_text(mutated)
    try:
        code = in_fork(work)
    finally:
        path.write_text(original)
        for folder in [tree.parent / "temporary", *tree.parent.glob("pytest-*")]:
            shutil.rmtree(folder, ignore_errors=True)
    return {SURVIVED: "survived", INVALID: "invalid"}.get(code, "killed")


def copy_project(folder: Path) -> Path:
    """Copy what git knows of the project; returns the copy."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        target = folder / "project" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / name, target)
    return folder / "project"


def read_arguments() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--number", type=int, default=200, help="mutants to try (default 200)")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (default 0)")
    parser.add_argument("--modules", nargs="*", default=list(TESTS), help="such as data/tables")
    parser.add_argument("--output", type=Path, help="file for a line of JSON per mutant")
    return parser.parse_args()


def main() -> int:
    """Try mutants and print those that survived; returns the exit code."""
    arguments = read_arguments()
    sys.path.append(str(PACKAGES))  # behind the others, whose versions count
    drawn = [mutant for module in arguments.modules for mutant in list_mutants(module)]
    random.Random(arguments.seed).shuffle(drawn)
    print(f"{len(drawn)} mutants in {len(arguments.modules)} modules")
    os.environ |= {"DO_NOT_TRACK": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
    for name in PRELOAD:
        importlib.import_module(name)
    outcomes: Counter = Counter()
    with tempfile.TemporaryDirectory() as folder:
        tree = copy_project(Path(folder))
        known = record_lines(tree, arguments.modules)
        for mutant in drawn:
            if outcomes["killed"] + outcomes["survived"] == arguments.number:
                break
            outcome = try_mutant(tree, mutant, known)
            outcomes[outcome] += 1
            if outcome == "survived":
                print(f"survived: {mutant.describe()}", flush=True)
            if arguments.output:
                line = json.dumps({"outcome": outcome, **asdict(mutant)})
                with arguments.output.open("a") as file:
                    file.write(line + "\n")
    tried = outcomes["killed"] + outcomes["survived"]
    print(f"killed {outcomes['killed']} of {tried} ({outcomes['killed'] / max(tried, 1):.1%})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
