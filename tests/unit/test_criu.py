"""Talking to CRIU: the wire format, which mounts it must be told of, and that a host without it is told so first."""

import os
import resource
import signal
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.errors import CtkError, HostLacks
from toolkit.runtime import criu, criu_image

# protobuf.dev, "Encoding": the examples there.
EXAMPLES = [
    ([(1, 150)], "089601"),
    ([(2, "testing")], "120774657374696e67"),
    ([(3, [(1, 150)])], "1a03089601"),
    ([(2, -2)], "10feffffffffffffffff01"),
]


@pytest.mark.parametrize(("fields", "wire"), EXAMPLES)
def test_the_wire_format(fields, wire):
    assert criu.encode(fields).hex() == wire


@given(st.dictionaries(st.integers(1, 500), st.integers(0, 2**63) | st.binary(), max_size=8))
def test_what_is_encoded_is_decoded(fields):
    assert criu.decode(criu.encode(list(fields.items()))) == fields


@given(st.binary(max_size=64))
def test_any_bytes_are_a_message_or_a_value_error(data):
    try:
        criu.decode(data)
    except ValueError:
        pass


def test_options_that_are_off_are_left_out():
    data = criu.request_options({"images_dir_fd": 4, "shell_job": False, "leave_running": True, "log_file": ""})
    assert criu.decode(data) == {1: 4, 3: 1}


MOUNTINFO = r"""
100 90 0:50 / /proc rw - proc proc rw
101 90 0:51 / /dev rw - tmpfs tmpfs rw
102 101 0:52 / /dev/pts rw - devpts devpts rw
103 90 0:53 / /sys ro - sysfs sysfs ro
104 103 0:30 /docker/x /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu
105 100 0:50 /sys /proc/sys ro - proc proc rw
106 100 0:5 /null /proc/keys rw - devtmpfs udev rw
107 100 0:54 / /proc/scsi ro - tmpfs tmpfs ro
108 90 8:1 /srv/a\040b /data rw - ext4 /dev/sda1 rw
109 90 8:2 / /other rw - xfs /dev/sdb1 rw
110 90 0:51 /shm /dev/shm2 rw - tmpfs tmpfs rw
111 90 0:60 / /run/bound rw - tmpfs tmpfs rw
90 80 8:1 /root/fs / rw - ext4 /dev/sda1 rw
""".strip()


def test_the_mounts_from_outside_are_told():
    mounts = criu_image.read_mounts(MOUNTINFO)
    assert criu_image.external_mounts(mounts, {"/run/bound"}) == [
        "/sys/fs/cgroup/cpu",
        "/proc/keys",
        "/data",
        "/other",
        "/run/bound",
    ]


def test_where_they_come_from_at_a_restore():
    spec = {
        "mounts": [
            {"destination": "data", "type": "bind", "source": "src"},
            {"destination": "/link", "type": "none", "options": ["rbind"], "source": "/y"},
            {"destination": "/x", "type": "tmpfs"},
        ],
        "linux": {"maskedPaths": ["/proc/keys"]},
    }
    found = criu_image.sources(spec, "/bundle", {"/sys/fs/cgroup/cpu": "/host/cpu"}, {"/link": "/z"})
    assert found == {"/z": "/y", "/data": "/bundle/src", "/sys/fs/cgroup/cpu": "/host/cpu", "/proc/keys": "/dev/null"}


def test_the_standard_streams_of_a_process(tmp_path):
    with open(tmp_path / "out", "w") as out:
        process = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=out, stderr=subprocess.DEVNULL)
    try:
        names, files = criu_image.streams(process.pid, "")
        mount = next(line.split()[1] for line in open_lines(process.pid, 1) if line.startswith("mnt_id:"))
        inode = os.stat(tmp_path / "out").st_ino
        assert names[0].startswith("pipe:[") and names[1:] == [str(tmp_path / "out"), "/dev/null"]
        assert files[f"file[{int(mount):x}:{inode:x}]"] == 1
        assert criu_image.NULL in files.values()
        inside = f"{mount} 1 8:1 / / rw - ext4 x rw"
        assert f"file[{int(mount):x}:{inode:x}]" not in criu_image.streams(process.pid, inside)[1]
    finally:
        process.stdin.close()
        process.wait()


def open_lines(pid, fd):
    with open(f"/proc/{pid}/fdinfo/{fd}") as file:
        return file.readlines()


def test_a_host_without_criu_is_told(tmp_path):
    with pytest.raises(HostLacks, match="is not installed"):
        criu.find(str(tmp_path / "criu"))


def test_a_criu_that_does_not_work_here_is_told_with_its_own_words(tmp_path):
    program = tmp_path / "criu"
    program.write_text(
        "#!/bin/sh\n[ $1 = check ] && echo 'Error (x.c:1): vdso: Unexpected rt vDSO area bounds' && exit 1\n"
    )
    program.chmod(0o755)
    with pytest.raises(HostLacks, match="Unexpected rt vDSO area bounds"):
        criu.check(criu.find(str(program)))


def test_no_user_namespace_of_others_is_joined_at_a_restore() -> None:
    from types import SimpleNamespace

    from toolkit.runtime.verbs import restore

    restoring = object.__new__(restore._Restoring)
    spec = {"linux": {"namespaces": [{"type": "user", "path": "/proc/1/ns/user"}]}}
    restoring.launch = SimpleNamespace(spec=spec)  # type: ignore[assignment]
    with pytest.raises(CtkError, match="trace criu"):
        restoring._join_namespaces({"inherit_fd": []})


def test_a_description_that_finds_no_room_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The container is ended next: half a description, and nothing restores it."""
    from types import SimpleNamespace

    from toolkit.runtime.verbs import checkpoint

    container = SimpleNamespace(pid=os.getpid(), id="one", config=dict)
    monkeypatch.setattr(criu_image, "external_mounts", lambda mounts, bound: ["/a/long/name" * 9])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50, before[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            checkpoint._describe(container, str(tmp_path))  # type: ignore[arg-type]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert os.listdir(tmp_path) == []
