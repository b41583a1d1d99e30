import subprocess
import sys
import time

import factories
import psutil
import pytest

from churn_utils.data import tables
from churn_utils.errors import ChurnError
from churn_utils.serving import ab_test
from churn_utils.serving.client import Api

IDS = ["7590-VHVEG", "5575-GNVDE", "3668-QPYBK"]


@pytest.fixture(scope="module")
def api(shared_serving_home):
    with Api(CHURN_TODAY="2025-02-01", CHURN_POLL_SECONDS="0.1") as opened:
        yield opened


def test_predictions_are_a_frame_and_errors_exceptions(api):
    assert api.predict(IDS)["customer_id"].tolist() == IDS
    with pytest.raises(ChurnError, match="returned 404: None of the customers"):
        api.predict(["UNKNOWN"])
    with pytest.raises(ChurnError, match="GET predictions/x returned 422"):
        api.get("predictions/x")


def test_traffic_requests_each_once_or_for_a_while(api):
    once = api.send_traffic(IDS)
    assert sorted(once["customer_id"]) == sorted(IDS) and set(once["status"]) == {200}
    long = api.start_traffic(IDS, 0.5).result()
    assert len(long) > 10 and long["second"].max() < 1 and (long["milliseconds"] > 0).all()


def test_waits_for_an_ab_test_and_a_version(api, shared_serving_home):
    ab_test.start(shared_serving_home.challenger, factories.AS_OF, 0.5)
    assert api.wait_for_ab_test()["version"] == shared_serving_home.challenger
    assert api.wait_for_version(shared_serving_home.predecessor) < 1
    with pytest.raises(ChurnError, match="version 99 does not serve"):
        api.wait_for_version(99, seconds=0.1)


def test_waits_until_the_log_is_written(api):
    predictions = api.predict(IDS)
    api.wait_for_log()
    assert set(predictions["prediction_id"]) <= set(tables.read("inference_log")["prediction_id"])


def test_api_that_does_not_start_says_why_and_is_not_there(home):
    api = Api(CHURN_RATE_LIMIT="fast")
    with pytest.raises(ChurnError, match="CHURN_RATE_LIMIT is 'fast'"):
        api.wait_until_ready()
    assert api.send_traffic(IDS)["status"].tolist() == [0, 0, 0]


def test_server_does_not_outlive_its_starter(home):
    script = (
        "import os; from churn_utils.serving.client import Api; "
        "api = Api(); print(api.pid, flush=True); os._exit(1)"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    pid = int(run.stdout)
    end = time.monotonic() + 120
    while _is_running(pid):
        assert time.monotonic() < end, "the server is still there"
        time.sleep(0.1)


def _is_running(pid):
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
