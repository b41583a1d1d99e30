"""The notebooks as one pipeline: stages, state of a run, execution, and Jupyter kernels."""
