"""Plotly figures of notebooks and reports, by subject."""
