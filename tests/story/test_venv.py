"""scripts/venv beside an environment that somebody made by hand: it is added to, never cleared."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]

# A project that pip can install without an index: it is its own build backend.
PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "ctk-oci"
version = "1"
"""
BACKEND = """
import zipfile

def build_editable(folder, config_settings=None, metadata_directory=None):
    name = "ctk_oci-1-py3-none-any.whl"
    info = "ctk_oci-1.dist-info/"
    with zipfile.ZipFile(folder + "/" + name, "w") as wheel:
        wheel.writestr("installed_by_hand.py", "")
        wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\\nName: ctk-oci\\nVersion: 1\\n")
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(info + "RECORD", "")
    return name
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "scripts").mkdir()
    for name in ("venv", "ctk"):
        shutil.copy2(TOP / "scripts" / name, tmp_path / "scripts" / name)
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    (tmp_path / "backend.py").write_text(BACKEND)
    return tmp_path


def made(checkout: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([checkout / "scripts/venv"], stdin=-3, capture_output=True, text=True, timeout=200)


def test_an_environment_made_by_hand_is_added_to(checkout: Path) -> None:
    environment = checkout / ".venv"
    # Without pip, as some tools make them.
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    (environment / "mine").write_text("kept")
    done = made(checkout)
    assert done.returncode == 0, done.stderr
    python = environment / "bin/python3"
    assert done.stdout == f"{python}\n"
    assert (environment / "mine").read_text() == "kept"
    subprocess.run([python, "-c", "import installed_by_hand"], check=True)
    again = made(checkout)
    assert (again.returncode, again.stderr) == (0, ""), "a finished one is left alone"
    assert (environment / "mine").exists()


def test_one_that_is_too_old_is_told_and_one_that_can_not_run_is_made_anew(checkout: Path) -> None:
    python = checkout / ".venv/bin/python3"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\ncase $2 in *version_info*) exit 1 ;; esac\n")
    python.chmod(0o755)
    done = made(checkout)
    assert done.returncode == 1 and "older than 3.11" in done.stderr and python.exists()
    python.unlink()
    python.symlink_to("/nonexistent/python3")
    done = made(checkout)
    assert done.returncode == 0, done.stderr
    subprocess.run([python, "-c", "import installed_by_hand"], check=True)
