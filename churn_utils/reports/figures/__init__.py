"""Plotly figures of notebooks and reports, one module per subject, in the style of ``style``.

Every public function is named ``plot_...`` and returns a ``plotly.graph_objects.Figure``; where
there is nothing to show, an empty one with its title. ``title`` is the text above the figure.
"""
