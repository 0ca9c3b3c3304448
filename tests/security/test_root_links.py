"""An image that holds links where the runtime is going to write or mount (S5, S6, S10, S13, S23, S26, S28, S37)."""

import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.command import Bundle, Command
from tests.security.conftest import Canary, bind, mounts, race, run, running
from toolkit.errors import CtkError, SystemCall
from toolkit.kernel import beneath
from toolkit.runtime.verbs import restore

pytestmark = pytest.mark.root


def without_dev(bundle: Bundle) -> Bundle:
    """Only /proc is mounted, so that /dev is the image's own."""

    def change(config: dict[str, Any]) -> None:
        config["mounts"] = [entry for entry in config["mounts"] if entry["destination"] == "/proc"]
        config["linux"]["maskedPaths"] = config["linux"]["readonlyPaths"] = []

    return bundle.edit(change)


def replace(bundle: Bundle, path: str, target: "Path | str") -> None:
    """Put a symlink where the image had `path`."""
    place = bundle.rootfs / path
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target)


def test_s10_positive_control_runc_changes_the_host_through_dev(bundle: Bundle, runc: Command, tmp_path: Path) -> None:
    outside = Canary(tmp_path / "outside")
    replace(without_dev(bundle), "dev", outside.path)
    run(runc, bundle)
    if not outside.changes():
        pytest.fail("runc did not fall: either it is newer than 1.2.9, or this test does not bite any more")


@pytest.mark.parametrize("target", ["absolute", "relative"])
def test_s10_dev_is_a_link_to_the_outside(target: str, bundle: Bundle, ctk: Command, canary: Canary) -> None:
    replace(without_dev(bundle), "dev", canary.path if target == "absolute" else "../../canary")
    result = run(ctk, bundle)
    # Refused, or what was meant for /dev lies where the link leads inside the root.
    inside = bundle.rootfs / (str(canary).lstrip("/") if target == "absolute" else "canary")
    assert result.rc != 0 or (inside / "null").is_char_device()


@pytest.mark.parametrize(
    "path", ["dev/pts", "dev/shm", "etc", "etc/resolv.conf", "etc/hosts", "run", "sys/fs/cgroup", "dev/console", "a/b"]
)
def test_s10_other_places_are_links_to_the_outside(path: str, bundle: Bundle, ctk: Command, canary: Canary) -> None:
    without_dev(bundle)
    replace(bundle, path, canary.path)
    source = bundle.path / "source"
    if path in ("etc/resolv.conf", "etc/hosts"):
        source.write_text("inside")
        mounts(bundle, bind(source, "/" + path))
    else:
        source.mkdir()
        mounts(
            bundle, bind(source, f"/{path}/made/here"), {"destination": f"/{path}/t", "type": "tmpfs", "source": "t"}
        )
    bundle.sh("touch /canary/x /tmp/x 2>/dev/null; true")
    run(ctk, bundle)


@pytest.mark.parametrize("path", ["/dev/a/../../x", "/../../x", "/dev/../../../canary/x", "/dev/link/x"])
def test_s10_devices_are_made_inside(path: str, bundle: Bundle, ctk: Command, canary: Canary) -> None:
    def change(config: dict[str, Any]) -> None:
        config["linux"]["devices"] = [{"path": path, "type": "c", "major": 1, "minor": 3, "fileMode": 0o666}]

    without_dev(bundle).edit(change)
    (bundle.rootfs / "dev/link").symlink_to(canary.path)
    run(ctk, bundle)
    assert not (bundle.path / "x").exists() and not (bundle.path.parent / "x").exists()


def test_s10_working_directory_is_made_inside(bundle: Bundle, ctk: Command, canary: Canary) -> None:
    (bundle.rootfs / "out").symlink_to(canary.path)
    run(ctk, bundle.edit(lambda config: config["process"].update(cwd="/out/new/folder")))


@pytest.mark.parametrize("runtime", ["runc", "ctk"])
@pytest.mark.parametrize("where", ["proc", "sys"])
@pytest.mark.parametrize("target", ["/bad", "/", "."])
def test_s23_procfs_and_sysfs_want_an_ordinary_directory(
    runtime: str, where: str, target: str, bundle: Bundle, ctk: Command
) -> None:
    (bundle.rootfs / "bad").mkdir()
    replace(bundle, where, target)
    result = run(ctk if runtime == "ctk" else ctk.like("runc"), bundle.sh("echo started"))
    assert result.rc != 0 and "started" not in result.out
    if runtime == "ctk":
        assert f"/{where}" in result.err and "must be mounted on ordinary directory" in result.err.replace(" an ", " ")


