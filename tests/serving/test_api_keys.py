import pytest

from churn_utils.errors import UsageError
from churn_utils.serving.api_keys import ApiKeys


def test_a_key_has_the_name_that_it_was_given():
    keys = ApiKeys(["app:first", "crm: second ", "third"])
    found = [keys.find_name(key) for key in (b"first", b"second", b"third")]
    assert found == ["app", "crm", "key 3"]
    for wrong in (b"", b"app", b"app:first", b"firs"):
        assert keys.find_name(wrong) is None


@pytest.mark.parametrize("entries", [["app:"], [":key"], ["app:a", "app:b"], ["a:same", "b:same"]])
def test_entries_that_are_no_keys_are_refused(entries):
    with pytest.raises(UsageError, match="API key"):
        ApiKeys(entries)


def test_keys_follow_their_file(tmp_path, caplog):
    now = [0.0]
    path = tmp_path / "keys"
    path.write_text("# who may call\napp:first\n")
    keys = ApiKeys(["crm:given"], str(path), lambda: now[0])
    assert keys.find_name(b"first") == "app" and keys.find_name(b"given") == "crm"

    path.write_text("app:second\n")
    now[0] = 2.0
    assert keys.find_name(b"first") is None and keys.find_name(b"second") == "app"

    path.unlink()  # as while it is replaced
    now[0] = 4.0
    assert keys.find_name(b"second") == "app" and "stay valid" in caplog.text

    path.write_text("app:third\n")
    now[0] = 6.0
    assert keys.find_name(b"third") == "app" and keys.find_name(b"given") == "crm"


def test_a_file_without_keys_is_refused_at_the_start(tmp_path):
    path = tmp_path / "keys"
    with pytest.raises(UsageError, match="cannot be read"):
        ApiKeys([], str(path))
    path.write_text("# none yet\n")
    with pytest.raises(UsageError, match="holds no key"):
        ApiKeys([], str(path))
