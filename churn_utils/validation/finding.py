"""What a check of the gate found: a verdict and the evidence for it."""

from __future__ import annotations

from dataclasses import dataclass

PASS, FAIL, NOT_EVALUATED = "pass", "fail", "not_evaluated"


@dataclass(frozen=True)
class Finding:
    """Verdict of one check with its evidence.

    Attributes:
        verdict: ``pass``, ``fail`` or ``not_evaluated``.
        value: the figure that was measured; None for a check without one.
        lower: lower bound of its 95 % interval, or None.
        upper: upper bound of its 95 % interval, or None.
        requirement: what had to hold.
        detail: what was found.
    """

    verdict: str
    value: float | None
    lower: float | None
    upper: float | None
    requirement: str
    detail: str

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
    def not_evaluated(cls, requirement: str, error: Exception) -> Finding:
        """Return the finding of a check that raised an error: it is never a pass."""
        detail = f"{type(error).__name__}: {error}"
        return cls(NOT_EVALUATED, None, None, None, requirement, detail)
