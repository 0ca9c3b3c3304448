"""What /proc says, as the tables say it."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.waiting import until
from toolkit.bootstrap.output import manifest
from toolkit.observe import living, proc, rows
from toolkit.observe.living import Use
from toolkit.text import one_line
from toolkit.ui import tables
from toolkit.ui.tables import Table

MOUNTINFO = """\
22 1 254:0 /srv/a\\040b/fs / rw,relatime master:1 - ext4 /dev/vda rw
23 22 0:5 / /proc/fs ro,nosuid - proc proc rw
"""
# `ss -ltn` beside it: 127.0.0.1:8080 listening, a connection of it, [::1]:631 listening.
TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0
   1: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0
"""
TCP6 = """\
  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when
   0: 00000000000000000000000001000000:0277 00000000000000000000000000000000:0000 0A 00000000:00000000 00:0 0 0 0 99
"""


def test_mounts_are_told_with_what_is_under_them() -> None:
    first, second = proc.mounts(MOUNTINFO)
    assert (first["destination"], first["root"], first["source"]) == ("/", "/srv/a b/fs", "/dev/vda")
    assert (second["type"], second["options"]) == ("proc", "ro,nosuid")


@pytest.mark.skipif(sys.byteorder != "little", reason="the tables are a little-endian machine's")
def test_only_sockets_that_wait_are_ports() -> None:
    assert [vars(one) for one in proc.listening(TCP, "tcp")] == [
        {"protocol": "tcp", "address": "127.0.0.1", "port": 8080, "inode": 4711}
    ]
    assert [(port.address, port.port) for port in proc.listening(TCP6, "tcp6")] == [("::1", 631)]


def test_ids_are_translated_into_the_namespace() -> None:
    lines = proc.id_map("         0       1000          1\n         1     100000      65536\n")
    assert [proc.inside(number, lines) for number in (1000, 100000, 165535, 0)] == [0, 1, 65536, 65534]


def test_a_process_is_told_as_it_is() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        one = until(
            lambda: slept if (slept := proc.process(child.pid)) and slept.command == "sleep 60" else None, "sleep"
        )
        assert (one.parent, one.threads, one.inner_pid, one.uid) == (os.getpid(), 1, child.pid, os.geteuid())
        child.kill()
    assert proc.process(child.pid) is None


def use(at_s: float, cpu_s: float, limit: int = 0) -> Use:
    return Use("c", at_s, cpu_s, 32 << 20, limit, 3, 0, 1536, 0)


def test_the_processors_share_is_between_two_looks() -> None:
    assert rows.stats_row(use(10, 1), use(12, 2, 64 << 20)) == (
        *("c", "50.0", "32.0M", "64.0M", "50.0"),
        *("3", "-", "1.5K", "0B"),
    )
    assert rows.stats_row(use(10, 1), use(10, 2))[1:5] == ("0.0", "32.0M", "-", "-")
    assert living.cpu_percent((0, 5), (1, 3)) == 0  # a cgroup made anew counts from 0


def test_frames_go_on_without_end_and_keep_to_what_runs() -> None:
    waits: list[float] = []
    frames: Iterator[object] = rows.stats(list, 2.0, wait=waits.append)
    assert [next(frames), next(frames)] == [[], []]
    assert waits == [rows.FIRST_S, 2.0]


def test_a_table_is_aligned_cut_and_says_that_it_is_empty() -> None:
    table = Table(("ID", "N"), (("a", "5"), ("long", "50")), right=(1,))
    assert tables.lines(table) == ["ID     N", "a      5", "long  50"]
    assert tables.lines(table, 6) == ["ID   …", "a    …", "long …"]
    assert tables.lines(Table(("A",), (), "ports", empty="none open")) == ["ports:", "  none open"]
    wide = Table(("WHERE", "TYPE"), (("/", "ext4"), ("/sys/fs/cgroup/{cpu,memory,pids}", "cgroup")), "mounts")
    told = ["mounts:", "  WHERE  TYPE", "  /      ext4", "  /sys/fs/cgroup/{cpu,memory,pids}", "         cgroup"]
    assert tables.lines(wide, screen=30) == told
    assert tables.lines(wide, screen=80) == tables.lines(wide)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    for folder in ("etc/deep", "usr/gone/below", "odd\n\udcff"):
        (root / folder).mkdir(parents=True)
        (root / folder / "file").write_text("x")
    (root / "link").symlink_to("etc")
    return root


def test_nothing_has_changed_right_after_the_record(tree: Path) -> None:
    assert list(manifest.changes(manifest.take(str(tree)), str(tree))) == []


def test_changes_are_told_by_kind_and_a_folder_stands_for_all_in_it(tree: Path) -> None:
    record = manifest.take(str(tree))
    time.sleep(0.02)  # the kernel's clock for file times has a tick of up to 10 ms
    before = (tree / "etc/deep/file").stat()
    (tree / "etc/deep/file").write_text("y")
    os.utime(tree / "etc/deep/file", ns=(before.st_atime_ns, before.st_mtime_ns))  # set back: found all the same
    (tree / "usr/gone/below/file").unlink()
    (tree / "usr/gone/below").rmdir()
    (tree / "usr/gone").rename(tree / "usr/new")
    (tree / "link").unlink()
    (tree / "link").symlink_to("usr")
    (tree / "odd\n\udcff/file").chmod(0o600)
    assert list(manifest.changes(record, str(tree))) == [
        ("C", "/etc/deep/file"),
        ("C", "/link"),
        ("C", "/odd\n\udcff/file"),
        ("C", "/usr"),
        ("D", "/usr/gone"),
        ("A", "/usr/new"),
    ]


def test_a_name_can_not_write_to_the_terminal() -> None:
    assert one_line("/odd\n\x1b[2J\udcff é") == "/odd\\n\\x1b[2J\\udcff é"


def test_a_damaged_record_is_refused(tree: Path) -> None:
    for broken in ({}, {"finished_ns": 1, "names": "AAAA"}, {"finished_ns": None, "names": ""}):
        with pytest.raises(ValueError):
            list(manifest.changes(broken, str(tree)))
