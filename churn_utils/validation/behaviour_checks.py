"""The gate's checks of how a challenger behaves in a process of its own: predictions, robustness, latency."""

from __future__ import annotations

import numpy as np

from churn_utils.validation.challenger import Candidate, make_finding

SAME = 1e-9  # of one customer alone and among others: the last bits depend on how many rows are multiplied at once
MOST_COMPILED_MS = (
    5.0  # of CPU for one customer in the API; the families that are searched take 0.002 to 1
)
MOST_BATCH_MS = (
    250.0  # of CPU for 1,000 rows in batch, about four minutes for a million; ours take 10 to 60
)
MOST_FLIPS = 0.05  # share of decisions that a bill 1 % higher may turn round


def check_prediction(candidate: Candidate) -> dict:
    """In a fresh process it loads, answers by customer id, and gives every row a probability, not the same to all."""
    p, by_id = candidate.probability, candidate.answers["by_id"]
    valid = bool(
        np.isfinite(p).all() and (p >= 0).all() and (p <= 1).all() and len(np.unique(p)) > 1
    )
    detail = (
        f"{len(p)} rows, {len(np.unique(p))} distinct probabilities; by id the same within {SAME:g}"
    )
    if not by_id <= SAME:
        detail = f"looked up by id it answers otherwise, by up to {by_id:.2g}"
    return make_finding(
        valid and by_id <= SAME,
        "a probability for every row and id, not all equal",
        detail,
        float(np.mean(p)),
    )


def check_robustness(candidate: Candidate) -> dict:
    """Impossible rows are refused by name, extreme ones answered; a slightly higher bill turns few decisions."""
    found = candidate.answers
    strange = [
        name for name, (low, high) in found["extremes"].items() if not (low >= 0 and high <= 1)
    ]
    problems = (
        [f"answered instead of refused: {', '.join(found['answered'][:4])}"]
        if found["answered"]
        else []
    )
    problems += [f"no probability for {', '.join(strange)}"] if strange else []
    problems += (
        [f"1 % on the bill turns {found['flips']:.1%} of decisions"]
        if found["flips"] > MOST_FLIPS
        else []
    )
    detail = f"{found['defects']} defects refused, {len(found['extremes'])} extremes answered, "
    detail += f"{found['flips']:.1%} of decisions turned"
    requirement = f"missing, unknown and infinite values refused; 1 % on the bill turns at most {MOST_FLIPS:.0%}"
    return make_finding(not problems, requirement, "; ".join(problems) or detail, found["flips"])


def check_latency(candidate: Candidate) -> dict:
    """The compiled scorer of the API and the batch path need little CPU; how busy the machine is does not count."""
    found = candidate.answers
    requirement = f"CPU: at most {MOST_COMPILED_MS:.0f} ms for one customer in the API"
    requirement += f", {MOST_BATCH_MS:.0f} ms for 1,000 rows in batch"
    problems = []
    if found["not_compiled"]:
        problems.append(f"the API cannot answer with it: {found['not_compiled']}")
    elif found["compiled_cpu_ms"] > MOST_COMPILED_MS:
        problems.append(
            f"one customer takes {found['compiled_cpu_ms']:.1f} ms of CPU, at most {MOST_COMPILED_MS:.0f}"
        )
    if found["batch_cpu_ms"] > MOST_BATCH_MS:
        problems.append(
            f"1,000 rows take {found['batch_cpu_ms']:.0f} ms of CPU, at most {MOST_BATCH_MS:.0f}"
        )
    # the time itself is never twice the same, and evidence must be; it goes into a tag of the version
    return make_finding(
        not problems, requirement, "; ".join(problems) or "both within their limits"
    )
