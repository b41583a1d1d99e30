"""A pytest plugin (``-p nbval_kernels``): kernels and isolated calls fork from one warm process."""

from churn_utils.pipeline import kernels, warm_process


def pytest_configure(config):
    if kernels.use_forked_kernels():
        offer = warm_process.offer_isolation()
        offer.__enter__()
        config.add_cleanup(lambda: offer.__exit__(None, None, None))
