import pytest

from churn_utils.serving.trace_context import LONGEST, NO_TRACE, continue_trace

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
VALID = f"00-{TRACE}-{PARENT}-01"


def parse(*values):
    headers = [(b"traceparent", value.encode("latin-1")) for value in values]
    return continue_trace([(b"host", b"localhost"), *headers])


@pytest.mark.parametrize(
    "given", [VALID, f"cc-{TRACE}-{PARENT}-01", f"cc-{TRACE}-{PARENT}-01-more"]
)
def test_a_valid_trace_goes_on_under_a_span_of_its_own(given):
    trace = parse(given)
    span_id = trace.ids["span_id"]
    assert trace.ids["trace_id"] == TRACE
    assert span_id not in (PARENT, parse(given).ids["span_id"])
    header = f"00-{TRACE}-{span_id}-01"
    assert trace.headers == ((b"traceparent", header.encode()),)
    assert parse(header) is not NO_TRACE


@pytest.mark.parametrize(
    "given",
    [
        "",
        "00",
        VALID.upper(),
        VALID + " ",
        VALID + "-more",
        f"ff-{TRACE}-{PARENT}-01",
        f"0-{TRACE}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[1:]}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-é1",
        f"cc-{TRACE}-{PARENT}-01-{'x' * LONGEST}",
        f"cc-{TRACE}-{PARENT}-01more",
    ],
)
def test_a_header_that_is_not_valid_is_no_trace(given):
    assert parse(given) is NO_TRACE


def test_two_headers_are_no_trace():
    assert parse(VALID, VALID) is NO_TRACE
