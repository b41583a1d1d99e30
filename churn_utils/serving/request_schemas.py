"""Requests of the API as pydantic models, with an example of each.

A customer's fields are typed as in ``data.columns``.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    FailFast,
    Field,
    ValidationInfo,
    create_model,
    field_validator,
)

from churn_utils.data.column_rules import RULES, ColumnRule
from churn_utils.data.columns import BY_NAME, CUSTOMER_COLUMNS, CUSTOMER_ID, TEXT, Column
from churn_utils.data.customer_ids import (
    DOCUMENTED_ID_PATTERN,
    ID_FORM,
    ID_PATTERN,
    LONGEST_ID,
)
from churn_utils.serving import examples

MOST_CUSTOMERS = 1_000
RULES_OF_FIELD: dict[str, list[ColumnRule]] = {}
for _rule in RULES:
    RULES_OF_FIELD.setdefault(_rule.column, []).append(_rule)
CustomerId = Annotated[
    str,
    Field(
        max_length=LONGEST_ID,
        pattern=ID_PATTERN,
        description=f"{ID_FORM}.",
        examples=["7590-VHVEG"],
        json_schema_extra={"minLength": 1, "pattern": DOCUMENTED_ID_PATTERN},
    ),
]


class Strict(BaseModel):
    """No type is converted and no unknown field accepted."""

    model_config = ConfigDict(strict=True, extra="forbid", protected_namespaces=())


class PredictionRequest(Strict):
    """Customers to answer for, from their online features."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"customer_ids": ["7590-VHVEG", "5575-GNVDE"]}]}
    )
    customer_ids: Annotated[list[CustomerId], FailFast()] = Field(
        min_length=1, max_length=MOST_CUSTOMERS
    )


class _CustomerRules(Strict):
    """Rules between the fields of a customer, those of ``column_rules.RULES``."""

    @field_validator(*RULES_OF_FIELD, check_fields=False)
    @classmethod
    def _check_rules(cls, value: str | float | None, info: ValidationInfo) -> str | float | None:
        """Check a field against those before it.

        A missing number is NaN, as the rules expect it. A field before it that is wrong in itself
        is not in ``info.data`` and has an error of its own.
        """
        given = math.nan if value is None else value
        valid_so_far = info.data
        field = str(info.field_name)
        for rule in RULES_OF_FIELD[field]:
            try:
                compared = [valid_so_far[name] for name in rule.compared_with]
            except KeyError:
                continue
            if rule.is_broken(given, *compared):
                raise ValueError(rule.reason)
        return value


def _build_field(column: Column) -> tuple[Any, Any]:
    """Return type and bounds of a customer's field as pydantic's ``create_model`` takes them."""
    if column.name == CUSTOMER_ID:
        return CustomerId, Field()
    if column.type is TEXT:
        return Literal[column.categories], Field(description=column.description)
    kind: Any = column.type.python
    if column.nullable:
        kind = kind | None
    description = f"{column.description}, in {column.unit}"
    return kind, Field(ge=column.minimum, le=column.maximum, description=description)


# in the order of the contract, in which each rule finds what it compares with
_FIELDS: dict[str, Any] = {name: _build_field(BY_NAME[name]) for name in CUSTOMER_COLUMNS}
Customer = create_model(
    "Customer",
    __base__=_CustomerRules,
    __doc__="A customer given whole, in the names and units of the data contract (data/README.md).",
    **_FIELDS,
)


class ScoreRequest(Strict):
    """Customers given whole, for callers who know more than the store does."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"customers": [examples.EXAMPLE_CUSTOMER]}]}
    )
    # built when the module is imported, which a type checker cannot follow
    customers: Annotated[list[Customer], FailFast()] = Field(  # type: ignore[valid-type]
        min_length=1, max_length=MOST_CUSTOMERS
    )
