"""`ctk cp`: nothing of a container's leads out of it, nothing in an archive out of its folder (CVE-2018-15664)."""

import io
import os
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.command import Bundle, Command

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("leaks")]


@pytest.fixture
def running(ctk: Command, busybox_bundle: Bundle) -> Iterator[str]:
    """A container whose root is ephemeral."""
    name = ctk.id()
    busybox_bundle.args("/bin/sleep", "1000").edit(lambda c: c["root"].update(readonly=False))
    ctk("run", "-d", "--hold", "--ephemeral", name, cwd=str(busybox_bundle)).ok()
    yield name
    ctk("delete", "--force", name).ok()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    top = tmp_path / "tree"
    (top / "sub").mkdir(parents=True)
    (top / "file").write_text("text")
    os.link(top / "file", top / "sub/hard")
    (top / "link").symlink_to("/no/where")
    os.link(top / "link", top / "sub/link", follow_symlinks=False)
    os.mkfifo(top / "fifo", 0o600)
    os.chown(top / "file", 1000, 1000)
    (top / "file").chmod(0o4755)
    os.utime(top / "file", (1_000_000_000, 1_000_000_000))
    return top


def listing(top: Path) -> list[str]:
    return sorted(str(path.relative_to(top)) for path in top.rglob("*"))


def test_there_and_back(ctk: Command, running: str, tree: Path, tmp_path: Path) -> None:
    ctk("cp", str(tree), f"{running}:/tmp").ok()  # into a folder that is there
    ctk("cp", f"{tree}/.", f"{running}:/tmp").ok()  # what is in it
    ctk("cp", str(tree), f"{running}:/new").ok()  # under another name
    names = ctk("exec", running, "sh", "-c", "ls /tmp /tmp/tree /new; stat -c '%a %u %h' /new/file").ok().out
    assert names.count("fifo") == 3 and names.endswith("755 0 2\n")
    back = tmp_path / "back"
    ctk("cp", f"{running}:/new", str(back)).ok()
    assert listing(back) == listing(tree)
    assert (back / "file").stat().st_mode & 0o7777 == 0o755  # a stranger's setuid program is not to be ours
    assert (back / "file").stat().st_mtime == 1_000_000_000
    assert (back / "file").samefile(back / "sub/hard")
    assert (back / "link").lstat().st_ino == (back / "sub/link").lstat().st_ino
    ctk("cp", "-a", str(tree / "file"), f"{running}:/owned").ok()
    assert ctk("exec", running, "stat", "-c", "%a %u", "/owned").out == "4755 1000\n"
    ctk("cp", str(tree / "file"), f"{running}:/etc/passwd").ok()  # onto a file
    assert ctk("exec", running, "cat", "/etc/passwd").out == "text"


def test_tar_on_standard_streams(ctk: Command, running: str, tree: Path, tmp_path: Path) -> None:
    told = subprocess.run(
        ctk.argv("cp", f"{running}:/etc", "-"), env=ctk.environment, capture_output=True, check=True
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(told)) as archive:
        assert {"etc", "etc/passwd", "etc/group"} <= set(archive.getnames())
    packed = subprocess.run(["tar", "-C", str(tree), "-c", "."], capture_output=True, check=True).stdout
    subprocess.run(ctk.argv("cp", "-", f"{running}:/run"), env=ctk.environment, input=packed, check=True)
    assert set(ctk("exec", running, "ls", "/run").out.split()) == {"fifo", "file", "link", "sub"}
    for data, words in ((b"no tar" * 200, "read the tar"), (b"", "it is empty")):
        done = subprocess.run(
            ctk.argv("cp", "-", f"{running}:/run"), env=ctk.environment, input=data, capture_output=True
        )
        assert done.returncode == 1 and words in done.stderr.decode(), done.stderr


