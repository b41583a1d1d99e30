import pytest

from churn_utils.serving.request_checks import MOST_CALLERS, RateLimiter


def test_buckets_refill_at_the_rate_and_are_bounded():
    now = [0.0]
    limiter = RateLimiter(10, lambda: now[0])
    assert [limiter.take(b"a") for _ in range(20)] == [0.0] * 20
    assert limiter.take(b"a") == pytest.approx(0.1)
    now[0] = 0.1
    assert limiter.take(b"a") == 0.0 and limiter.take(b"a") > 0
    for i in range(MOST_CALLERS + 50):
        limiter.take(str(i).encode())
    assert len(limiter) == MOST_CALLERS
