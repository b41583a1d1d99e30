"""``make audit``: licences and known vulnerabilities of the locked packages."""

import sys
import urllib.error
from types import SimpleNamespace

import pytest

from benchmarks import audit


def test_every_locked_package_has_a_licence():
    licences = audit.list_licences()
    assert len(licences) > 200 and audit.UNKNOWN not in set(licences["licence"])
    by_package = licences.set_index("package")
    assert by_package.loc["numpy", "licence"].startswith("BSD")
    copyleft = by_package[by_package["licence"].str.contains(r"\bA?GPL", regex=True)]
    assert set(copyleft.index) <= set(audit.REMARKS)


@pytest.mark.parametrize(
    ("answer", "code"),
    [(None, 3), (urllib.error.HTTPError("", 404, "", None, None), 3), (OSError(), 0)],
)
def test_vulnerabilities_are_looked_for_where_osv_answers(monkeypatch, capsys, answer, code):
    def open_page(address, timeout):
        if answer is not None:
            raise answer
        return SimpleNamespace(close=lambda: None)

    calls = []

    def call(command, check):
        calls.append(command)
        return SimpleNamespace(returncode=3)

    monkeypatch.setattr(audit.urllib.request, "urlopen", open_page)
    monkeypatch.setattr(audit.subprocess, "run", call)
    monkeypatch.setattr(audit.shutil, "which", lambda name: sys.executable)
    assert audit.find_vulnerabilities() == code
    assert len(calls) == (1 if code else 0)
    assert bool(code) != ("NOT looked for" in capsys.readouterr().out)
