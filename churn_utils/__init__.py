"""The work behind the telco churn notebooks, one module a step; data flows from the first module to the last.

settings → source → contract → lakehouse → features → feature_store → evaluation → training → simulator → world →
tracking → registry → deployments → scoring → checks → validation → batch → online_store → fast_scoring →
inference_log → trials → serving (settings, metrics, models, engine, http, the application, client) → rehearsal →
monitoring → drift → production → review, then charts, production_charts, serving_charts, evidently_page, reporting,
kernels, stages, state, execution and pipeline. A module imports only modules above it (tests/test_structure.py).
"""
