"""Measure how the package reads: density, line length, complexity, maintainability, wording.

python benchmarks/readability.py            the whole package, as a table
python benchmarks/readability.py serving    one folder of it, and every place that is over a limit
"""

from __future__ import annotations

import ast
import re
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path

from radon.complexity import cc_visit
from radon.metrics import mi_visit

PROJECT = Path(__file__).resolve().parents[1]
PACKAGE = PROJECT / "churn_utils"
WORDS = re.compile(r"\b(anew|whoever|whom|nobody)\b", re.IGNORECASE)
PROSE = ["churn_utils", "notebooks", "tests", "docs", "README.md"]
MOST_COMPLEXITY = 10
LEAST_MAINTAINABILITY = 50
LINE_LENGTH = 100
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Place:
    """Something that is over a limit, and where it stands."""

    path: Path
    line: int
    what: str

    def __str__(self) -> str:
        """Show the place as `file:line  what`."""
        return f"{self.path.relative_to(PROJECT)}:{self.line}  {self.what}"


def list_functions(tree: ast.Module) -> list[Function]:
    """Return every function and method of a module, nested ones included."""
    return [node for node in ast.walk(tree) if isinstance(node, Function)]


def measure_density(function: Function, lines: list[str]) -> float:
    """Return the AST nodes of a function per line of it that is neither blank nor a comment."""
    own = lines[function.lineno - 1 : function.end_lineno]
    filled = [line for line in own if line.strip() and not line.strip().startswith("#")]
    nodes = sum(1 for _ in ast.walk(function))
    return nodes / len(filled)


def hides_its_result(function: Function) -> bool:
    """Tell whether a public function returns a dict or frame without saying its keys or columns."""
    if function.name.startswith("_") or function.returns is None:
        return False
    returned = ast.unparse(function.returns)
    if not re.search(r"\bdict\b|DataFrame", returned):
        return False
    documentation = ast.get_docstring(function) or ""
    return "Returns:" not in documentation and "``" not in documentation


def is_exception(definition: ast.ClassDef) -> bool:
    """Tell whether a class derives from one that is named as an exception."""
    bases = [ast.unparse(base) for base in definition.bases]
    return any(base.endswith(("Error", "Exception")) for base in bases)


def find_long_lines(path: Path, lines: list[str]) -> list[Place]:
    """Return the lines of more than 100 columns."""
    return [
        Place(path, number, f"{len(line)} columns")
        for number, line in enumerate(lines, start=1)
        if len(line) > LINE_LENGTH
    ]


def find_complex_functions(path: Path, source: str) -> list[Place]:
    """Return the functions whose cyclomatic complexity (radon) is over 10."""
    return [
        Place(path, block.lineno, f"{block.name} has complexity {block.complexity}")
        for block in cc_visit(source)
        if block.complexity > MOST_COMPLEXITY and not hasattr(block, "methods")
    ]


def count_words() -> int:
    """Return how often words of a dialect stand in package, notebooks, tests and README."""
    count = 0
    for name in PROSE:
        root = PROJECT / name
        files = [root] if root.is_file() else root.rglob("*")
        for path in files:
            if path.suffix in (".py", ".md", ".ipynb"):
                count += len(WORDS.findall(path.read_text(encoding="utf-8")))
    return count


def main(folder: str = "") -> None:
    """Print the table; with a folder also every place over a limit."""
    densities: list[float] = []
    maintainability: dict[Path, float] = {}
    places: dict[str, list[Place]] = {
        "long": [],
        "skip": [],
        "complex": [],
        "hidden": [],
        "error": [],
    }
    total = 0
    for path in sorted((PACKAGE / folder).rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        lines = source.splitlines()
        total += len(lines)
        tree = ast.parse(source)
        functions = list_functions(tree)
        densities += [measure_density(function, lines) for function in functions]
        maintainability[path] = mi_visit(source, multi=True)
        places["long"] += find_long_lines(path, lines)
        places["complex"] += find_complex_functions(path, source)
        places["skip"] += [
            Place(path, number, line.strip())
            for number, line in enumerate(lines, start=1)
            if "fmt: skip" in line
        ]
        places["hidden"] += [
            Place(path, function.lineno, f"{function.name} does not say what it returns")
            for function in functions
            if hides_its_result(function)
        ]
        places["error"] += [
            Place(path, node.lineno, node.name)
            for node in ast.walk(tree)
            if isinstance(node, ast.ClassDef) and is_exception(node)
        ]
    low = {path: value for path, value in maintainability.items() if value < LEAST_MAINTAINABILITY}
    rows = {
        "lines": total,
        "modules": len(maintainability),
        "AST nodes per line of a function, median": round(statistics.median(densities), 2),
        "lines over 100 columns": len(places["long"]),
        "fmt: skip": len(places["skip"]),
        "functions of complexity over 10": len(places["complex"]),
        "maintainability index, median": round(statistics.median(maintainability.values()), 1),
        "modules with an index under 50": len(low),
        "exception classes": len(places["error"]),
        "public functions that hide their dict or frame": len(places["hidden"]),
        "words of a dialect": count_words(),
    }
    for name, value in rows.items():
        print(f"{name:50} {value}")
    if folder:
        print()
        for path, value in low.items():
            print(f"{path.relative_to(PROJECT)}  maintainability {value:.1f}")
        for kind in ("long", "complex", "hidden"):
            print(*places[kind], sep="\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