def test_links_in_the_container_stay_in_it(ctk: Command, running: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("the host's")
    inside = f"mkdir -p {tmp_path}; echo the container\\'s > {secret}; ln -s {secret} /leak; ln -s {tmp_path} /folder; "
    inside += "ln -s /proc/1/cwd/../../.. /up; ln -s ../../../../../.. /tmp/up"
    ctk("exec", running, "sh", "-c", inside).ok()
    ctk("cp", "-L", f"{running}:/leak", str(tmp_path / "got")).ok()
    assert (tmp_path / "got").read_text() == "the container's\n"
    (tmp_path / "new").write_text("copied")
    ctk("cp", str(tmp_path / "new"), f"{running}:/folder/planted").ok()
    assert not (tmp_path / "planted").exists()
    assert ctk("exec", running, "cat", f"{tmp_path}/planted").ok().out == "copied"
    ctk("cp", str(tmp_path / "new"), f"{running}:/tmp/up/{tmp_path}/planted2").ok()
    assert not (tmp_path / "planted2").exists()
    told = ctk("cp", str(tmp_path / "new"), f"{running}:/up/{tmp_path}/planted3")
    assert told.rc == 1 and not (tmp_path / "planted3").exists()


def evil(*entries: "tuple[str, str, str]") -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for kind, name, value in entries:
            entry = tarfile.TarInfo(name)
            if kind == "file":
                entry.size = len(value)
                archive.addfile(entry, io.BytesIO(value.encode()))
            else:
                entry.type = {"link": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE, "dir": tarfile.DIRTYPE}[kind]
                entry.linkname = value
                archive.addfile(entry)
    return data.getvalue()


@pytest.mark.parametrize(
    "entries",
    [
        [("file", "../planted", "x")],
        [("dir", "d", ""), ("file", "d/../../planted", "x")],
        [("link", "way", ".."), ("file", "way/planted", "x")],
        [("hard", "copy", "../secret")],
        [("link", "way", ".."), ("hard", "copy", "way/secret")],
    ],
)
def test_an_archive_can_not_leave_the_folder_on_the_host(entries: "list[tuple[str, str, str]]", tmp_path: Path) -> None:
    """The host's side, given what a hostile container could send: the walk of ours never writes such names."""
    from toolkit.errors import CtkError
    from toolkit.runtime.comfort import tar_in

    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "secret").write_text("s")
    unpacker = tar_in.Unpacker(tar_in.Place(), str(folder), contents=False, owners=False, say=print)
    with pytest.raises((CtkError, OSError)):
        unpacker.unpack(io.BytesIO(evil(*entries)))
    assert sorted(os.listdir(tmp_path)) == ["folder", "secret"]
    assert not (folder / "copy").exists()


def test_a_race_of_links_does_not_lead_out(ctk: Command, running: str, tmp_path: Path) -> None:
    """CVE-2018-15664: a folder that becomes a link to the host's path and back while we copy into it."""
    target = tmp_path / "victim"
    target.mkdir()
    turn = f"ln -sfn {target} /race/d; rm -f /race/d; mkdir /race/d 2>/dev/null; rm -r /race/d"
    script = f"mkdir -p /race/real; while :; do {turn}; done"
    ctk("exec", "-d", running, "sh", "-c", script).ok()
    data = evil(*[("file", f"f{n}", "x") for n in range(20)])
    end = time.monotonic() + 4
    while time.monotonic() < end:
        subprocess.run(ctk.argv("cp", "-", f"{running}:/race/d"), env=ctk.environment, input=data, capture_output=True)
    assert os.listdir(target) == []


def test_the_kernel_s_own_trees_and_odd_files_end(ctk: Command, running: str, tmp_path: Path) -> None:
    ctk("exec", running, "sh", "-c", "mkfifo /tmp/pipe; ln -s /dev/zero /tmp/zero").ok()
    ctk("cp", f"{running}:/", str(tmp_path / "all"), timeout=60).ok()
    assert os.listdir(tmp_path / "all/proc") == []
    assert (tmp_path / "all/tmp/zero").is_symlink()
    told = ctk("cp", "-L", f"{running}:/tmp/zero", str(tmp_path / "zeros"))
    assert "left out 1 device" in told.err and not (tmp_path / "zeros").exists()


def test_owners_are_the_container_s_in_a_user_namespace(ctk: Command, busybox_bundle: Bundle, tmp_path: Path) -> None:
    name = ctk.id()

    def mapped(config: dict) -> None:  # type: ignore[type-arg]
        config["linux"]["namespaces"].append({"type": "user"})
        for kind in ("uidMappings", "gidMappings"):
            config["linux"][kind] = [{"containerID": 0, "hostID": 200000, "size": 65536}]
        config["root"]["readonly"] = False
        config["linux"].pop("resources", None)

    subprocess.run(["chown", "-hR", "200000:200000", str(busybox_bundle.rootfs)], check=True)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_mode & 0o011 == 0:
            folder.chmod(folder.stat().st_mode | 0o011)
    busybox_bundle.args("/bin/sleep", "1000").edit(mapped)
    ctk("run", "-d", "--hold", "--ephemeral", name, cwd=str(busybox_bundle)).ok()
    try:
        (tmp_path / "private").write_text("mine")
        (tmp_path / "private").chmod(0o600)
        ctk("cp", str(tmp_path / "private"), f"{name}:/root/").ok()
        assert ctk("exec", name, "stat", "-c", "%u %a", "/root/private").ok().out == "0 600\n"
        ctk("cp", f"{name}:/root/private", str(tmp_path / "back")).ok()
        assert (tmp_path / "back").read_text() == "mine" and (tmp_path / "back").stat().st_uid == 0
    finally:
        ctk("delete", "--force", name).ok()


