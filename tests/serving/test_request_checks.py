import base64

import pytest

from churn_utils.serving.api_keys import ApiKeys
from churn_utils.serving.request_checks import (
    MOST_CALLERS,
    CallerCheck,
    HostCheck,
    RateLimiter,
    is_probe,
)


def test_buckets_refill_at_the_rate_and_are_bounded():
    now = [0.0]
    limiter = RateLimiter(10, lambda: now[0])
    assert [limiter.take("a") for _ in range(20)] == [0.0] * 20
    assert limiter.take("a") == pytest.approx(0.1)
    now[0] = 0.1
    assert limiter.take("a") == 0.0 and limiter.take("a") > 0
    for i in range(MOST_CALLERS + 50):
        limiter.take(str(i))
    assert len(limiter) == MOST_CALLERS


def test_a_batch_is_paid_for_by_later_requests():
    now = [0.0]
    limiter = RateLimiter(10, lambda: now[0])
    assert limiter.take("a") == 0.0
    limiter.charge("a", 99)  # a batch of 100 customers; the bucket holds 20
    assert limiter.take("a") == pytest.approx(8.1)
    assert limiter.take("b") == 0.0
    now[0] = 8.2
    assert limiter.take("a") == 0.0


def check_host(hosts, host):
    """Status of the refusal of a request for a host; None if it is let in."""
    scope = {"path": "/v1/scores", "state": {}}
    refusal = HostCheck(hosts).refuse(scope, {b"host": host.encode()})
    return None if refusal is None else refusal.status_code


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", None),
        ("LOCALHOST:8000", None),
        ("[::1]", None),
        ("[::1]:8000", None),
        ("evil.example", 421),
        ("localhost.evil.example", 421),
        ("evil.example:localhost", 421),
        ("", 421),
    ],
)
def test_only_known_hosts_are_answered_for(host, status):
    assert check_host(["localhost", "[::1]"], host) == status
    assert check_host(["*"], host) is None


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/healthz", True),
        ("/ping", True),
        ("/v2/health/ready", True),
        ("/v2/models/m/ready", True),
        ("/v2/models/m/versions/1/ready", True),
        ("/v1/healthz", False),
        ("/v2/models/m", False),
        ("/v2/models/m/infer", False),
        ("/v2/models/m/infer/ready", False),
        ("/healthz/", False),
        ("/invocations", False),
    ],
)
def test_probes_are_known_by_their_whole_path(path, expected):
    assert is_probe(path) == expected


def test_a_key_may_be_the_password_of_a_basic_authorization():
    check = CallerCheck(ApiKeys(["app:secret"], ""), rate_limit=0)

    def refuse(authorization):
        scope = {"path": "/v1/scores", "client": None, "state": {}}
        return check.refuse(scope, {b"authorization": authorization}), scope["state"]

    refusal, state = refuse(b"Basic " + base64.b64encode(b"anything:secret"))
    assert refusal is None and state["caller"] == "app"
    wrong = [b"Basic", b"Basic secret", b"Basic !!", base64.b64encode(b"app:other"), b"Basic \xff"]
    for authorization in [*wrong, b"Basic " + base64.b64encode(b"secret")]:
        assert refuse(authorization)[0].status_code == 401
