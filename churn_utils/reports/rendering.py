"""jinja2 templates of the pages, in the folder ``templates`` beside this module.

Every value is escaped unless it is ``Markup``; a name that a template uses and is not given is an
error. ``style.css``, the one style sheet, is part of ``base.html``, so that a page that is sent
alone keeps its looks.
"""

from __future__ import annotations

import functools
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup


@functools.cache
def _load_environment() -> Environment:
    return Environment(
        loader=PackageLoader("churn_utils.reports"),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(template: str, **values: object) -> Markup:
    """Fill a template.

    Args:
        template: file name in the folder ``templates``, such as ``index.html``.
        values: what the template shows, by the names that it uses.

    Returns:
        The HTML, safe to be put into another template.
    """
    return Markup(_load_environment().get_template(template).render(values))


def write_text(path: Path, text: str) -> Path:
    """Write ``text`` as UTF-8, making the folder where it is missing; return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path
