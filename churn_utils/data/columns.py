"""The columns of a customer: names, types, units, categories, bounds.

Together with ``column_rules`` and ``customer_ids`` this is the only place that says what a row of
data looks like. The data contract, the API's request
schemas, the features, the simulator and the table in ``data/README.md`` derive from it.
"""

from __future__ import annotations

from dataclasses import dataclass

from churn_utils.data.customer_ids import ID_FORM


@dataclass(frozen=True)
class ColumnType:
    """A type of value under the name that each library gives it."""

    python: type
    pandas: str
    arrow: str
    mlflow: str


TEXT = ColumnType(str, "object", "string", "string")
WHOLE = ColumnType(int, "int64", "int64", "long")
DECIMAL = ColumnType(float, "float64", "double", "double")


@dataclass(frozen=True)
class Column:
    """One column of a delivery.

    Attributes:
        name: our name.
        source_name: IBM's name.
        type: TEXT, WHOLE or DECIMAL.
        description: what the value means.
        unit: unit of a number; empty for text.
        categories: every value that a text may have; empty for an id and for numbers.
        minimum, maximum: bounds of a number, inclusive. They come from what is possible, not from
            what one file happens to hold.
        nullable: whether the value may be missing (a rule between columns may narrow it).
        is_slice: whether the gate and the monitoring look at each group of it separately.
    """

    name: str
    source_name: str
    type: ColumnType
    description: str
    unit: str = ""
    categories: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    nullable: bool = False
    is_slice: bool = False

    @property
    def is_flag(self) -> bool:
        """Tell whether the only values are 0 and 1."""
        return self.type is WHOLE and (self.minimum, self.maximum) == (0, 1)


CUSTOMER_ID = "customer_id"
LABEL = "churn"
YES_NO = ("No", "Yes")
WITH_PHONE = ("No", "No phone service", "Yes")
WITH_INTERNET = ("No", "No internet service", "Yes")
PAYMENT_METHODS = (
    "Bank transfer (automatic)",
    "Credit card (automatic)",
    "Electronic check",
    "Mailed check",
)
LONGEST_TENURE_MONTHS = 240
HIGHEST_MONTHLY_CHARGES_USD = 500.0


def _yes_no(name: str, source_name: str, description: str) -> Column:
    """Return a column that is Yes or No."""
    return Column(name, source_name, TEXT, description, categories=YES_NO)


def _internet_option(name: str, source_name: str, description: str = "option bought") -> Column:
    """Return a column of an option that is possible only with internet service."""
    return Column(name, source_name, TEXT, description, categories=WITH_INTERNET)


INTERNET_OPTION_COLUMNS = (
    _internet_option("online_security", "OnlineSecurity"),
    _internet_option("online_backup", "OnlineBackup"),
    _internet_option("device_protection", "DeviceProtection"),
    _internet_option("tech_support", "TechSupport"),
    _internet_option("streaming_tv", "StreamingTV", "uses the line for television"),
    _internet_option("streaming_movies", "StreamingMovies", "uses the line for films"),
)
COLUMNS = (
    Column(CUSTOMER_ID, "customerID", TEXT, "unique key"),
    Column("gender", "gender", TEXT, "Female or Male", categories=("Female", "Male")),
    Column(
        "senior_citizen",
        "SeniorCitizen",
        WHOLE,
        "1 from the age of 65",
        unit="0 or 1",
        minimum=0,
        maximum=1,
        is_slice=True,
    ),
    _yes_no("partner", "Partner", "has a partner"),
    _yes_no("dependents", "Dependents", "lives with children, parents or others"),
    Column(
        "tenure",
        "tenure",
        WHOLE,
        "months with the company",
        unit="months",
        minimum=0,
        maximum=LONGEST_TENURE_MONTHS,
    ),
    _yes_no("phone_service", "PhoneService", "has a phone line"),
    Column(
        "multiple_lines",
        "MultipleLines",
        TEXT,
        "has several phone lines",
        categories=WITH_PHONE,
    ),
    Column(
        "internet_service",
        "InternetService",
        TEXT,
        "DSL, fibre or none",
        categories=("DSL", "Fiber optic", "No"),
        is_slice=True,
    ),
    *INTERNET_OPTION_COLUMNS,
    Column(
        "contract",
        "Contract",
        TEXT,
        "term of the contract",
        categories=("Month-to-month", "One year", "Two year"),
        is_slice=True,
    ),
    _yes_no("paperless_billing", "PaperlessBilling", "gets the bill by e-mail"),
    Column(
        "payment_method",
        "PaymentMethod",
        TEXT,
        "how the bill is paid",
        categories=PAYMENT_METHODS,
    ),
    Column(
        "monthly_charges",
        "MonthlyCharges",
        DECIMAL,
        "the current monthly bill",
        unit="USD per month",
        minimum=5.0,
        maximum=HIGHEST_MONTHLY_CHARGES_USD,
    ),
    Column(
        "total_charges",
        "TotalCharges",
        DECIMAL,
        "billed so far; blank only at tenure 0",
        unit="USD",
        minimum=0.0,
        maximum=LONGEST_TENURE_MONTHS * HIGHEST_MONTHLY_CHARGES_USD,
        nullable=True,
    ),
    _yes_no(LABEL, "Churn", "left within the month after"),
)
BY_NAME = {column.name: column for column in COLUMNS}
CUSTOMER_COLUMNS = tuple(name for name in BY_NAME if name != LABEL)
INTERNET_OPTIONS = tuple(column.name for column in INTERNET_OPTION_COLUMNS)


def describe_columns() -> str:
    """Return the table of columns in ``data/README.md`` as Markdown."""
    lines = ["| column | IBM's name | unit or values | meaning |", "|---|---|---|---|"]
    for column in COLUMNS:
        cells = (column.name, column.source_name, _describe_values(column), column.description)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _describe_values(column: Column) -> str:
    """Return what a column may hold, for the table."""
    if column.name == CUSTOMER_ID:
        return f"text of {ID_FORM}"
    if column.type is TEXT:
        return ", ".join(column.categories)
    if column.is_flag:
        return column.unit
    return f"{column.unit}, {column.minimum:g} to {column.maximum:g}"


if __name__ == "__main__":
    print(describe_columns())
