"""`checkpoint` and `restore`: with a service that speaks CRIU's protocol, made for one case each, and with CRIU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from toolkit.errors import HostLacks
from toolkit.runtime import criu

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

# As CRIU: the folders' numbers are those of the process that made the socket (SO_PEERCRED in socket(7)).
FAKE = """#!{python} -IS
import os, socket, struct, sys, time
sys.path.insert(0, {top!r})
from toolkit.runtime import criu
if sys.argv[1] == "check":
    sys.exit(0)
end = socket.socket(fileno=int(sys.argv[2]))
while data := end.recv(1 << 16):
    request = criu.decode(data)
    kind = request[1]
    if kind == criu.VERSION:
        end.send(criu.encode([(1, kind), (2, True), (10, [(1, 4), (2, 1)])]))
        continue
    asked = criu.decode(request[2])
    maker = struct.unpack("3i", end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
    images, work = (f"/proc/{{maker}}/fd/{{asked[number]}}" for number in (1, 17))
    with open(work + "/asked", "wb") as file:
        file.write(request[2])
    with open(work + "/held", "w") as file:
        file.write(" ".join(os.listdir("/proc/self/fd")))
    if kind == criu.DUMP and {mode!r} != "idle":
        for name in ("inventory.img", "pstree.img", "core-1.img"):
            with open(f"{{images}}/{{name}}", "w") as file:
                file.write("image")
    if {mode!r} == "lazy":
        end.send(criu.encode([(1, criu.NOTIFY), (2, True), (5, [(1, "status-ready"), (2, 0)])]))
        end.recv(1 << 16)
        time.sleep(1000)
    end.send(criu.encode([(1, kind), (2, True)]))
"""


@pytest.fixture
def fake(tmp_path):
    """A criu to order: "idle" says that it is done and did nothing, "lazy" waits for a client for ever."""

    def make(mode):
        program = tmp_path / f"criu-{mode}"
        top = os.path.dirname(os.path.dirname(os.path.dirname(criu.__file__)))
        program.write_text(FAKE.format(python=sys.executable, top=top, mode=mode))
        program.chmod(0o755)
        return str(program)

    return make


@pytest.fixture
def real():
    """The criu of this host."""
    program = os.environ.get("CTK_TEST_CRIU", "criu")
    try:
        criu.check(criu.find(program))
    except HostLacks as lack:
        pytest.skip(f"no criu that works with this kernel: {lack}")
    return program


@pytest.fixture
def running(ctk, busybox_bundle):
    """A running container's id."""
    name = ctk.id()
    ctk("run", "-d", "--bundle", str(busybox_bundle.args("/bin/sleep", "1000")), name).ok()
    yield name
    ctk("delete", "--force", name)


def status(ctk, name):
    return json.loads(ctk("state", name).ok().out)["status"]


def crowded(ctk, *words):
    """ctk, called by somebody who leaves the descriptors 3 to 20 open on folders of his own."""
    script = "exec " + " ".join(f"{number}</usr" for number in range(3, 21)) + '; exec "$@"'
    argv = ["bash", "-c", script, "bash", *ctk.argv(*words)]
    return subprocess.run(argv, env=ctk.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)


def test_the_folders_are_found_whatever_the_caller_left_open(ctk, fake, running, busybox_bundle, tmp_path):
    program, images, work = fake("works"), str(tmp_path / "images"), tmp_path / "work"
    done = crowded(ctk, "--criu", program, "checkpoint", "--image-path", images, "--work-path", str(work), running)
    assert done.returncode == 0, done.stderr
    assert {"inventory.img", "pstree.img", "ctk.json", "descriptors.json"} <= set(os.listdir(images))
    assert len((work / "held").read_text().split()) <= 6  # 0 to 3, the file itself and the folder's listing
    assert "does not exist" in ctk("state", running).err
    os.unlink(work / "asked")
    back = ["--image-path", images, "--work-path", str(work), "--bundle", str(busybox_bundle)]
    done = crowded(ctk, "--criu", program, "restore", "-d", *back, running)
    assert "criu did not report its process" in done.stderr  # this one only looks where it is sent
    assert criu.decode((work / "asked").read_bytes())[51] == b"/etc/criu/runc.conf"


@pytest.mark.parametrize("earlier", [False, True])
def test_no_images_no_success(ctk, fake, running, tmp_path, earlier):
    images = tmp_path / "images"
    images.mkdir()
    if earlier:
        for name in ("inventory.img", "pstree.img", "core-1.img"):
            (images / name).write_text("of another time")
    refused = ctk("--criu", fake("idle"), "checkpoint", "--image-path", str(images), running)
    assert refused.rc == 1 and "has written no inventory" in refused.err
    assert status(ctk, running) == "running"


def test_a_deletion_ends_the_wait_of_a_page_server(ctk, fake, running, tmp_path):
    ours, theirs = os.pipe()
    options = ["--lazy-pages", "--page-server", "127.0.0.1:1", "--status-fd", str(theirs)]
    under_way = ctk.popen(
        "--criu", fake("lazy"), "checkpoint", "--image-path", str(tmp_path / "images"), *options, running,
        pass_fds=[theirs], stderr=subprocess.PIPE,
    )  # fmt: skip
    os.close(theirs)
    assert os.read(ours, 10) == b"\0"
    assert os.read(ours, 10) == b""  # and closed: who waits for the end is not held up
    os.close(ours)
    ctk("delete", "--force", running, timeout=9).ok()
    _, told = under_way.communicate(timeout=9)
    assert under_way.returncode == 1 and "criu ended without a response" in told
    assert "does not exist" in ctk("state", running).err


def test_a_status_descriptor_that_cannot_be_written_to(ctk, fake, running):
    program = fake("works")
    for number, words in (("77", "bad file descriptor"), (str(readable := os.open("/", os.O_RDONLY)), "not writable")):
        options = ["--lazy-pages", "--status-fd", number]
        refused = ctk(
            "--criu", program, "checkpoint", *options, running, pass_fds=[readable] if words[0] == "n" else ()
        )
        assert refused.rc == 1 and f"invalid --status-fd argument {number}: {words}" in refused.err
    os.close(readable)
    assert status(ctk, running) == "running"


@pytest.mark.parametrize(
    ("annotations", "name", "told"),
    [
        ({}, "ctk", "/etc/criu/runc.conf"),
        ({"org.criu.config": "/srv/own.conf"}, "ctk", "/srv/own.conf"),
        ({"org.criu.config": ""}, "ctk", ""),
    ],
)
def test_which_settings_of_crius_count(annotations, name, told):
    assert criu.config_file(name, annotations) == told


def test_criu_is_told_by_which_cgroup_a_container_is_paused(ctk, fake, running, tmp_path):
    """It waits ten seconds in vain for a frozen process to stop, and fails, where it does not know."""
    pid = ctk("state", running).json()["pid"]
    groups = dict(line.split(":", 2)[1:] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines())
    ctk("pause", running).ok()
    options = ["--leave-running", "--image-path", str(tmp_path / "images"), "--work-path", str(tmp_path / "work")]
    ctk("--criu", fake("works"), "checkpoint", *options, running).ok()
    told = criu.decode((tmp_path / "work/asked").read_bytes())[44].decode()
    assert told.endswith(groups.get("freezer") or groups[""]) and os.path.isdir(told)


# With CRIU itself, where it works (tests/vm has one that does)


def test_there_and_back(ctk, real, busybox_bundle, tmp_path):
    """A program that closed its streams; a mount on a link, one in another; descriptors of the caller's."""
    for folder in ("rootfs/real/conf", "outer", "inner"):
        (busybox_bundle.path / folder).mkdir(parents=True)
    (busybox_bundle.rootfs / "conf").symlink_to("/real/conf")
    (busybox_bundle.path / "inner/file").write_text("inner")
    mounts = [("/conf", "inner"), ("/outer", "outer"), ("/outer/a/b", "inner")]
    busybox_bundle.args("/bin/sh", "-c", "exec <&- >&- 2>&-; while :; do sleep 1; done").edit(
        lambda spec: spec["mounts"].extend(
            {"destination": place, "type": "bind", "source": source, "options": ["rbind", "rw"]}
            for place, source in mounts
        )
    )
    name, folders = ctk.id(), ["--image-path", str(tmp_path / "images"), "--work-path", str(tmp_path / "work")]
    ctk("run", "-d", "--bundle", str(busybox_bundle), name).ok()
    saved = crowded(ctk, "--criu", real, "checkpoint", *folders, name)
    assert saved.returncode == 0, saved.stderr
    assert json.loads((tmp_path / "images/descriptors.json").read_text()) == ["", "", ""]
    os.removedirs(busybox_bundle.path / "outer/a/b")
    Path(busybox_bundle.path / "outer").mkdir(exist_ok=True)
    back = crowded(ctk, "--criu", real, "restore", "-d", *folders, "--bundle", str(busybox_bundle), name)
    assert back.returncode == 0, back.stderr
    try:
        for place in ("/conf", "/real/conf", "/outer/a/b"):
            assert ctk("exec", name, "/bin/cat", f"{place}/file").ok().out == "inner"
        assert ctk("exec", name, "/bin/ls", "/proc/1/fd").ok().out == ""
    finally:
        ctk("delete", "--force", name).ok()
