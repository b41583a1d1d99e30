"""One page that says what the gate found: verdict, every check with its requirement and evidence, its origin."""

from __future__ import annotations

import html
from pathlib import Path

from churn_utils import settings

COLOURS = {"pass": "#3A9A62", "fail": "#C8423F", "not_evaluated": "#E08A1E"}
STYLE = """body { font: 15px/1.5 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; color: #243447; margin: 32px auto;
max-width: 1020px; padding: 0 24px; } table { border-collapse: collapse; width: 100%; } h1 { font-size: 26px; }
th, td { text-align: left; vertical-align: top; padding: 6px 10px; border-bottom: 1px solid #dde4eb; }
td.number { white-space: nowrap; } b.verdict { color: white; border-radius: 4px; padding: 1px 7px; font-size: 13px; }"""


def render_page(evidence: dict, digest: str) -> str:
    """Write the gate's evidence as one page that needs nothing else.

    Args:
        evidence: as ``validation.run_gate`` keeps it.
        digest: its SHA-256, which an approval is bound to.
    """
    against = (
        f"champion {evidence['champion']}"
        if evidence["champion"] is not None
        else "no champion yet: the floors"
    )
    since = f" of {evidence['since']} and later" if evidence["since"] else ""
    facts = {
        "As of": evidence["as_of"],
        "Compared with": against,
        "Training run": evidence["run_id"],
        "Decided by": f"{evidence['rows']} test rows{since}",
        "Costs": f"{evidence['offer_cost_usd']:,.0f} USD an offer, {evidence['churner_value_usd']:,.0f} USD a churner",
        "Bootstrap": f"{evidence['draws']} draws over customers, seed {evidence['seed']}",
        "Gate of this version": f"run {evidence['run']}",
        "Model, SHA-256": evidence["model_sha256"],
        "Evidence, SHA-256": digest,
    }
    title = f"Gate of {settings.MODEL_NAME} {evidence['version']}"
    rows = "".join(
        f"<tr><th>{name}</th><td>{html.escape(str(value))}</td></tr>"
        for name, value in facts.items()
    )
    checks = "".join(_render_check(check) for check in evidence["checks"])
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{title}</title><style>{STYLE}</style>"
        f"<h1>{title}: {_badge(evidence['verdict'])}</h1><table>{rows}</table><h2>Checks</h2><table>"
        "<tr><th>Check</th><th>Verdict</th><th>Requirement</th><th>Found</th><th>Value [95 %]</th></tr>"
        f"{checks}</table></html>"
    )


def write_page(evidence: dict, digest: str) -> Path:
    """Write the page into the run's reports folder as ``gate_v<version>.html`` and return its path."""
    path = settings.run_reports() / f"gate_v{evidence['version']}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render_page(evidence, digest), encoding="utf-8")
    return path


def _render_check(check: dict) -> str:
    cells = [
        check["check"].replace("_", " "),
        _badge(check["verdict"]),
        html.escape(check["requirement"]),
        html.escape(check["detail"]),
        _number(check),
    ]
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells[:4])}<td class='number'>{cells[4]}</td></tr>"


def _badge(verdict: str) -> str:
    return (
        f"<b class='verdict' style='background:{COLOURS[verdict]}'>{verdict.replace('_', ' ')}</b>"
    )


def _number(check: dict) -> str:
    if check["value"] is None:
        return ""
    bounds = "" if check["lower"] is None else f" [{check['lower']:.4g}, {check['upper']:.4g}]"
    return f"{check['value']:.4g}{bounds}"
