import json
import time
from types import SimpleNamespace

import pytest
from fastapi import HTTPException
from fastapi.exceptions import RequestValidationError

from churn_utils.serving import inference_schemas, mlflow_schemas, request_schemas
from churn_utils.serving.error_responses import MOST_ERRORS
from churn_utils.serving.examples import EXAMPLE_CUSTOMER
from churn_utils.serving.request_bodies import (
    MOST_CONTAINERS,
    MOST_KEYS,
    MOST_VALUES,
    parse_body,
)

MANY_KEYS = {f"key {number}": 1 for number in range(80_000)}
HOSTILE = {
    "unknown keys": (request_schemas.PredictionRequest, {"customer_ids": ["a"], **MANY_KEYS}),
    "unknown keys of a customer": (request_schemas.ScoreRequest, {"customers": [MANY_KEYS]}),
    "empty customers": (request_schemas.ScoreRequest, {"customers": [{}] * 1000}),
    "far too many empty customers": (request_schemas.ScoreRequest, {"customers": [{}] * 240_000}),
    "ids of a wrong type": (request_schemas.PredictionRequest, {"customer_ids": [[]] * 200_000}),
    "a list in a list": (request_schemas.ScoreRequest, {"customers": [[{}] * 200_000]}),
}


PLAIN = {b"content-type": b"application/json"}


def parse(content, schema, headers=PLAIN):
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    state = {"body": text, "header": headers}
    return parse_body(SimpleNamespace(scope={"state": state}), schema)


def find_errors(content, schema):
    with pytest.raises(RequestValidationError) as refused:
        parse(content, schema)
    return refused.value.errors()


@pytest.mark.parametrize("name", HOSTILE)
def test_a_body_of_errors_costs_little_more_than_parsing(name):
    schema, content = HOSTILE[name]
    text = json.dumps(content).encode()
    started = time.process_time()
    json.loads(text)
    parsed = time.process_time()
    errors = find_errors(text, schema)
    refused = time.process_time()
    assert 1 <= len(errors) <= MOST_ERRORS + MOST_KEYS
    # before, validation cost some 30 times as much as parsing; a floor, because clocks are coarse
    assert refused - parsed <= max(10 * (parsed - started), 0.05)


# None of them is JSON, which a parser would say instead.
TOO_MUCH = {
    "keys": b'{"a": 0,' * 2 + b'"b": 0,' * MOST_VALUES,
    "lists": b"[" + b"[]" * MOST_CONTAINERS,
    "objects": b"{" * (MOST_CONTAINERS + 1),
    "numbers": b"0," * MOST_VALUES,
}


@pytest.mark.parametrize("name", TOO_MUCH)
def test_more_than_the_largest_batch_is_not_parsed(name):
    (error,) = find_errors(TOO_MUCH[name], request_schemas.ScoreRequest)
    assert error["type"] == "too_long" and "are allowed" in error["msg"]


COLUMNS = list(EXAMPLE_CUSTOMER)
LARGEST = request_schemas.MOST_CUSTOMERS
ROWS = [list(EXAMPLE_CUSTOMER.values())] * LARGEST
FRAME = {"columns": COLUMNS, "data": ROWS, "index": list(range(LARGEST))}
TENSORS = [
    {"name": name, "datatype": datatype, "shape": [LARGEST], "data": [value] * LARGEST}
    for (name, value), datatype in zip(
        EXAMPLE_CUSTOMER.items(), inference_schemas.DATATYPE_OF_COLUMN.values(), strict=True
    )
]
LARGEST_BATCHES = {
    "ids": (request_schemas.PredictionRequest, {"customer_ids": ["a,b"] * LARGEST}),
    "customers": (request_schemas.ScoreRequest, {"customers": [EXAMPLE_CUSTOMER] * LARGEST}),
    "frame": (mlflow_schemas.Invocation, {"dataframe_split": FRAME}),
    "records": (mlflow_schemas.Invocation, {"dataframe_records": [EXAMPLE_CUSTOMER] * LARGEST}),
    "tensors": (inference_schemas.InferenceRequest, {"inputs": TENSORS}),
}


@pytest.mark.parametrize("name", LARGEST_BATCHES)
def test_the_largest_batch_is_parsed(name):
    schema, content = LARGEST_BATCHES[name]
    assert parse(content, schema)


def test_items_before_the_first_wrong_one_are_validated_once():
    one_is_wrong = [*["a"] * (LARGEST - 1), "=a"]
    validated = []

    class Counting(request_schemas.PredictionRequest):
        @classmethod
        def model_validate(cls, content, **options):
            validated.append(len(content["customer_ids"]))
            return super().model_validate(content, **options)

    (error,) = find_errors({"customer_ids": one_is_wrong}, Counting)
    assert error["loc"] == ("body", "customer_ids", LARGEST - 1)
    assert validated == [LARGEST, 1]


def test_errors_are_listed_up_to_the_twentieth():
    wrong_and_right = ["=a", "a"] * 30
    errors = find_errors({"customer_ids": wrong_and_right}, request_schemas.PredictionRequest)
    places = [error["loc"] for error in errors]
    assert places == [("body", "customer_ids", 2 * number) for number in range(MOST_ERRORS)]


def test_errors_beside_a_list_are_listed_with_those_in_it():
    customers = [EXAMPLE_CUSTOMER, {**EXAMPLE_CUSTOMER, "tenure": -1}, EXAMPLE_CUSTOMER]
    errors = find_errors({"customers": customers, "more": 1}, request_schemas.ScoreRequest)
    places = [error["loc"] for error in errors]
    assert places == [("body", "more"), ("body", "customers", 1, "tenure")]


@pytest.mark.parametrize("text", [b"", b"{", b"[" * 1000, b"\xff"])
def test_what_is_not_json_is_said_to_be_none(text):
    (error,) = find_errors(text, request_schemas.PredictionRequest)
    assert error["type"] == "json_invalid" and error["loc"] == ("body",)


def test_a_right_body_is_parsed():
    assert parse({"customer_ids": ["a", "b"]}, request_schemas.PredictionRequest).customer_ids == [
        "a",
        "b",
    ]
    assert (
        len(parse({"customers": [EXAMPLE_CUSTOMER]}, request_schemas.ScoreRequest).customers) == 1
    )


@pytest.mark.parametrize(
    ("headers", "is_taken"),
    [
        (PLAIN, True),
        ({b"content-type": b"Application/JSON; charset=utf-8"}, True),
        ({**PLAIN, b"content-encoding": b"identity"}, True),
        ({}, False),
        ({b"content-type": b"text/plain"}, False),
        ({**PLAIN, b"content-encoding": b"gzip"}, False),
    ],
)
def test_only_plain_json_is_taken(headers, is_taken):
    if is_taken:
        assert parse({"customer_ids": ["a"]}, request_schemas.PredictionRequest, headers)
        return
    with pytest.raises(HTTPException) as refused:
        parse({"customer_ids": ["a"]}, request_schemas.PredictionRequest, headers)
    assert refused.value.status_code == 415
