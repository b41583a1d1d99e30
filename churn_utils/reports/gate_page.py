"""The page of a gate: its verdict, each check with requirement and evidence, and where it is from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from churn_utils import settings
from churn_utils.reports import rendering


@dataclass(frozen=True)
class CheckRow:
    """One check of the gate as the page shows it."""

    name: str
    verdict: str
    requirement: str
    found: str
    value: str


def render_page(evidence: Mapping, digest: str) -> str:
    """Return the gate's evidence as one page that needs no other file.

    Args:
        evidence: as ``validation.gate.run_gate`` keeps it.
        digest: its SHA-256, which an approval is bound to.
    """
    return rendering.render(
        "gate.html",
        title=f"Gate of {settings.MODEL_NAME} {evidence['version']}",
        verdict=evidence["verdict"],
        facts=_list_facts(evidence, digest),
        checks=[_describe_check(check) for check in evidence["checks"]],
    )


def write_page(evidence: Mapping, digest: str) -> Path:
    """Write the page into the run's reports folder as ``gate_v<version>.html``; return its path."""
    path = settings.run_reports() / f"gate_v{evidence['version']}.html"
    return rendering.write_text(path, render_page(evidence, digest))


def _list_facts(evidence: Mapping, digest: str) -> dict[str, str]:
    """Return what the gate compared, on which rows and under which settings, by caption."""
    champion = evidence["champion"]
    compared_with = "no champion yet: the floors" if champion is None else f"champion {champion}"
    rows = f"{evidence['rows']} test rows"
    if evidence["since"]:
        rows = f"{rows} of {evidence['since']} and later"
    offer, churner = evidence["offer_cost_usd"], evidence["churner_value_usd"]
    return {
        "As of": evidence["as_of"],
        "Compared with": compared_with,
        "Training run": evidence["run_id"],
        "Decided by": rows,
        "Costs": f"{offer:,.0f} USD an offer, {churner:,.0f} USD a churner",
        "Bootstrap": f"{evidence['draws']} draws over customers, seed {evidence['seed']}",
        "Gate of this version": f"run {evidence['run']}",
        "Model, SHA-256": evidence["model_sha256"],
        "Evidence, SHA-256": digest,
    }


def _describe_check(check: Mapping) -> CheckRow:
    return CheckRow(
        name=check["check"].replace("_", " "),
        verdict=check["verdict"],
        requirement=check["requirement"],
        found=check["detail"],
        value=_format_value(check),
    )


def _format_value(check: Mapping) -> str:
    """Return the value of a check and its interval; nothing where the check has no value."""
    if check["value"] is None:
        return ""
    value = f"{check['value']:.4g}"
    if check["lower"] is None:
        return value
    return f"{value} [{check['lower']:.4g}, {check['upper']:.4g}]"
