"""A pytest plugin (``-p nbval_kernels``): nbval's kernels are forked from one warm process."""

from churn_utils.pipeline import kernels


def pytest_configure(config):
    kernels.use_forked_kernels()
