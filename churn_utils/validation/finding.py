"""What a check of the gate found: a verdict and the evidence for it."""

from __future__ import annotations

from dataclasses import dataclass

PASS, FAIL, NOT_EVALUATED = "pass", "fail", "not_evaluated"


@dataclass(frozen=True)
class Finding:
    """Verdict of one check with its evidence."""

    verdict: str  # PASS, FAIL or NOT_EVALUATED
    value: float | None  # the figure that was measured, and the bounds of its 95 % interval
    lower: float | None
    upper: float | None
    requirement: str  # what had to hold
    detail: str  # what was found

    @classmethod
    def of(
        cls,
        holds: bool,
        requirement: str,
        detail: str,
        value: float | None = None,
        lower: float | None = None,
        upper: float | None = None,
    ) -> Finding:
        """Return the finding of a check that could be evaluated."""
        return cls(PASS if holds else FAIL, value, lower, upper, requirement, detail)

    @classmethod
    def not_evaluated(
        cls,
        requirement: str,
        error: Exception,
    ) -> Finding:
        """Return the finding of a check that raised an error: it is never a pass."""
        detail = f"{type(error).__name__}: {error}"
        return cls(NOT_EVALUATED, None, None, None, requirement, detail)
