"""The work behind the telco churn notebooks, one module a step; data flows from the first module to the last.

settings → source → contract → lakehouse → features → feature_store → evaluation → training → simulator → tracking →
registry → deployments → scoring → checks → validation → batch → online_store → fast_scoring → inference_log → trials →
serving (settings, metrics, models, engine, http, the application, client) → rehearsal → monitoring → drift, then
charts, serving_charts, reporting, kernels, stages and pipeline. A module imports only modules above it
(tests/test_structure.py).
"""
