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


def test_answers_come_as_a_frame_and_errors_as_exceptions(api):
    assert api.predict(IDS)["customer_id"].tolist() == IDS
    with pytest.raises(ChurnError, match="answered 404: None of the customers"):
        api.predict(["NOBODY"])
    with pytest.raises(ChurnError, match="predictions/x was answered 422"):
        api.get("predictions/x")


def test_traffic_asks_for_each_once_or_for_a_while(api):
    once = api.send_traffic(IDS)
    assert sorted(once["customer_id"]) == sorted(IDS) and set(once["status"]) == {200}
    long = api.start_traffic(IDS, 0.5).result()
    assert len(long) > 10 and long["second"].max() < 1 and (long["milliseconds"] > 0).all()


def test_a_trial_and_a_version_are_waited_for(api, shared_serving_home):
    ab_test.start(shared_serving_home.challenger, factories.AS_OF, 0.5)
    assert api.wait_for_ab_test()["version"] == shared_serving_home.challenger
    assert api.wait_for_version(shared_serving_home.predecessor) < 1
    with pytest.raises(ChurnError, match="version 99 does not answer"):
        api.wait_for_version(99, seconds=0.1)


def test_the_log_is_waited_for(api):
    answers = api.predict(IDS)
    api.wait_for_log()
    assert set(answers["prediction_id"]) <= set(tables.read("inference_log")["prediction_id"])


def test_a_request_without_an_answer_counts_as_failed(home):
    api = Api()
    api.close()
    assert api.send_traffic(IDS)["status"].tolist() == [0, 0, 0]


def test_an_api_that_does_not_start_says_why(home):
    with pytest.raises(ChurnError, match="CHURN_RATE_LIMIT is 'fast'"):
        Api(CHURN_RATE_LIMIT="fast").wait_until_ready()


def test_no_server_outlives_the_program_that_started_it(home):
    script = "from churn_utils.serving.client import Api; api = Api(); print(api._process.pid); import os; os._exit(1)"
    pid = int(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout)
    end = time.monotonic() + 30
    while _is_running(pid):
        assert time.monotonic() < end, "the server is still there"
        time.sleep(0.1)


def _is_running(pid):
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
