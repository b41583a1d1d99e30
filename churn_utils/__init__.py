"""The work behind the telco churn notebooks, one module a step; data flows from the first module to the last.

settings → source → lakehouse → features → feature_store → training → registry → validation → scoring → batch,
then charts, reporting and pipeline. A module imports only modules above it (tests/test_structure.py).
"""