def test_s23_a_parent_of_the_mount_point_is_a_link(bundle: Bundle, ctk: Command, canary: Canary) -> None:
    replace(bundle, "dev", "/etc")
    result = run(ctk, bundle.sh("ls /etc/pts && cat /etc/passwd"))
    # Contained: what was meant for /dev lies over /etc of the image, nowhere else.
    assert result.rc != 0 or "ptmx" in result.out
    assert str(canary) not in result.out


@pytest.mark.parametrize("kind", ["directory", "file"])
def test_s26_mount_destination_through_a_link(kind: str, bundle: Bundle, ctk: Command, canary: Canary) -> None:
    source = bundle.path / "source"
    if kind == "directory":
        source.mkdir()
        (source / "token").write_text("mounted")
    else:
        source.write_text("mounted")
    (bundle.rootfs / "a").symlink_to(canary.path)
    (bundle.rootfs / "up").symlink_to("../../../../../../../../" + str(canary.path))
    for place in ("/a/b/c", "/up/b/c"):
        mounts(bundle, bind(source, place))
    result = run(ctk, bundle.sh("cat /a/b/c /a/b/c/token 2>/dev/null"))
    assert result.rc != 0 or "mounted" in result.out


def test_s26_destination_swapped_while_it_is_mounted(bundle: Bundle, ctk: Command, canary: Canary) -> None:
    """CVE-2021-30465: a volume that two containers share, where one exchanges a folder for a link."""
    volume = bundle.path / "volume"
    (volume / "real").mkdir(parents=True)
    (volume / "link").symlink_to(canary.path)
    source = bundle.path / "source"
    source.mkdir()
    mounts(bundle, bind(volume, "/volume"), bind(source, "/volume/real/made/below"))
    mounts(bundle, {"destination": "/volume/real/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid"]})
    started = 0
    end = time.monotonic() + 10
    with race((volume / "real", volume / "link")):
        for _ in range(200):
            started += run(ctk, bundle.sh("touch /volume/real/made/x 2>/dev/null; true")).rc == 0
            if time.monotonic() > end:
                break
    assert started > 0, "no container started at all: the race was not run"


def test_s26_source_and_destination_that_shall_not_follow(bundle: Bundle, ctk: Command, canary: Canary) -> None:
    link = bundle.path / "link"
    link.symlink_to(canary.path)
    result = run(ctk, mounts(bundle, bind(link, "/mnt", "src-nofollow")).sh("ls /mnt"))
    assert "marker" not in result.out


@pytest.mark.parametrize("name", ["tmpcopyup"])
def test_s37_copy_up_stays_inside(name: str, bundle: Bundle, ctk: Command, canary: Canary) -> None:
    """A volume filled from the image: the image's folder is a link to the host, or holds some."""
    (bundle.rootfs / "data").symlink_to(canary.path)
    (bundle.rootfs / "real").mkdir()
    (bundle.rootfs / "real/shadow").symlink_to("/../../../../etc/shadow")
    (bundle.rootfs / "real/out").symlink_to(canary.path)
    for place in ("/data", "/real"):
        mounts(bundle, {"destination": place, "type": "tmpfs", "source": "tmpfs", "options": [name]})
    result = run(ctk, bundle.sh("ls -l /real/; cat /data/marker /real/shadow /real/out/marker"))
    assert "of the host" not in result.out and "root:" not in result.out


@pytest.mark.parametrize(
    "path",
    ["canary/marker", "/canary/marker", "link", "link/", "link/.", "link/marker", "dir/../link/marker",
     "//link//marker", "dir/../../canary/marker", "loop", "dangling/x", "./../canary/marker"],
)  # fmt: skip
def test_s5_paths_below_the_root_fd(path: str, tmp_path: Path, canary: Canary) -> None:
    root = tmp_path / "root"
    (root / "dir").mkdir(parents=True)
    (root / "dir2").mkdir()
    (root / "link").symlink_to(canary.path)
    (root / "loop").symlink_to("loop")
    (root / "dangling").symlink_to("../canary/new")
    fd = os.open(root, os.O_PATH | os.O_DIRECTORY)
    outside = (
        os.stat(canary.path).st_dev,
        {status.st_ino for status in map(os.stat, [*canary.path.iterdir(), canary.path])},
    )
    for act in (
        lambda: beneath.open_beneath(fd, path, os.O_PATH),
        lambda: beneath.make_directories(fd, path),
        lambda: beneath.make_file(fd, path),
    ):
        try:
            found = act()
        except (SystemCall, OSError):
            continue
        status = os.fstat(found)
        assert status.st_ino not in outside[1]
        assert os.readlink(f"/proc/self/fd/{found}").startswith(str(root))
        os.close(found)
    os.close(fd)


