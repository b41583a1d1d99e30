"""Telco churn from features to proven recovery: the package behind the notebooks.

The folders follow the loop, and a folder imports only folders above it in this list
(tests/test_structure.py): data, features, evaluation, training, simulation, upstream, registry,
inference, validation, monitoring, serving, reports, pipeline. `settings` and `errors` stand
above all of them.
"""
