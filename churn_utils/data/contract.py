"""The data contract (pandera): which rows of a delivery are accepted, and why the others are not.

What a row must look like is said in ``columns``; this module turns it into checks and their
failures into reasons.
"""

from __future__ import annotations

from functools import cache

import pandas as pd
import pandera.pandas as pa

from churn_utils.data.column_rules import RULES, ColumnRule
from churn_utils.data.columns import COLUMNS, CUSTOMER_ID, LABEL, TEXT, WHOLE, Column
from churn_utils.data.customer_ids import ID_FORM, are_well_formed
from churn_utils.data.delivered_files import DAMAGE
from churn_utils.errors import DataError

NUMBER_TYPES = {column.name: column.type.pandas for column in COLUMNS if column.type is not TEXT}
CATEGORIES = [column.name for column in COLUMNS if column.categories]
# pandera's names of its own checks, in our words
PANDERA_REASONS = {"not_nullable": "is blank", "field_uniqueness": "is not unique"}
DAMAGED_LINE = "(line)"  # stands for the column that failed where a whole line cannot be read
PROBLEM_COLUMNS = ["line", "failed_column", "reason"]


@cache
def build_contract(labelled: bool = True) -> pa.DataFrameSchema:
    """Build the data contract as a pandera schema.

    Args:
        labelled: whether the label must be there; a production month has none yet.

    Returns:
        A strict schema for the columns of ``columns.COLUMNS``, numbers as float64, with the rules
        between columns as checks of the frame.
    """
    schema_columns = {
        column.name: _build_column(column) for column in COLUMNS if labelled or column.name != LABEL
    }
    checks = [_build_rule(rule) for rule in RULES]
    return pa.DataFrameSchema(schema_columns, checks=checks, strict=True)


def _build_column(column: Column) -> pa.Column:
    """Return the checks of one column."""
    if column.name == CUSTOMER_ID:
        # Of two rows with one id either may be the right one, so both are reported.
        return pa.Column(str, _build_id_checks(), unique=True, report_duplicates="all")
    if column.type is TEXT:
        # No dtype: a value that is not text is not a known category either, and pandera's check of
        # the type row by row costs more than all the others together.
        known = list(column.categories)
        return pa.Column(checks=pa.Check.isin(known, error=f"is not one of {known}"))
    return pa.Column(float, _build_number_checks(column), nullable=column.nullable)


def _build_id_checks() -> list[pa.Check]:
    """Return the checks of an id; a blank one has a reason of its own."""
    return [
        pa.Check(lambda ids: ids != "", error="is blank"),
        pa.Check(lambda ids: are_well_formed(ids) | (ids == ""), error=f"is not {ID_FORM}"),
    ]


def _build_number_checks(column: Column) -> list[pa.Check]:
    """Return the checks of a number: its bounds, and whether it is whole."""
    if column.is_flag:
        return [pa.Check.isin([0, 1], error="is not 0 or 1")]
    bounds = f"{column.minimum:g} to {column.maximum:g} {column.unit}"
    checks = [pa.Check.in_range(column.minimum, column.maximum, error=f"is outside {bounds}")]
    if column.type is WHOLE:
        whole = pa.Check(
            lambda numbers: numbers % 1 == 0, error=f"is not a whole number of {column.unit}"
        )
        checks.append(whole)
    return checks


def _build_rule(rule: ColumnRule) -> pa.Check:
    """Turn a rule between columns into a check of the frame, named ``column|reason``."""

    def holds(rows: pd.DataFrame) -> pd.Series:
        compared = [rows[name] for name in rule.compared_with]
        is_broken = rule.is_broken(rows[rule.column], *compared)
        return ~is_broken

    return pa.Check(holds, name=f"{rule.column}|{rule.reason}", ignore_na=False)


