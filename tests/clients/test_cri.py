"""containerd's CRI plugin, as a kubelet drives it, with ctk as the shim's BinaryName."""

import os
import sys
from pathlib import Path

import pytest

from tests.clients.conftest import IMAGE, Containerd

pytestmark = pytest.mark.root


def test_a_pod_from_sandbox_to_removal(containerd: Containerd, tmp_path: Path) -> None:
    program = os.path.join(os.path.dirname(__file__), "cri_client.py")
    saw = containerd.room.run(sys.executable, program, containerd.socket, IMAGE, str(tmp_path), timeout=120).json()
    assert IMAGE in saw.pop("images")
    assert saw.pop("memory used") > 0
    assert saw == {
        "exec": [5, ["of-the-pod", "1"]],
        "exec timeout": "DEADLINE_EXCEEDED",
        "memory limit": 80 << 20,
        "stopped": 3,
        "log": "of-the-pod",
        "exit code": 4,
    }
