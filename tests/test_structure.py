"""Rules: imports run downwards, notebooks keep their anatomy, related files agree."""

import ast
import re
import statistics
import tomllib

import nbformat
import pytest
from package_imports import imported_modules

from churn_utils import settings
from churn_utils.pipeline import stages

PACKAGE = settings.PROJECT / "churn_utils"
FOLDERS = [
    "data",
    "features",
    "evaluation",
    "training",
    "simulation",
    "upstream",
    "registry",
    "inference",
    "validation",
    "monitoring",
    "serving",
    "reports",
    "pipeline",
]
MODULES = sorted(PACKAGE.rglob("*.py"))
NOTEBOOKS = sorted((settings.PROJECT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_imports_only_folders_above_it(folder):
    allowed = FOLDERS[: FOLDERS.index(folder) + 1]
    upward = {
        f"{path.relative_to(PACKAGE)} imports {name}"
        for path in (PACKAGE / folder).rglob("*.py")
        for name in imported_modules(path)
        if "/" in name and name.split("/")[0] not in allowed
    }
    assert upward == set()


def test_every_folder_stands_in_the_order_of_the_loop():
    folders = {path.relative_to(PACKAGE).parts[0] for path in MODULES if path.parent != PACKAGE}
    assert folders == set(FOLDERS)


def test_no_folder_imports_the_command_line():
    importers = {path for path in MODULES if "cli" in imported_modules(path)}
    assert {str(path.relative_to(PACKAGE)) for path in importers} == {"__main__.py"}


def test_settings_and_errors_import_no_folder():
    for name in ("settings", "errors"):
        path = PACKAGE / f"{name}.py"
        assert not path.exists() or not [found for found in imported_modules(path) if "/" in found]


def test_lists_for_people_are_written_in_one_place():
    modules = (settings.PROJECT / "churn_utils").rglob("*.py")
    writers = [path.name for path in modules if ".to_csv(" in path.read_text()]
    assert writers == ["files.py"]  # whose write_csv keeps text from being a formula


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return request.param.stem, nbformat.read(request.param, as_version=4)


def code_of(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_a_notebook_has_its_parts_in_order(notebook):
    name, content = notebook
    first = content.cells[0].source
    assert first.startswith(f"# {name.split('_')[0]} – ")
    assert re.findall(r"^\*\*(You will learn|Databricks counterpart|Reads)", first, re.M) == [
        "You will learn",
        "Databricks counterpart",
        "Reads",
    ]
    assert "parameters" in content.cells[1].metadata.tags and content.cells[1].cell_type == "code"
    assert "import" in content.cells[2].source
    headings = [
        c.source.splitlines()[0]
        for c in content.cells
        if c.cell_type == "markdown" and c.source.startswith("## ")
    ]
    assert headings[-1] == "## Checkpoint" and 3 <= len(headings) - 1 <= 6
    assert content.cells[-1].source.startswith("**Next:**")
    assert (
        sum(
            cell.source.count("\n# ") + cell.source.startswith("# ")
            for cell in content.cells
            if cell.cell_type == "markdown"
        )
        == 1
    )


def test_a_notebook_keeps_its_proportions(notebook):
    _, content = notebook
    code = code_of(content)
    lengths = [len(cell.source.splitlines()) for cell in code]
    assert 15 <= len(content.cells) <= 40
    assert 0.8 <= (len(content.cells) - len(code)) / len(code) <= 1.1
    assert max(lengths) <= 25 and statistics.median(lengths) <= 6


def test_a_notebook_calls_the_package_and_is_no_program(notebook):
    _, content = notebook
    functions = []
    for cell in code_of(content):
        nodes = list(ast.walk(ast.parse(cell.source)))
        assert not [node for node in nodes if isinstance(node, ast.ClassDef)]
        functions += [node for node in nodes if isinstance(node, ast.FunctionDef)]
        assert len(re.findall(r"\bplot_\w+\(", cell.source)) <= 1  # one figure a cell
    assert len(functions) <= 1
    assert all(node.end_lineno - node.lineno < 5 for node in functions)
    text = "\n".join(cell.source for cell in code_of(content))
    assert not re.search(r"pip install|sys\.path|filterwarnings|['\"]/\w+/|[A-Z]:\\\\", text)


def test_parameters_are_plain_scalars_with_help(notebook):
    _, content = notebook
    lines = content.cells[1].source.splitlines()
    assert all(re.fullmatch(r"[A-Z_]+: (int|float|str|bool) = [^#]+  # .+", line) for line in lines)


def test_only_small_checked_outputs_are_committed(notebook):
    _, content = notebook
    for cell in code_of(content):
        kept = "keep_output" in cell.metadata.get("tags", [])
        assert kept == bool(cell.outputs) == (cell.execution_count is not None)
        assert len(str(cell.outputs)) < 1500
    checkpoints = [
        cell for cell in code_of(content) if "keep_output" in cell.metadata.get("tags", [])
    ]
    assert len(checkpoints) == 1 and checkpoints[0].source.count("assert ") >= 3


def test_the_readme_maps_every_notebook():
    text = (settings.PROJECT / "README.md").read_text()
    assert [name for name in stages.NOTEBOOKS if f"notebooks/{name}.ipynb" not in text] == []
    assert len(text.splitlines()) <= 150


def requirement_name(text):
    return re.match(r"[A-Za-z0-9_-]+", text).group(0).lower()


def test_environment_yml_has_the_packages_of_pyproject_in_the_versions_of_the_lock():
    project = tomllib.loads((settings.PROJECT / "pyproject.toml").read_text())["project"]
    wanted = {
        requirement_name(text)
        for text in project["dependencies"] + project["optional-dependencies"]["dev"]
    }
    lines = re.findall(
        r"^      - ([a-z].*)$", (settings.PROJECT / "environment.yml").read_text(), re.M
    )
    assert {requirement_name(line) for line in lines} == wanted
    pinned = re.findall(
        r"^([a-z0-9-]+)==([^ ]+)", (settings.PROJECT / "requirements.lock").read_text(), re.M
    )
    lock = dict(reversed(pinned))  # of several entries of a name the first is for Python 3.11
    wrong = [line for line in lines if not line.endswith(f"=={lock[requirement_name(line)]}")]
    assert wrong == []


@pytest.mark.parametrize(
    "path",
    ["requirements.lock", *(f"locks/{name}.lock" for name in ("flaml", "coverage", "mutants"))],
)
def test_the_lock_pins_hashes_and_names_no_index(path):
    text = (settings.PROJECT / path).read_text()
    pinned = re.findall(r"^[a-z0-9-]+==.*$", text, re.M)
    assert pinned and all(line.endswith("\\") for line in pinned)
    assert "index-url" not in text and "://" not in text


def _whole(ratios):
    return " / ".join(f"{float(ratio):.0f}" for ratio in ratios.split(" / "))


def test_the_figures_of_the_readme_are_those_that_were_measured():
    readme = (settings.PROJECT / "README.md").read_text()
    measured = (settings.PROJECT / "benchmarks" / "results.md").read_text()
    rows = {
        line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]]
        for line in measured.splitlines()
        if line.startswith("|")
    }
    chosen = next(cells for name, cells in rows.items() if name.startswith("chosen by the search"))
    assert f"| its hyperparameters, 2 × 5 folds | {' | '.join(chosen)} |" in readme
    assert f"| default LightGBM, 2 × 5 folds | {' | '.join(rows['default lightgbm'])} |" in readme
    forked, ordinary = (
        float(rows[name][0])
        for name in ("kernels forked from one warm process", "ordinary kernels")
    )
    assert (
        f"takes {forked:.0f} s" in readme and f"({ordinary:.0f} s with ordinary kernels" in readme
    )
    ours, constant, mlflow, bentoml = (
        rows[name] for name in ("this API", "constant route", "mlflow models serve", "BentoML")
    )
    assert (
        f"{' / '.join(ours[:3])} requests/s" in readme
        and f"{constant[4]} of a FastAPI route" in readme
    )
    assert (
        f"{_whole(mlflow[4])} times\n`mlflow models serve`, {_whole(bentoml[4])} times BentoML"
        in readme
    )
    assert f"{int(rows['requests'][0]):,} requests, {rows['failed requests'][0]} failed" in readme
    assert (
        f"Pruning spares {float(rows['mean'][2]):.0%} of the fold fits".replace("%", " %") in readme
    )
    assert rows["ours less FLAML (paired, 95 %)"][0] in readme
    better, _, *equal = (float(cell[:-1]) for cell in rows["promoted"])
    shares = f"{min(equal):g} to {max(equal):g} %"
    assert f"promoted in {better:.0f} % of 200 runs, an equal one in {shares}" in readme
    drilled = [rows[name] for name in ("right action", "lost value recovered (median)")]
    scenarios = ["none", "price_rise", "competitor", "mix_shift", "data_bug"]
    for scenario, right, recovered in zip(scenarios, *drilled, strict=True):
        assert re.search(rf"\| `{scenario}` \| [^|]+ \| {right} \| {recovered} \|", readme), (
            scenario
        )
