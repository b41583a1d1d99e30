import json
import math

import httpx
import pandas as pd
import pytest
from mlflow.pyfunc.scoring_server.client import ScoringServerClient
from mlflow.version import VERSION

from churn_utils.serving.client import HOST
from churn_utils.serving.examples import EXAMPLE_CUSTOMER

NEW_CUSTOMER = EXAMPLE_CUSTOMER | {
    "customer_id": "0001-NEW",
    "tenure": 0,
    "total_charges": math.nan,
}
JSON = {"content-type": "application/json"}


def invoke(caller, content):
    """Send a body that may hold NaN, which only the JSON of Python has."""
    return caller.post("/invocations", content=json.dumps(content), headers=JSON)


def test_mlflows_own_client_is_answered(api, caller):
    client = ScoringServerClient(f"app:secret@{HOST}", api.port)
    client.wait_server_ready()
    assert client.get_version() == VERSION
    customers = pd.DataFrame([EXAMPLE_CUSTOMER, NEW_CUSTOMER])
    answered = client.invoke(customers).get_predictions()
    body = {"customers": [EXAMPLE_CUSTOMER, NEW_CUSTOMER | {"total_charges": None}]}
    scored = caller.post("/v1/scores", json=body).json()["predictions"]
    assert answered["customer_id"].tolist() == ["7590-VHVEG", "0001-NEW"]
    expected = [prediction["churn_probability"] for prediction in scored]
    assert answered["churn_probability"].tolist() == expected
    receipt = caller.get(f"/v1/predictions/{answered['prediction_id'][1]}").json()
    assert (receipt["route"], receipt["caller"]) == ("invocations", "app")
    assert receipt["reproduced_probability"] == expected[1]


def test_mlflows_client_is_told_which_field_is_wrong(api):
    wrong = pd.DataFrame([EXAMPLE_CUSTOMER, EXAMPLE_CUSTOMER | {"contract": "Weekly"}])
    client = ScoringServerClient(f"app:secret@{HOST}", api.port)
    with pytest.raises(Exception, match="error code 422.*dataframe_split.data.1.contract"):
        client.invoke(wrong)
    with pytest.raises(Exception, match="error code 401"):
        ScoringServerClient(HOST, api.port).invoke(wrong)


def test_records_are_answered_as_a_split_frame_is(caller):
    records = invoke(caller, {"dataframe_records": [NEW_CUSTOMER]}).json()
    frame = {"columns": list(NEW_CUSTOMER), "data": [list(NEW_CUSTOMER.values())]}
    split = invoke(caller, {"dataframe_split": frame}).json()
    first, second = records["predictions"][0], split["predictions"][0]
    assert first["prediction_id"] != second["prediction_id"]
    assert first["churn_probability"] == second["churn_probability"]


COLUMNS = list(EXAMPLE_CUSTOMER)
VALUES = list(EXAMPLE_CUSTOMER.values())


@pytest.mark.parametrize(
    ("content", "field", "message"),
    [
        ({}, "body", "one of the two"),
        ({"instances": []}, "instances", "not permitted"),
        ({"dataframe_records": []}, "body", "one of the two"),
        ({"dataframe_records": [{}]}, "dataframe_records.0.customer_id", "required"),
        ({"dataframe_records": [7]}, "dataframe_records.0", "dictionary"),
        (
            {"dataframe_records": [EXAMPLE_CUSTOMER | {"tenure": 1.5}]},
            "dataframe_records.0.tenure",
            "integer",
        ),
        (
            {"dataframe_records": [EXAMPLE_CUSTOMER | {"tenure": math.nan}]},
            "dataframe_records.0.tenure",
            "integer",
        ),
        (
            {"dataframe_split": {"columns": COLUMNS[1:], "data": [VALUES[1:]]}},
            "dataframe_split.columns",
            "lacks customer_id",
        ),
        (
            {"dataframe_split": {"columns": [*COLUMNS, "age"], "data": [[*VALUES, 3]]}},
            "dataframe_split.columns",
            "no column",
        ),
        (
            {"dataframe_split": {"columns": COLUMNS, "data": [VALUES, VALUES[1:]]}},
            "dataframe_split.data.1",
            "19 values for 20 columns",
        ),
        (
            {"dataframe_split": {str(i): 0 for i in range(5_000)}},
            "dataframe_split",
            "at most 50",
        ),
        ({"dataframe_records": [EXAMPLE_CUSTOMER], "params": {"a": 1}}, "params", "at most 0"),
    ],
)
def test_a_frame_that_is_not_as_documented_is_422(caller, content, field, message):
    answer = invoke(caller, content)
    error = answer.json()["errors"][0]
    assert answer.status_code == 422 and answer.headers["content-type"].endswith("problem+json")
    assert error["field"] == field and message in error["message"]


def test_a_frame_of_many_errors_names_twenty(caller):
    answer = invoke(caller, {"dataframe_records": [{}] * 1000})
    assert answer.status_code == 422 and len(answer.json()["errors"]) == 20
    frame = {"columns": COLUMNS, "data": [[None] * 20] * 1000}
    answer = invoke(caller, {"dataframe_split": frame})
    assert answer.status_code == 422 and len(answer.json()["errors"]) == 20
    too_many = invoke(caller, {"dataframe_records": [{}] * 1001})
    assert too_many.json()["errors"][0]["field"] == "dataframe_records"


def test_another_kind_of_body_is_415(caller):
    answer = caller.post("/invocations", content="a,b\n1,2", headers={"content-type": "text/csv"})
    assert answer.status_code == 415


def test_ping_needs_neither_key_nor_host(api):
    answer = httpx.get(f"{api.address}/ping", headers={"Host": "10.0.0.1"})
    assert (answer.status_code, answer.text) == (200, "\n")
    assert httpx.head(f"{api.address}/ping").status_code == 200
    assert httpx.get(f"{api.address}/version", headers={"Host": "10.0.0.1"}).status_code == 421
