"""Which modules of the package a file imports, read from its source."""

import ast

from churn_utils import settings

PACKAGE = settings.PROJECT / "churn_utils"


def imported_modules(path):
    """Yield the package's modules that a file imports: paths below the package without suffix."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            yield from _find_module(name)


def _find_module(dotted):
    """Return the module that a dotted name stands in, as a list of one or none."""
    parts = dotted.split(".")
    if parts[0] != PACKAGE.name:
        return []
    for length in (len(parts), len(parts) - 1):
        name = "/".join(parts[1:length])
        if name and (PACKAGE / f"{name}.py").exists():
            return [name]
    return []
