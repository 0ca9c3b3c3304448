"""Which folders are meant, for root, for a user, and for a user who is root of a namespace."""

import builtins
import io
import os
from typing import Any

import pytest

from toolkit import places

WHOLE = "         0          0 4294967295\n"
OWN = "         0       1000          1\n"


@pytest.mark.parametrize(
    ("uid", "uid_map", "environment", "folder"),
    [
        (0, WHOLE, {}, "/run/ctk"),
        (0, WHOLE, {"XDG_RUNTIME_DIR": "/run/user/0"}, "/run/ctk"),  # a login of root's
        (1000, WHOLE, {"XDG_RUNTIME_DIR": "/run/user/1000"}, "/run/user/1000/ctk"),
        (1000, WHOLE, {}, "/tmp/ctk-1000/ctk"),
        (0, OWN, {"XDG_RUNTIME_DIR": "/run/user/1000"}, "/run/user/1000/ctk"),  # podman without root
        (0, OWN, {"XDG_RUNTIME_DIR": "/run/user/1000", "USER": "me"}, "/run/user/1000/ctk"),
        (0, OWN, {"XDG_RUNTIME_DIR": "/run/user/0", "USER": "root"}, "/run/ctk"),  # root's in a container
        (0, OWN, {}, "/run/ctk"),
        (0, WHOLE, {"CTK_ROOT": "/elsewhere"}, "/elsewhere"),
    ],
)
def test_folder_of_the_records(
    uid: int, uid_map: str, environment: dict[str, str], folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.open

    def opened(path: Any, *arguments: Any, **keywords: Any) -> Any:
        return io.StringIO(uid_map) if path == "/proc/self/uid_map" else real(path, *arguments, **keywords)

    monkeypatch.setattr(os, "geteuid", lambda: uid)
    monkeypatch.setattr(builtins, "open", opened)
    for name in ("CTK_ROOT", "XDG_RUNTIME_DIR", "USER"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert places.runtime_root() == folder
