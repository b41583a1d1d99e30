"""Fixtures of the tests of pages."""

import functools

import page_parts
import pytest


@pytest.fixture
def make_notebook(tmp_path):
    """Write an executed notebook of a name with these cells and return its path."""
    return functools.partial(page_parts.write_notebook, tmp_path)
