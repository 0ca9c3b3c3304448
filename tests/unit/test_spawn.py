"""The start of a container's first process, as far as it needs no container."""

import os
import signal
import threading
from pathlib import Path

import pytest

from toolkit.runtime import spawn
from toolkit.runtime.cgroups import v1


def test_ctrl_c_loses_no_cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes between mkdir(2) and our note of it: the folder must be known to whoever tidies up."""
    mkdir, folder = os.mkdir, tmp_path / "pids"

    def interrupted(path: str, mode: int) -> None:
        mkdir(path, mode)
        # To this thread: a worker of the tests has others, which do not hold it back. `create` has none.
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)

    manager = v1.Manager({"pids": str(folder)})
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "mkdir", interrupted)
        spawn.create_cgroup(manager)
    assert folder.is_dir()
    manager.delete()
    assert not folder.exists()
