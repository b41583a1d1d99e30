"""jinja2 templates of the pages (folder ``templates``), and how they write numbers.

Every value is escaped unless it is ``Markup``; a name that a template uses and is not given is an
error. The one style sheet, ``style.css``, is part of ``base.html``, so that a page that is sent
alone keeps its looks. Templates have two filters of ours: ``number`` and ``spaced``.
"""

from __future__ import annotations

import functools
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup


@functools.cache
def _load_environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("churn_utils.reports"),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = format_number
    environment.filters["spaced"] = lambda name: name.replace("_", " ")
    return environment


def render(template: str, **values: object) -> Markup:
    """Fill the template of this file name and return HTML that is safe inside another template."""
    return Markup(_load_environment().get_template(template).render(values))


def format_number(value: object) -> str:
    """Write a number as people read it: thousands separated, small ones with four digits."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    digits = ",.0f" if abs(value) >= 1000 else ".4g"
    return format(value, digits)


def write_text(path: Path, text: str) -> Path:
    """Write ``text`` as UTF-8, make the folder if it is missing, and return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path
