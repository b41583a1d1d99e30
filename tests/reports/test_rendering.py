import tomllib

import pytest

from churn_utils import settings
from churn_utils.reports import rendering


@pytest.mark.parametrize(
    "value, text",
    [
        (0, "0"),
        (7043, "7,043"),
        (-7043, "-7,043"),
        (1234.5, "1,234"),
        (0.842149, "0.8421"),
        (223.96, "224"),
        (-0.00012345, "-0.0001234"),
        (1e6, "1,000,000"),
        (True, "True"),
        (None, "None"),
        ("pass", "pass"),
        ([1], "[1]"),
    ],
)
def test_numbers_are_written_as_people_read_them(value, text):
    assert rendering.format_number(value) == text


def test_templates_are_package_data():
    project = tomllib.loads((settings.PROJECT / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["churn_utils.reports"]
    folder = settings.PROJECT / "churn_utils" / "reports"
    installed = {path for pattern in patterns for path in folder.glob(pattern)}
    assert installed == {path for path in folder.rglob("*") if path.suffix in (".html", ".css")}
