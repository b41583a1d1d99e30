"""The work behind the telco churn notebooks, one module a step; data flows from the first module to the last.

settings → source → contract → lakehouse → features → feature_store → evaluation → payoff → training → search →
search_report → simulator → world → provenance → tracking → registry → deployments → lineage → scoring → isolation →
probing → candidate → gate_report → record_checks, behaviour_checks, checks → validation → batch → online_store →
fast_scoring → inference_log → trials → serving (settings, metrics, models, engine, http, transport, the
application, client) → rehearsal → monitoring → drift → production → review, then charts, production_charts,
serving_charts, governance_charts, evidently_page, reporting, kernels, stages, state, execution and pipeline.
A module imports only modules above it (tests/test_structure.py).
"""
