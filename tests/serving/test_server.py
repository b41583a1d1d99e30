import resource
import socket

import pytest

from churn_utils import settings
from churn_utils.errors import ChurnError, UsageError
from churn_utils.serving import server
from churn_utils.serving.settings import ServingSettings


def test_a_bound_port_refuses_until_the_server_listens(home):
    (bound,) = server.prepare(ServingSettings(), "127.0.0.1", 0)
    address = bound.getsockname()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, 1)
    with pytest.raises(
        ChurnError, match=f"port {address[1]} of 127.0.0.1 cannot be had: Address already in use"
    ):
        bound.listen()
        server.bind(*address)
    bound.close()


@pytest.mark.parametrize(
    ("host", "port", "message"),
    [
        ("127.0.0.1", -1, "--port is -1"),
        ("127.0.0.1", 65536, "--port is 65536"),
        ("nowhere.invalid", 0, "--host is"),
    ],
)
def test_a_host_or_port_that_cannot_be_is_refused(host, port, message):
    with pytest.raises(UsageError, match=message):
        server.bind(host, port)


def test_a_file_in_place_of_a_home_folder_is_refused(home):
    home.mkdir()
    settings.lakehouse().write_text("a file")
    with pytest.raises(ChurnError, match="CHURN_HOME. cannot be written: Not a directory"):
        server.check_home()


def test_a_store_that_does_not_open_frees_the_port(home):
    (home / "online" / "store.sqlite").mkdir(parents=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(
        ChurnError, match="the online store does not open: unable to open database file"
    ):
        server.prepare(ServingSettings(), "127.0.0.1", port)
    server.bind("127.0.0.1", port)[0].close()


def test_the_open_files_limit_rises_as_far_as_allowed(monkeypatch):
    given = []
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: given.append(limits))
    for soft, hard in ((1024, 4096), (1024, 2000), (4096, 4096), (1024, resource.RLIM_INFINITY)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, limits=(soft, hard): limits)
        server.allow_files(3000)
    assert given == [(3000, 4096), (2000, 2000), (3000, resource.RLIM_INFINITY)]
