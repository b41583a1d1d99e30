"""The definition of the columns, and the table of it in data/README.md."""

from churn_utils import settings
from churn_utils.data import column_rules, columns
from churn_utils.features import definitions


def test_readme_shows_the_table_of_columns():
    text = (settings.PROJECT / "data" / "README.md").read_text(encoding="utf-8")
    assert columns.describe_columns() in text, "python -m churn_utils.data.columns prints it"
    assert definitions.describe_own_features() in text


def test_rules_compare_with_columns_before_theirs():
    order = [column.name for column in columns.COLUMNS]
    for rule in column_rules.RULES:
        assert all(order.index(name) < order.index(rule.column) for name in rule.compared_with)


def test_slices_are_whole_number_flags_or_categories():
    sliced = [columns.BY_NAME[name] for name in definitions.SLICES]
    assert {column.name for column in sliced} == {"contract", "internet_service", "senior_citizen"}
    assert all(column.categories or column.is_flag for column in sliced)
