"""What tests read from plotly's figures."""

import numpy as np
import pandas as pd


def trace(figure, name):
    return next(trace for trace in figure.data if trace.name == name)


def pairs(trace):
    """Return y by x."""
    return dict(zip(trace.x, trace.y, strict=True))


def dated_pairs(trace):
    """Return y by x, with x as timestamps."""
    return dict(zip(pd.to_datetime(trace.x), trace.y, strict=True))


def bounds(values, arms):
    """Return lower and upper ends of error bars."""
    values = np.asarray(values)
    return (values - arms.arrayminus).tolist(), (values + arms.array).tolist()


def lines_at(figure):
    """Return where the vertical lines stand."""
    return [shape.x0 for shape in figure.layout.shapes if shape.x0 == shape.x1]


def marks(figure):
    """Return the colour of each vertical line by its date."""
    lines = [shape for shape in figure.layout.shapes if shape.x0 == shape.x1]
    return {pd.Timestamp(line.x0): line.line.color for line in lines}


def texts(figure):
    return [annotation.text for annotation in figure.layout.annotations]