def test_one_that_has_ended(ctk: Command, busybox_bundle: Bundle, tmp_path: Path) -> None:
    name = ctk.id()
    busybox_bundle.sh("ln -s /etc/passwd /leak").edit(lambda c: c["root"].update(readonly=False))
    ctk("run", "--keep", name, cwd=str(busybox_bundle)).ok()
    try:
        ctk("cp", "-L", f"{name}:/leak", str(tmp_path / "got")).ok()
        assert "user:x:1000" in (tmp_path / "got").read_text()
    finally:
        ctk("delete", name).ok()


@pytest.mark.parametrize("leads_to", ["victim", "victim/file", "victim/new"])
def test_a_link_is_not_followed_as_the_target(leads_to: str, ctk: Command, running: str, tmp_path: Path) -> None:
    """The same copy each day: first the container has a link there, then a file. docker cp writes where it leads."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "file").write_text("of the host")
    data = tmp_path / "backup/data"
    data.parent.mkdir()
    ctk("exec", running, "ln", "-s", str(tmp_path / leads_to), "/data").ok()
    for _ in range(2):  # a link gives way to a link
        ctk("cp", f"{running}:/data", str(data)).ok()
        assert data.is_symlink() and os.listdir(victim) == ["file"]
    ctk("exec", running, "sh", "-c", "rm /data; echo evil > /data; mkdir /folder; echo evil > /folder/new").ok()
    for source in ("/data", "/folder", "/folder/."):
        told = ctk("cp", f"{running}:{source}", str(data))
        assert told.rc == 1 and "symbolic link" in told.err and str(data) + "/" in told.err
    assert os.listdir(victim) == ["file"] and (victim / "file").read_text() == "of the host"
    ctk("cp", f"{running}:/folder", str(data.parent)).ok()  # and below a folder a link gives way, as with cp -a
    (data.parent / "folder/new").unlink()
    (data.parent / "folder/new").symlink_to(victim / "file")
    ctk("cp", f"{running}:/folder", str(data.parent)).ok()
    assert (data.parent / "folder/new").read_text() == "evil\n" and (victim / "file").read_text() == "of the host"
    if leads_to == "victim":
        ctk("cp", f"{running}:/data", f"{data}/").ok()  # asked for
        assert sorted(os.listdir(victim)) == ["data", "file"]


def test_what_has_no_end_is_not_read_to_it(ctk: Command, running: str, tmp_path: Path) -> None:
    """Holes longer than any disk, folders without end, and (on stdin) names of gigabytes."""
    ctk("exec", running, "sh", "-c", "mkdir /holes && truncate -s 900000000000000 /holes/file").ok()
    told = ctk("cp", f"{running}:/holes", str(tmp_path / "holes"), timeout=20)
    assert told.rc == 1 and "900000000000000 bytes" in told.err
    assert not (tmp_path / "holes/file").exists()
    deep = "for n in 1 2 3 4 5 6; do d=; for m in $(seq 100); do d=$d/a; done; mkdir -p ./$d; cd ./$d; done"
    ctk("exec", running, "sh", "-c", f"mkdir /deep; cd /deep; {deep}").ok()
    told = ctk("cp", f"{running}:/deep", str(tmp_path / "deep"))
    assert told.rc == 1 and "Traceback" not in told.err and len(told.err.splitlines()) < 3, told.err
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 4 << 30
    said = subprocess.run(
        ctk.argv("cp", "-", f"{running}:/tmp"),
        input=header.tobuf(),
        env=ctk.environment,
        capture_output=True,
        timeout=20,
    )
    assert said.returncode == 1 and b"a header of 4294967296 bytes" in said.stderr, said.stderr
