"""The data contract (pandera): types, ranges, categories, keys and rules between columns; who breaks it and why."""

from __future__ import annotations

from functools import cache

import pandas as pd
import pandera.pandas as pa

from churn_utils.errors import DataError

NUMERIC = {
    "senior_citizen": "int64",
    "tenure": "int64",
    "monthly_charges": "float64",
    "total_charges": "float64",
}
INTERNET_OPTIONS = [
    "online_security",
    "online_backup",
    "device_protection",
    "tech_support",
    "streaming_tv",
    "streaming_movies",
]
YES_NO = ["No", "Yes"]
CATEGORIES = {
    "gender": ["Female", "Male"],
    "partner": YES_NO,
    "dependents": YES_NO,
    "phone_service": YES_NO,
    "multiple_lines": ["No", "No phone service", "Yes"],
    "internet_service": ["DSL", "Fiber optic", "No"],
    **{name: ["No", "No internet service", "Yes"] for name in INTERNET_OPTIONS},
    "contract": ["Month-to-month", "One year", "Two year"],
    "paperless_billing": YES_NO,
    "payment_method": [
        "Bank transfer (automatic)",
        "Credit card (automatic)",
        "Electronic check",
        "Mailed check",
    ],
    "churn": YES_NO,
}
# Bounds come from what is possible, not from what one file happens to hold.
TENURE_MONTHS = (0, 240)
MONTHLY_CHARGES_USD = (5.0, 500.0)
MOST_TOTAL_CHARGES_USD = TENURE_MONTHS[1] * MONTHLY_CHARGES_USD[1]
TOTAL_TO_EXPECTED = (
    0.3,
    3.0,
)  # total charges / (tenure x monthly charges); IBM's file: 0.69 to 1.57


def _ratio_is_plausible(frame: pd.DataFrame) -> pd.Series:
    expected = frame["tenure"] * frame["monthly_charges"]
    ratio = frame["total_charges"] / expected.where(expected > 0)
    return ratio.isna() | ratio.between(*TOTAL_TO_EXPECTED)


def _rule(column: str, reason: str, holds) -> pa.Check:
    """Build a rule over several columns, blamed on one; a rule cannot judge what is missing."""
    return pa.Check(holds, name=f"{column}|{reason}", ignore_na=False)


def _rules_between_columns() -> list[pa.Check]:
    return [
        _rule(
            "total_charges",
            "is blank although tenure is not 0",
            lambda d: d["total_charges"].notna() | ~(d["tenure"] > 0),
        ),
        _rule(
            "total_charges",
            f"is not {TOTAL_TO_EXPECTED} times tenure x monthly charges",
            _ratio_is_plausible,
        ),
        _rule(
            "multiple_lines",
            "contradicts phone_service",
            lambda d: (d["multiple_lines"] == "No phone service") == (d["phone_service"] == "No"),
        ),
        *[
            _rule(
                name,
                "contradicts internet_service",
                lambda d, name=name: (
                    (d[name] == "No internet service") == (d["internet_service"] == "No")
                ),
            )
            for name in INTERNET_OPTIONS
        ],
    ]


@cache
def build_contract(labelled: bool = True) -> pa.DataFrameSchema:
    """Build the data contract: types, ranges, categories, unique key, and rules between columns."""
    columns = {
        "customer_id": pa.Column(
            str,
            [pa.Check.str_length(min_value=1, error="is blank")],
            unique=True,
            report_duplicates="all",  # nobody can say which of two rows is the right one
        ),
        "senior_citizen": pa.Column(float, pa.Check.isin([0, 1], error="is not 0 or 1")),
        "tenure": pa.Column(
            float,
            [
                pa.Check.in_range(*TENURE_MONTHS, error=f"is outside {TENURE_MONTHS} months"),
                pa.Check(lambda s: s % 1 == 0, error="is not a whole number of months"),
            ],
        ),
        "monthly_charges": pa.Column(
            float,
            pa.Check.in_range(*MONTHLY_CHARGES_USD, error=f"is outside {MONTHLY_CHARGES_USD} USD"),
        ),
        "total_charges": pa.Column(
            float,
            [
                pa.Check.ge(0, error="is negative"),
                pa.Check.le(MOST_TOTAL_CHARGES_USD, error=f"is above {MOST_TOTAL_CHARGES_USD} USD"),
            ],
            nullable=True,
        ),
    }
    for name, values in CATEGORIES.items():
        if name != "churn" or labelled:
            # no type: what is no text is not one of them either, and asking row by row costs more than all the rest
            columns[name] = pa.Column(checks=pa.Check.isin(values, error=f"is not one of {values}"))
    return pa.DataFrameSchema(columns, checks=_rules_between_columns(), strict=True)


def check_rows(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Hold every row of a delivery against the contract.

    Args:
        rows: text as ``read_delivery`` returns it, unique index.

    Returns:
        ``(accepted, rejected)``. ``accepted`` is typed (int64, float64, text). ``rejected`` keeps the text as
        delivered and adds ``line``, ``failed_column`` and ``reason`` (all reasons of a row, the first one's
        column). Together they hold every row exactly once.
    """
    typed = rows.copy()
    problems = []
    for name in NUMERIC:
        typed[name] = pd.to_numeric(rows[name], errors="coerce").astype("float64")
        unreadable = typed[name].isna() & (rows[name] != "")
        problems += [
            (line, name, f"is not a number: {rows.at[line, name]!r}")
            for line in rows.index[unreadable]
        ]
    try:
        build_contract("churn" in rows).validate(typed, lazy=True)
    except pa.errors.SchemaErrors as error:
        problems += _row_problems(error.failure_cases)
    found = pd.DataFrame(problems, columns=["line", "failed_column", "reason"])
    found = found.drop_duplicates(
        ["line", "failed_column"]
    )  # "abc" is not a number; no need to call it blank too
    found["reason"] = found["failed_column"] + " " + found["reason"]
    blamed = found.groupby("line", sort=True).agg(
        failed_column=("failed_column", "first"), reason=("reason", "; ".join)
    )
    rejected = rows.loc[blamed.index].join(blamed).rename_axis("line").reset_index()
    return typed.drop(index=blamed.index).astype(NUMERIC), rejected


def _row_problems(cases: pd.DataFrame) -> list[tuple[int, str, str]]:
    """Turn pandera's failure cases into (line, column, reason)."""
    whole_frame = cases[cases["index"].isna()]
    if len(whole_frame):
        raise DataError(
            f"the delivery's columns break the contract: {whole_frame['check'].tolist()}"
        )
    # A row is blamed on the column that is wrong in itself, before those that no longer fit to it.
    cases = cases.assign(between_columns=cases["check"].str.contains("|", regex=False))
    cases = cases.sort_values(["between_columns", "column", "check"])
    own_words = {"not_nullable": "is blank", "field_uniqueness": "is not unique"}
    problems = []
    for case in cases.itertuples():
        if case.between_columns:
            column, reason = case.check.split("|")
        elif case.check in own_words:
            column, reason = case.column, own_words[case.check]
        else:
            column, reason = case.column, f"{case.check}: {case.failure_case!r}"
        problems.append((case.index, column, reason))
    return problems
