"""The page of a gate: verdict, every check with its requirement and evidence, and its origin."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from churn_utils import settings
from churn_utils.reports import rendering


def render_page(evidence: Mapping, digest: str) -> str:
    """Return the gate's evidence as one page that needs no other file.

    Args:
        evidence: as ``validation.gate.run_gate`` keeps it.
        digest: its SHA-256, which an approval is bound to.
    """
    return rendering.render(
        "gate.html", model=settings.MODEL_NAME, evidence=evidence, digest=digest
    )


def write_page(evidence: Mapping, digest: str) -> Path:
    """Write the page into the run's reports folder as ``gate_v<version>.html``; return its path."""
    name = f"gate_v{evidence['version']}.html"
    page = render_page(evidence, digest)
    return rendering.write_text(settings.run_reports() / name, page)