def check_rows(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Check every row of a delivery against the contract.

    Args:
        rows: text as ``delivered_files.read_delivery`` returns it, unique index.

    Returns:
        ``(accepted, rejected)``. ``accepted`` is typed (int64, float64, text). ``rejected`` keeps
        the text as delivered and adds ``line``, ``failed_column`` and ``reason`` (all reasons of a
        row, the first one's column). Together they hold every row exactly once.

    Raises:
        DataError: columns that the contract does not know.
    """
    rows, damaged = _part_damaged_lines(rows)
    numbers, unreadable = _read_numbers(rows)
    # As pandas categories the texts are compared by number, in half the time.
    encoded = {name: rows[name].astype("category") for name in CATEGORIES if name in rows}
    broken = _find_broken_rules(rows.assign(**numbers, **encoded), labelled=LABEL in rows)
    blamed = _blame_rows(pd.concat([unreadable, broken]))
    rejected = pd.concat([rows.loc[blamed.index].join(blamed), damaged]).sort_index()
    rejected = rejected.rename_axis("line").reset_index()
    accepted = rows.assign(**numbers).drop(index=blamed.index).astype(NUMBER_TYPES)
    return accepted, rejected


def _part_damaged_lines(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the sound rows, and the damaged ones with ``failed_column`` and ``reason``."""
    if DAMAGE not in rows:
        return rows, rows.head(0)
    damage = rows[DAMAGE]
    rows = rows.drop(columns=DAMAGE)
    is_damaged = damage != ""
    reasons = "the line " + damage[is_damaged]
    damaged = rows[is_damaged].assign(failed_column=DAMAGED_LINE, reason=reasons)
    return rows[~is_damaged], damaged


def _read_numbers(rows: pd.DataFrame) -> tuple[dict[str, pd.Series], pd.DataFrame]:
    """Return the numbers by column as float64, and the problems of texts that are no numbers."""
    numbers = {}
    problems = []
    for name in NUMBER_TYPES:
        texts = rows[name]
        numbers[name] = pd.to_numeric(texts, errors="coerce").astype("float64")
        is_filled = texts != ""
        is_unreadable = numbers[name].isna() & is_filled
        for line, text in texts[is_unreadable].items():
            problems.append((line, name, f"is not a number: {text!r}"))
    return numbers, pd.DataFrame(problems, columns=PROBLEM_COLUMNS)


def _find_broken_rules(typed: pd.DataFrame, labelled: bool) -> pd.DataFrame:
    """Return every broken rule of every row: ``line, failed_column, reason``."""
    try:
        build_contract(labelled).validate(typed, lazy=True)
    except pa.errors.SchemaErrors as error:
        return _read_failure_cases(error.failure_cases)
    return pd.DataFrame(columns=PROBLEM_COLUMNS)


def _read_failure_cases(cases: pd.DataFrame) -> pd.DataFrame:
    """Turn pandera's failure cases into ``line, failed_column, reason``."""
    of_whole_frame = cases[cases["index"].isna()]
    if len(of_whole_frame):
        raise DataError(
            f"the delivery's columns break the contract: {of_whole_frame['check'].tolist()}"
        )
    # A row is blamed on the column that is wrong in itself before those that no longer fit to it.
    cases = cases.assign(between_columns=cases["check"].str.contains("|", regex=False))
    cases = cases.sort_values(["between_columns", "column", "check"])
    problems = []
    for case in cases.itertuples():
        if case.between_columns:
            column, reason = case.check.split("|")
        elif case.check in PANDERA_REASONS:
            column, reason = case.column, PANDERA_REASONS[case.check]
        else:
            column, reason = case.column, f"{case.check}: {case.failure_case!r}"
        problems.append((case.index, column, reason))
    return pd.DataFrame(problems, columns=PROBLEM_COLUMNS)


def _blame_rows(problems: pd.DataFrame) -> pd.DataFrame:
    """Join the problems of each row: index ``line``, columns ``failed_column`` and ``reason``."""
    # Of one column the first problem counts: "abc" is not a number, so it need not be called blank
    # too.
    problems = problems.drop_duplicates(["line", "failed_column"])
    reasons = problems["failed_column"] + " " + problems["reason"]
    by_line = problems.assign(reason=reasons).groupby("line", sort=True)
    return by_line.agg(
        failed_column=("failed_column", "first"),
        reason=("reason", "; ".join),
    )
