"""The one reader of /proc/PID/mountinfo: any name that a mount point may have comes out as it is on disk."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import toolkit
from toolkit.kernel import mountinfo

NAMES = st.binary(min_size=1, max_size=40).map(lambda raw: raw.replace(b"\0", b"x").replace(b"/", b"x"))


def written(name: bytes) -> bytes:
    """As the kernel writes it (fs/proc_namespace.c: mangle)."""
    return b"".join(b"\\%03o" % byte if byte in b" \t\n\\#" else bytes([byte]) for byte in name)


@given(st.lists(st.tuples(NAMES, NAMES), max_size=4))
def test_every_name_is_read_as_it_is(names: list[tuple[bytes, bytes]]) -> None:
    lines = [
        b"36 35 98:0 /%b /mnt/%b rw,noatime master:1 - ext4 %b rw,errors=continue\n" % (root, point, point)
        for root, point in ((written(a), written(b)) for a, b in names)
    ]
    found = list(mountinfo.mounts(b"".join(lines).decode("utf-8", "surrogateescape")))
    assert [(os.fsencode(one[2]), os.fsencode(one[3]), os.fsencode(one[6])) for one in found] == [
        (b"/" + root, b"/mnt/" + point, point) for root, point in names
    ]


def test_what_is_no_mount_is_left_out() -> None:
    assert list(mountinfo.mounts("")) == list(mountinfo.mounts("36 35 98:0 / /mnt rw\n\n36 35 - ext4\n")) == []


ODD = ["日 本\u2028\r", "a\\040b#\tc", b"\xe9 ".decode("utf-8", "surrogateescape")]

SCRIPT = """
import sys
sys.path.append({root!r})
from toolkit.bootstrap.output import target
from toolkit.bootstrap.sandbox import confinement
from toolkit.kernel import delegation, host, mountinfo, mounts
from toolkit.observe import proc
from toolkit.runtime import criu_image
from toolkit.runtime.cgroups import layout
point = {point!r}
mounts.mount("a b", point, "tmpfs", 0)
text = mountinfo.read()
assert target._mounts_below({folder!r}) == [point]
assert point in [one[0] for one in criu_image.read_mounts(text)]
assert [one["source"] for one in proc.mounts(text) if one["destination"] == point] == ["a b"]
layout.hierarchies(), delegation.controllers(), host.HostFacts().cgroup_layout, confinement._masked()
"""


@pytest.mark.parametrize("name", ODD)
def test_all_who_ask_for_mounts_bear_any_name_on_the_host(name: str, tmp_path: Path) -> None:
    # In a mount namespace of its own: a stick called "日 本" stopped every build of the host.
    point = tmp_path / name
    point.mkdir()
    root = os.path.dirname(os.path.dirname(toolkit.__file__))
    script = SCRIPT.format(root=root, point=str(point), folder=str(tmp_path))
    argv = [
        "unshare",
        "-m",
        "--propagation",
        "private",
        sys.executable,
        "-c",
        script.encode("utf-8", "surrogateescape"),
    ]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_nobody_else_reads_it() -> None:
    """Five readers each knew another part of it."""
    folder = Path(toolkit.__file__).parent
    asking = set()
    for path in folder.rglob("*.py"):
        text = path.read_bytes()
        if b"mountinfo" not in text:
            continue
        calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
        for call in calls:
            opens = getattr(call.func, "id", getattr(call.func, "attr", "")) == "open"
            if opens and any("mountinfo" in str(getattr(one, "value", "")) for one in ast.walk(call)):
                asking.add(path.name)
    assert asking == set()
