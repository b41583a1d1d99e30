import multiprocessing
import sys

import nbformat
import papermill
import pytest

from churn_utils import kernels

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="fork is safe on Linux only")


@pytest.fixture
def execute(tmp_path, monkeypatch):
    monkeypatch.setenv("JUPYTER_DEFAULT_PROVISIONER_NAME", "local-provisioner")
    assert kernels.use_forked_kernels()

    def run(source, **options):
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
        nbformat.write(notebook, tmp_path / "in.ipynb")
        done = papermill.execute_notebook(
            str(tmp_path / "in.ipynb"), str(tmp_path / "out.ipynb"), kernel_name="python3", progress_bar=False,
            cwd=str(tmp_path), **options,
        )  # fmt: skip
        return "".join(output.get("text", "") for output in done.cells[-1].outputs)

    return run


def test_a_forked_kernel_is_warm_but_its_names_are_clean(execute):
    text = execute("import sys; print('churn_utils.validation' in sys.modules, 'pd' in dir(), __name__)")
    assert text.split() == ["True", "False", "__main__"]


def test_a_kernel_gets_the_environment_of_now_and_the_folder_asked_for(execute, monkeypatch, tmp_path):
    monkeypatch.setenv("CHURN_HOME", "/somewhere/else")
    text = execute("import os; print(os.environ['CHURN_HOME'], os.getcwd())")
    assert text.split() == ["/somewhere/else", str(tmp_path)]


def test_kernels_end_with_their_notebook(execute):
    execute("1 + 1")
    assert multiprocessing.active_children() == []


def test_an_error_in_a_forked_kernel_is_an_error(execute):
    with pytest.raises(papermill.PapermillExecutionError, match="ZeroDivisionError"):
        execute("1 / 0")


def test_a_kernel_that_dies_is_noticed(execute):
    with pytest.raises(Exception, match="(?i)kernel died"):
        execute("import os; os._exit(3)")
