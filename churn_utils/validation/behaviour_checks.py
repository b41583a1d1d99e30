"""Checks of how a challenger behaves in a process of its own: predictions, robustness, latency."""

from __future__ import annotations

import numpy as np

from churn_utils.validation.behaviour_probes import ProbeResults
from churn_utils.validation.challenger import Challenger
from churn_utils.validation.finding import Finding

# Difference allowed between one customer alone and among others: the last bits depend on how many
# rows are multiplied at once.
SAME = 1e-9
# CPU time in ms for one customer in the API; the families that are searched take 0.002 to 1.
MOST_COMPILED_MS = 5.0
# CPU time in ms for 1,000 rows in batch, four minutes for a million; ours take 10 to 60.
MOST_BATCH_MS = 250.0
MOST_FLIPS = 0.05  # share of decisions that a bill 1 % higher may change
DEFECTS_SHOWN = 4


def check_prediction(challenger: Challenger) -> Finding:
    """In a fresh process it gives each row and id a valid probability, not the same to all.

    Protects from a model that cannot be loaded where it will run, raises, hangs, returns numbers
    that are no probabilities, or predicts otherwise for a customer whose features are read by id.
    """
    probability = challenger.probability
    gap = challenger.probe_results.largest_gap_by_id
    distinct = len(np.unique(probability))
    in_range = np.isfinite(probability) & (probability >= 0) & (probability <= 1)
    same_by_id = gap <= SAME  # False as well if it is not a number
    if same_by_id:
        detail = f"{len(probability)} rows, {distinct} distinct probabilities; "
        detail += f"by id the same within {SAME:g}"
    else:
        detail = f"by id it predicts otherwise, by up to {gap:.2g}"
    holds = bool(in_range.all()) and distinct > 1 and same_by_id
    requirement = "a probability for every row and id, not all equal"
    return Finding.of(holds, requirement, detail, float(np.mean(probability)))


def check_robustness(challenger: Challenger) -> Finding:
    """Impossible rows are refused by name, extreme ones scored; 1 % on the bill hardly counts.

    Protects from a model that invents a probability for a customer that cannot exist, fails on a
    rare one, or changes its decisions with noise in the bill.
    """
    results = challenger.probe_results
    problems = _list_robustness_problems(results)
    if problems:
        detail = "; ".join(problems)
    else:
        detail = f"{results.defects} defects refused, {len(results.extremes)} extremes scored, "
        detail += f"{results.flipped_share:.1%} of decisions changed"
    requirement = "missing, unknown and infinite values refused; 1 % on the bill changes at most "
    requirement += f"{MOST_FLIPS:.0%}"
    return Finding.of(not problems, requirement, detail, results.flipped_share)


def _list_robustness_problems(results: ProbeResults) -> list[str]:
    problems = []
    if results.not_refused:
        shown = ", ".join(results.not_refused[:DEFECTS_SHOWN])
        problems.append(f"scored instead of refused: {shown}")
    without = []
    for name, (lowest, highest) in results.extremes.items():
        is_valid = lowest >= 0 and highest <= 1
        if not is_valid:  # also when one of them is not a number
            without.append(name)
    if without:
        problems.append(f"no probability for {', '.join(without)}")
    if results.flipped_share > MOST_FLIPS:
        problems.append(f"1 % on the bill changes {results.flipped_share:.1%} of decisions")
    return problems


def check_latency(challenger: Challenger) -> Finding:
    """The API's compiled scorer and the batch path need little CPU, however busy the machine is.

    Protects from a model that is too slow to answer customers, or that the API cannot compile.
    """
    results = challenger.probe_results
    problems = []
    if results.compiled_cpu_ms is None:
        problems.append(f"the API cannot answer with it: {results.compile_error}")
    elif results.compiled_cpu_ms > MOST_COMPILED_MS:
        problems.append(
            f"one customer takes {results.compiled_cpu_ms:.1f} ms of CPU, "
            f"at most {MOST_COMPILED_MS:.0f}"
        )
    if results.batch_cpu_ms > MOST_BATCH_MS:
        problems.append(
            f"1,000 rows take {results.batch_cpu_ms:.0f} ms of CPU, at most {MOST_BATCH_MS:.0f}"
        )
    requirement = (
        f"CPU: at most {MOST_COMPILED_MS:.0f} ms for one customer in the API, "
        f"{MOST_BATCH_MS:.0f} ms for 1,000 rows in batch"
    )
    # The times are never the same twice, and the evidence must be: they are tags of the version.
    detail = "; ".join(problems) or "both within their limits"
    return Finding.of(not problems, requirement, detail)
