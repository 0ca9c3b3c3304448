"""The installed `ctk` starts Python isolated and without the site walk (docs/decisions/0003-launcher.md)."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.command import Command, installed_ctk, tool


def started_python(launcher: str, tmp_path: Path, environment: "dict[str, str] | None" = None) -> list[str]:
    """The last argv that the launcher hands to execve, as strace saw it."""
    log = tmp_path / "trace"
    argv = [tool("strace"), "-f", "-qq", "-e", "trace=execve", "-o", str(log), launcher, "list"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr
    calls = [line for line in log.read_text().splitlines() if re.search(r"execve\(.* = 0$", line)]
    return re.findall(r'"((?:[^"\\]|\\.)*)"', calls[-1].partition("[")[2].partition("]")[0])


def test_runtime_verbs_start_python_isolated_and_without_site(tmp_path: Path, ctk: Command) -> None:
    argv = started_python(ctk.program, tmp_path, ctk.environment)
    assert argv[1:5] == ["-I", "-S", "-X", "utf8"], argv


def test_a_symlink_to_the_command_works(tmp_path: Path, ctk: Command) -> None:
    # Engines are configured with a path of their own choosing: /usr/local/bin/runc -> …/ctk.
    link = tmp_path / "runc"
    link.symlink_to(installed_ctk())
    argv = started_python(str(link), tmp_path, ctk.environment)
    assert argv[1:5] == ["-I", "-S", "-X", "utf8"], argv
    shown = subprocess.run([str(link), "--version"], capture_output=True, text=True, env=ctk.environment, timeout=60)
    assert shown.returncode == 0 and shown.stdout.startswith("runc version "), shown


def test_the_environment_can_not_bring_code_in(tmp_path: Path, ctk: Command) -> None:
    # With PYTHONPATH or a module in the current folder, whoever can set either would run code as root.
    for name in ("toolkit", "os", "sitecustomize", "errno", "_json"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'bitten')!r}, 'w').write({name!r})\n")
    (tmp_path / "startup.py").write_text(f"open({str(tmp_path / 'bitten')!r}, 'w')\n")
    environment = {
        **ctk.environment,
        "PYTHONPATH": str(tmp_path),
        "PYTHONSTARTUP": str(tmp_path / "startup.py"),
        "PYTHONINSPECT": "1",
    }
    # The control: without -I the poison works, so the test is known to bite.
    subprocess.run([sys.executable, "-c", "import toolkit"], env=environment, cwd=tmp_path, check=True, stdin=-3)
    assert (tmp_path / "bitten").exists()
    (tmp_path / "bitten").unlink()
    ctk("list", env=environment, cwd=tmp_path).ok()
    ctk("list", env={"PYTHONHOME": str(tmp_path)}, cwd=tmp_path).ok()
    assert not (tmp_path / "bitten").exists()


@pytest.mark.parametrize("name", ["ctk"])
def test_launcher_in_the_checkout_is_the_installed_one(name: str) -> None:
    checkout = Path(__file__).parents[2] / "scripts" / name
    assert checkout.read_text() == Path(installed_ctk()).read_text(), "run scripts/venv: the launcher has changed"
    assert os.access(checkout, os.X_OK)