def test_s5_names_that_are_too_long_or_too_deep(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    for number in range(300):
        (root / f"l{number}").symlink_to(f"l{number + 1}")
    fd = os.open(root, os.O_PATH | os.O_DIRECTORY)
    try:
        for path in ("l0", "x" * 4097, "x/" * 2100, "a" * 300):
            with pytest.raises((SystemCall, OSError)):
                os.close(beneath.make_file(fd, path))
        with pytest.raises((SystemCall, OSError, ValueError)):
            os.close(beneath.make_file(fd, "a\0b"))
    finally:
        os.close(fd)


@pytest.mark.parametrize("kind", ["fifo", "link to a device", "folder", "endless", "link to a secret"])
def test_s6_config_that_is_no_file(kind: str, bundle: Bundle, ctk: Command) -> None:
    config = bundle.path / "config.json"
    config.unlink()
    if kind == "fifo":
        os.mkfifo(config)
    elif kind == "link to a device":
        config.symlink_to("/dev/zero")
    elif kind == "folder":
        config.mkdir()
    elif kind == "link to a secret":
        config.symlink_to("/etc/shadow")
    else:
        with open(config, "wb") as file:
            file.truncate(10 << 30)
    before = time.monotonic()
    result = run(ctk, bundle, timeout=20)
    assert result.rc == 1 and time.monotonic() - before < 5
    assert "Traceback" not in result.err and "root:" not in result.err


def test_s6_root_that_is_a_link_is_followed_once_and_then_held(bundle: Bundle, ctk: Command, canary: Canary) -> None:
    """root.path may be a link (engines use such); what it named at the start is the root, whatever becomes of it."""
    bundle.rootfs.rename(bundle.path / "real")
    bundle.rootfs.symlink_to("real")
    with running(ctk, bundle.sh("sleep 1000"), created=True) as name:
        bundle.rootfs.unlink()
        bundle.rootfs.symlink_to(canary.path)
        ctk("start", name).ok()
        assert ctk("exec", name, "cat", "/etc/passwd").ok().out.startswith("root:")
        ctk("exec", name, "touch", "/made").ok()
    assert (bundle.path / "real/made").exists()


def test_s28_files_made_in_the_root_replace_links(bundle: Bundle, ctk: Command, canary: Canary) -> None:
    """A missing mount point is made as a file: a dangling link of that name must not make it outside."""
    (bundle.rootfs / "etc/hostname").symlink_to(canary.path / "new")
    source = bundle.path / "hostname"
    source.write_text("name")
    run(ctk, mounts(bundle, bind(source, "/etc/hostname")))
    assert not (canary.path / "new").exists()


@pytest.mark.parametrize("kind", ["link", "fifo", "endless", "folder"])
def test_s8_restore_from_files_that_are_links(kind: str, bundle: Bundle, ctk: Command, canary: Canary) -> None:
    """containerd CVE-2026-53489: a checkpoint's files are links to the host's."""
    image = bundle.path / "image"
    image.mkdir()
    secret = canary.path / "marker"
    for name in ("descriptors.json", "config.json", "state.json", "restore.log", "dump.log", "inventory.img"):
        place = image / name
        if kind == "link":
            place.symlink_to(secret)
        elif kind == "fifo":
            os.mkfifo(place)
        elif kind == "folder":
            place.mkdir()
        else:
            place.symlink_to("/dev/zero")
    name = ctk.id()
    before = time.monotonic()
    # Whether or not this host has a criu that works, which is asked for first.
    with pytest.raises(CtkError):
        restore._read(str(image), "descriptors.json")
    result = ctk("restore", "--image-path", str(image), "--bundle", str(bundle), "-d", name, timeout=20)
    assert result.rc != 0 and time.monotonic() - before < 10
    assert "of the host" not in result.out + result.err and "Traceback" not in result.err
    assert ctk("state", name).rc == 1
