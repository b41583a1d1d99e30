import shutil
import subprocess

import pytest

from churn_utils import settings


@pytest.mark.parametrize("folder", ["project", "a project ü"])
def test_a_moved_environment_is_made_again(tmp_path, folder):
    project = tmp_path / folder
    (project / ".venv" / "bin").mkdir(parents=True)
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(settings.PROJECT / name, project)
    activate = project / ".venv" / "bin" / "activate"
    (project / ".venv" / "installed").touch()
    activate.write_text(f'VIRTUAL_ENV="{project}/.venv"\n')
    assert "up to date" in plan_install(project)
    activate.write_text(f'VIRTUAL_ENV="{tmp_path}/elsewhere/.venv"\n')
    planned = plan_install(project)
    assert "rm -rf .venv" in planned and "pip install" in planned


def plan_install(project):
    command = ["make", "--dry-run", ".venv/installed"]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, check=True).stdout
