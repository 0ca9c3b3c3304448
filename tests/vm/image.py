"""The guest's kernel, initrd, disk, Python and state, made once for each set of contents, kept in ctk's cache folder.

`ctk bootstrap` makes the tree, as root; the rest needs no mount: mke2fs fills the disk from the tree, and the initrd
(busybox and the disk's driver, which is a module in Debian's cloud kernel) is written by hand. The guest then boots
once and is saved: to boot takes a minute under emulation, to resume takes seconds.
"""

import fcntl
import hashlib
import lzma
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.fixtures.command import installed_ctk, tool
from tests.fixtures.debian import upstream
from tests.vm import guest
from tests.vm.machine import Image, Machine
from toolkit import places

SIZE_BYTES = 4 << 30  # of the disk; a file with holes
SOURCES = ("guest.py", "agent.py", "image.py", "machine.py")
FINISHED = "finished"


def say_nothing(_text: str) -> None:
    pass


def _bootstrap(*words: str) -> str:
    """`ctk bootstrap` of the guest's suite; its output. The date check has tests of its own; a cache may lag."""
    argv = [
        installed_ctk(),
        "bootstrap",
        "--variant=minbase",
        "--no-check-date",
        "--include=" + ",".join(guest.PACKAGES),
    ]
    argv += ["--mirror=" + upstream(), guest.SUITE, *words]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def key() -> str:
    """Names the contents: the packages that the archive would give now, what makes the guest of them, and this QEMU.

    A state is for the version of QEMU that saved it.
    """
    digest = hashlib.sha256(_bootstrap("--print-debs").encode())
    qemu = [tool("qemu-system-x86_64"), "--version"]
    digest.update(subprocess.run(qemu, check=True, capture_output=True, stdin=subprocess.DEVNULL).stdout)
    for name in SOURCES:
        digest.update(Path(__file__).with_name(name).read_bytes())
    return digest.hexdigest()[:20]


def image(say: Callable[[str], None] = say_nothing) -> Image:
    """The guest's image from the cache, made first if it isn't there; an older one goes then."""
    cache = Path(os.environ.get("CTK_VM_CACHE") or places.cache_dir() + "/vm")
    cache.mkdir(parents=True, exist_ok=True)
    name = key()
    folder = cache / name
    made = Image(folder)
    with open(cache / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / FINISHED).exists():
            for old in cache.iterdir():
                if old.is_dir():
                    shutil.rmtree(old)
            folder.mkdir()
            _make(folder / "tree", made, say)
            (folder / FINISHED).touch()
    return made


def _make(tree: Path, made: Image, say: Callable[[str], None]) -> None:
    say(f"bootstrap {guest.SUITE}")
    _bootstrap(str(tree))
    say("kernel and initrd")
    version = next((tree / "usr/lib/modules").iterdir()).name
    shutil.copy(tree / "boot" / f"vmlinuz-{version}", made.kernel)
    driver = next((tree / "usr/lib/modules" / version).rglob("virtio_blk.ko.xz"))
    made.initrd.write_bytes(
        cpio(
            {
                "bin/busybox": (0o755, (tree / "usr/bin/busybox").read_bytes()),
                "init": (0o755, guest.INIT.encode()),
                "virtio_blk.ko": (0o644, lzma.decompress(driver.read_bytes())),
            },
            ("bin", "dev", "root"),
        )
    )
    say("disk")
    furnish(tree)
    with open(made.disk, "wb") as disk:
        disk.truncate(SIZE_BYTES)
    # The journal and the inode tables are for disks that are written to for longer.
    options = ["-q", "-F", "-t", "ext4", "-O", "^has_journal", "-E", "lazy_itable_init=1", "-d", str(tree)]
    subprocess.run([tool("mke2fs"), *options, str(made.disk)], check=True, stdin=subprocess.DEVNULL)
    keep_python(tree, made.python)
    shutil.rmtree(tree)
    say("boot")
    with Machine(made, Path(tempfile.mkdtemp(prefix="ctk-vm-"))) as machine:
        done = machine.run(guest.PREPARE)
        if done.rc:
            raise RuntimeError(f"podman's image: exit {done.rc}\n{done.out}{done.err}")
        say(f"save, booted in {machine.booted_s:.1f} s")
        machine.save()


def keep_python(tree: Path, folder: Path) -> None:
    """What of the tree the guest's interpreter needs to run here, in a root of its own (project.py)."""
    version = (tree / "usr/bin/python3").readlink()
    machine = "x86_64-linux-gnu"
    libraries = [f"usr/lib/{machine}/{name}" for name in ("libc.so.6", "libm.so.6", "libz.so.1", "libexpat.so.1")]
    for name in (f"usr/bin/{version}", f"usr/lib/{machine}/ld-linux-x86-64.so.2", *libraries):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tree / name, folder / name)
    (folder / "lib64").symlink_to(f"usr/lib/{machine}")
    (folder / "usr/bin/python3").symlink_to(version)
    shutil.copytree(tree / "usr/lib" / version, folder / "usr/lib" / version, symlinks=True)


def furnish(tree: Path) -> None:
    """Turn Debian into the guest. Nothing in the tree runs, and no link in it is followed."""
    for name in guest.DROPPED:
        shutil.rmtree(tree / name, ignore_errors=True)
    files = {**guest.FILES, guest.AGENT.lstrip("/"): Path(__file__).with_name("agent.py").read_text()}
    for name, text in files.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_text(text)
    for name, target in guest.LINKS.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.symlink_to(target)
    for name, line in guest.LINES.items():
        fd = os.open(tree / name, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CREAT, 0o644)
        with open(fd, "a") as file:
            file.write(line)
    home = tree / "home" / guest.USER
    home.mkdir()
    os.chown(home, guest.USER_ID, guest.USER_ID)


def cpio(files: dict[str, tuple[int, bytes]], folders: tuple[str, ...]) -> bytes:
    """An archive as the kernel unpacks it (initramfs buffer format, "newc"): names to (permissions, content)."""
    out = bytearray()
    entries = [(name, stat.S_IFDIR | 0o755, b"") for name in folders]
    entries += [(name, stat.S_IFREG | mode, data) for name, (mode, data) in files.items()]
    entries += [("TRAILER!!!", 0, b"")]
    for number, (name, mode, data) in enumerate(entries, 1):
        raw = name.encode() + b"\0"
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(raw), 0)
        for block in (b"070701" + b"".join(b"%08X" % field for field in fields) + raw, data):
            out += block + bytes(-len(block) % 4)
    return bytes(out)
