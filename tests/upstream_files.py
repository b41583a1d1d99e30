"""Small files of customers and labels, as a folder of deliveries holds them."""

import pandas as pd

from churn_utils.upstream import folder

CUSTOMER = (
    "{},Female,0,Yes,No,{},No,No phone service,DSL,No,Yes,No,No,No,No,Month-to-month,Yes,"
    "Electronic check,29.85,{}"
)


def write_customers(path, ids=("A-1", "A-2", "A-3"), tenure=12):
    """A file of customers who differ by their ids alone."""
    lines = [CUSTOMER.format(name, tenure, f"{29.85 * tenure:.2f}") for name in ids]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([",".join(folder.CUSTOMER_NAMES), *lines]) + "\n")
    return path


def write_labels(path, ids=("A-1", "A-2", "A-3")):
    """A file of labels: the first customer has left."""
    lines = [f"{name},{'No' if position else 'Yes'}" for position, name in enumerate(ids)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["customerID,Churn", *lines]) + "\n")
    return path


def write_months(path, first="2026-01", number=2):
    """A folder of months, with the labels of all but the last."""
    names = [f"{month:%Y-%m}" for month in pd.date_range(first, periods=number, freq="MS")]
    for position, name in enumerate(names):
        write_customers(path / name / "customers.csv", tenure=12 + position)
        if name != names[-1]:
            write_labels(path / name / "labels.csv")
    return path
