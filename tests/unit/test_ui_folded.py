"""Alike lines as one, what is looked for first, and colours only for those who want them."""

import io
from typing import Any

import pytest

from toolkit.observe import rows
from toolkit.ui import fold, health, tables


def test_lines_that_differ_in_their_paths_are_one() -> None:
    names = ("cpu", "memory/below", "pids", "name=systemd")
    calls = [f'mkdir("/sys/fs/cgroup/{name}/web", 0755)' for name in names]
    assert fold.lines(["first", *calls, "last"]) == [
        "first", 'mkdir("/sys/fs/cgroup/{cpu,memory/below,pids,name=systemd}/web", 0755)', "last",
    ]  # fmt: skip
    three = [line for name in names for line in (f"mkdir /c/{name}", f"mount --rbind /c/{name}/x /r/{name}", "true")]
    assert fold.lines(three) == [
        "mkdir /c/{cpu,memory/below,pids,name=systemd}",
        "mount --rbind /c/{cpu,memory/below,pids,name=systemd}/x /r/{cpu,memory/below,pids,name=systemd}",
        "true",
    ]
    assert fold.lines(["mkdir -p /c/a /c/b /c/d/e /c/f"]) == ["mkdir -p /c/{a,b,d/e,f}"]


@pytest.mark.parametrize("line", ["echo 5 > /a/x", "cat /a /b /c /d", "true", "mkdir /a /b"])
def test_other_lines_stay(line: str) -> None:
    assert fold.lines([line, "echo 6 > /a/x", "echo 7 > /a/y", line]) == [line, "echo 6 > /a/x", "echo 7 > /a/y", line]
    assert fold.lines([line]) == [line] and fold.lines([]) == []


def test_limits_come_first_and_alike_mounts_in_one_row() -> None:
    def mount(where: str, kind: str) -> dict[str, str]:
        return {"destination": where, "type": kind, "source": kind, "options": "ro", "root": "/"}

    told: dict[str, Any] = {
        "id": "c", "status": "running", "pid": 7, "rootless": False, "namespaces": [], "uidMappings": [],
        "gidMappings": [], "capabilities": {}, "seccomp": {"mode": "off", "filters": 0}, "noNewPrivileges": True,
        "label": "", "ports": [], "processes": [], "cgroups": {"limits": [], "paths": {}},
        "mounts": [mount("/", "ext4"), *(mount(f"/proc/{name}", "proc") for name in ("bus", "fs", "irq"))],
    }  # fmt: skip
    parts = rows.inspection(told)
    assert [title for title, *_ in parts][:4] == ["container", "limits", "processes", "ports"]
    assert parts[-1][0] == "mounts"
    assert parts[-1][2] == (("/", "ext4", "ext4", "ro"), ("/proc/{bus,fs,irq}", "proc", "proc", "ro"))


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colours_are_for_terminals_that_want_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    table = tables.Table(("NAME", "N"), (("a\x1b[31m", "1"),), "title")
    finding = ["✗ cgroups: none\x1b[31m", "    mount it"]

    def shown(stream: io.StringIO) -> str:
        tables.show([table], stream)
        health.show(finding, "bad", stream)
        return stream.getvalue()

    plain = shown(io.StringIO())
    assert "\x1b" not in plain and "a\\x1b[31m" in plain and plain.endswith("    mount it\n")
    coloured = shown(Screen())
    assert "\x1b[1;36mtitle:" in coloured and "\x1b[1;31m✗" in coloured and "\\x1b[31m" in coloured
    monkeypatch.setenv("NO_COLOR", "1")
    assert shown(Screen()) == plain
