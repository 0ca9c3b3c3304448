"""toolkit.bootstrap: customisation, path_filter, transfer, emulation: what needs no archive."""

import bz2
import errno
import gzip
import io
import lzma
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard

from tests.fixtures import debs
from tests.unit.test_unpack import member
from toolkit.archive.entries import DIRECTORY, FILE, SYMLINK
from toolkit.bootstrap.customize import customize, hooks
from toolkit.bootstrap.customize.copy_in_out import Transfer
from toolkit.bootstrap.facts import architectures
from toolkit.bootstrap.facts.hooks_config import NOTHING, Customisation, User
from toolkit.bootstrap.facts.model import Lock, Package, Request, Source
from toolkit.bootstrap.install.path_filter import path_filter
from toolkit.bootstrap.install.unpack import Unpacker
from toolkit.bootstrap.sandbox import emulation
from toolkit.errors import CtkError, HostLacks, NotFound, SystemCall, Usage
from toolkit.events import silent
from toolkit.kernel import binfmt


@pytest.mark.parametrize(
    ("text", "user"),
    [
        ("dev", User("dev", -1, sudo=False)),
        ("dev:1000", User("dev", 1000, sudo=False)),
        ("dev:1000:sudo", User("dev", 1000, sudo=True)),
        ("d_1:sudo", User("d_1", -1, sudo=True)),
    ],
)
def test_a_user_is_a_name_a_number_and_a_word(text: str, user: User) -> None:
    assert Customisation(users=(text,)).accounts() == (user,)


@pytest.mark.parametrize(
    "custom",
    [
        *(Customisation(users=(text,)) for text in ("", "Dev", "a b", "dev:0", "dev:x", "dev:1:2", "dev:٣", "-x")),
        *(Customisation(hostname=text) for text in ("a b", "-a", "a\nb", "x" * 80)),
        *(Customisation(timezone=text) for text in ("../etc/passwd", "/etc/shadow", "Europe/../x", "a b")),
        *(Customisation(locale=text) for text in ("de DE", "../x", "de_DE.UTF-8;rm")),
        *(Customisation(root_password=text) for text in ("secret", "hashed:", "hashed:a:b", "file:")),
        Customisation(resolv_conf="/no/such/file"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_made(custom: Customisation) -> None:
    with pytest.raises((Usage, NotFound)):
        custom.check()


def test_the_build_id_knows_what_changes_the_tree(tmp_path: Path) -> None:
    assert NOTHING.build_id("x") == "x"
    options = tmp_path / "options"
    options.write_text("path-exclude=/a\n")
    ids = [
        Customisation(hostname="a").build_id("x"),
        Customisation(hostname="b").build_id("x"),
        Customisation(hostname="a").build_id("y"),
        Customisation(customize_hooks=("true",)).build_id("x"),
        Customisation(merged_usr=False).build_id("x"),
        Customisation(dpkg_options=(str(options),)).build_id("x"),
    ]
    options.write_text("path-exclude=/b\n")
    ids.append(Customisation(dpkg_options=(str(options),)).build_id("x"))
    assert len({"x", *ids}) == len(ids) + 1


def test_options_as_mmdebstrap_takes_them(tmp_path: Path) -> None:
    file = tmp_path / "apt.conf"
    file.write_text('A "1";\nB {\n')
    custom = Customisation(
        apt_options=('Acquire::Languages "none"', "C { D; }", str(file)), dpkg_options=("--force-x",)
    )
    assert custom.apt_lines() == ('Acquire::Languages "none";', "C { D; }", 'A "1";', "B {")
    assert custom.dpkg_lines() == ("force-x",)


def test_hooks_come_from_folders_by_name_and_then_as_typed(tmp_path: Path) -> None:
    for name, mode in (("setup20", 0o755), ("setup10.sh", 0o755), ("setup15", 0o644), ("customize01", 0o755)):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(mode)
    custom = Customisation(setup_hooks=("typed",), hook_folders=(str(tmp_path),))
    assert custom.hooks("setup") == (f"{tmp_path}/setup10.sh", f"{tmp_path}/setup20", "typed")
    assert custom.hooks("customize") == (f"{tmp_path}/customize01",)
    assert custom.hooks("essential") == ()


@pytest.mark.parametrize("command", ["copy-in /etc/issue", "upload a b c", "tar-in 'a b", "  "])
def test_a_special_word_has_its_number_of_paths(command: str) -> None:
    with pytest.raises(Usage):
        hooks.check(command)
    hooks.check("copy-in a b c /")


def test_the_variant_extract_runs_nothing() -> None:
    with pytest.raises(Usage, match="runs nothing"):
        customize.check(Request("bookworm", "x", variant="extract", custom=Customisation(users=("dev",))))


def test_stages_come_in_their_places() -> None:
    stages = (("download", ""), ("unpack", ""), ("configure", ""), ("tidy", ""))
    custom = Customisation(setup_hooks=("a",), essential_hooks=("b",), timezone="Europe/Berlin")
    names = [name for name, _ in customize.planned(custom, stages)]
    assert names == ["setup", "download", "unpack", "essential", "configure", "customize", "tidy"]


# --- dpkg's filters


def test_the_last_glob_that_matches_wins() -> None:
    skips = path_filter(("path-exclude=/usr/share/doc/*", "path-include = /usr/share/doc/*/copyright", "force-x"))
    assert skips is not None
    assert skips(b"usr/share/doc/a/b/changelog", FILE) and not skips(b"usr/share/doc/a/copyright", FILE)
    assert not skips(b"usr/share/doc/a", DIRECTORY) and not skips(b"usr/bin/x", FILE)
    assert skips(b"usr/share/doc/a", FILE) and not skips(b"usr/share/doc/a", SYMLINK)
    assert path_filter(("force-x", "path-include=/a")) is None


FILTERS = [
    ["path-exclude=/usr/share/doc/*"],
    ["path-exclude=/usr/share/doc/*", "path-include=/usr/share/doc/*/copyright"],
    ["path-exclude=/usr/share/*", "path-include=/usr/share/doc/*", "path-exclude=*/copyright"],
    ["path-exclude=/usr/share/man/?/*", "path-exclude=*/[a-c]*.gz"],
    ["path-exclude=/usr/share/locale/*/LC_MESSAGES/*.mo", "path-include=/usr/share/locale/de/*"],
    [r"path-exclude=/usr/share/odd\*name", "path-exclude=/etc/*.conf"],
    ["path-exclude=/usr/share/l*"],
]


@pytest.mark.root
@pytest.mark.parametrize("lines", FILTERS)
def test_the_tree_is_what_dpkg_makes_with_these_filters(lines: list[str], tmp_path: Path) -> None:
    if shutil.which("dpkg") is None:
        pytest.skip("dpkg is not installed")
    content = {
        "./usr/bin/x": "x",
        "./usr/share/doc/a/copyright": "c",
        "./usr/share/doc/a/changelog.gz": "g",
        "./usr/share/doc/b/copyright": "c",
        "./usr/share/doc/link": "-> a",
        "./usr/share/man/1/x.1.gz": "m",
        "./usr/share/man/1/a.1.gz": "m",
        "./usr/share/locale/de/LC_MESSAGES/x.mo": "d",
        "./usr/share/locale/fr/LC_MESSAGES/x.mo": "f",
        "./usr/share/odd*name": "o",
        "./usr/share/oddXname": "o",
        "./etc/x.conf": "c",
    }
    deb = tmp_path / "p.deb"
    deb.write_bytes(debs.make({"Package": "p"}, content, scripts={"conffiles": "/etc/x.conf\n"}))
    theirs = tmp_path / "theirs"
    for folder in ("info", "updates", "triggers", "parts"):
        (theirs / "var/lib/dpkg" / folder).mkdir(parents=True)
    (theirs / "var/lib/dpkg/status").write_text("")
    options = ["--force-not-root", "--force-script-chrootless", "--force-architecture", "--no-triggers"]
    words = ["dpkg", f"--root={theirs}", *options, *(f"--{line}" for line in lines), "--unpack", str(deb)]
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
    done = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr

    ours = tmp_path / "ours"
    ours.mkdir()
    package = Package("p", "1.0", "amd64", "pool/p.deb", 0, "", 0, {})
    source = Source("http://mirror.example", "bookworm", "bookworm", "Debian", ("main",), "", "")
    lock = Lock("bookworm", "debian", "minbase", "amd64", (source,), (package,), (), "id")
    rootfd = os.open(ours, os.O_RDONLY | os.O_DIRECTORY)
    try:
        unpacker = Unpacker(rootfd, lock, silent, skips=path_filter(lines))
        with deb.open("rb") as file:
            unpacker.add(package, file.fileno())
        (unpacked,) = unpacker.finish()
    finally:
        os.close(rootfd)

    def tree(root: Path) -> set[str]:
        return {str(path.relative_to(root)).removesuffix(".dpkg-new") for path in root.rglob("*")}

    assert tree(ours) == {path for path in tree(theirs) if not path.startswith("var")}
    # dpkg lists links last, and dpkg-deb packs them so; the fixture's writer doesn't.
    assert sorted(unpacked.files) == sorted((theirs / "var/lib/dpkg/info/p.list").read_text().splitlines())


# --- copying into a root and out of it


@pytest.fixture
def root(tmp_path: Path) -> Iterator[tuple[Path, Transfer]]:
    folder = tmp_path / "root"
    (folder / "usr/bin").mkdir(parents=True)
    (folder / "etc").mkdir()
    os.symlink("usr/bin", folder / "bin")
    (tmp_path / "host").mkdir()
    (tmp_path / "host/canary").write_text("untouched")
    os.symlink(tmp_path / "host", folder / "away")
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    yield folder, Transfer(fd, owners=True)
    os.close(fd)
    assert (tmp_path / "host/canary").read_text() == "untouched" and os.listdir(tmp_path / "host") == ["canary"]


def test_folders_go_in_and_come_out_as_they_were(root: tuple[Path, Transfer], tmp_path: Path) -> None:
    folder, transfer = root
    source = tmp_path / "source"
    (source / "bin").mkdir(parents=True)
    (source / "bin/tool").write_text("tool")
    (source / "bin/tool").chmod(0o4755)
    os.symlink("/etc/passwd", source / "link")
    os.mkfifo(source / "fifo")
    os.utime(source / "bin/tool", (1_600_000_000, 1_600_000_000))
    transfer.sync_in(str(source), "/")
    about = os.stat(folder / "usr/bin/tool")  # through the root's own link, which stays one
    assert (about.st_mode & 0o7777, about.st_mtime) == (0o4755, 1_600_000_000)
    assert os.readlink(folder / "link") == "/etc/passwd" and os.readlink(folder / "bin") == "usr/bin"
    transfer.copy_in(str(source), "/etc")
    assert (folder / "etc/source/bin/tool").read_text() == "tool"
    transfer.copy_out("/etc/source", str(tmp_path / "out"))
    assert (tmp_path / "out/source/bin/tool").stat().st_mode & 0o7777 == 0o4755
    transfer.sync_out("/etc/source", str(tmp_path / "flat"))
    assert os.readlink(tmp_path / "flat/link") == "/etc/passwd"
    transfer.upload(str(source / "bin/tool"), "/etc/other-name")
    transfer.download("/bin/tool", str(tmp_path / "got/it"))
    assert (folder / "etc/other-name").stat().st_mode & 0o7777 == 0o755 and (tmp_path / "got/it").read_text() == "tool"


@pytest.mark.parametrize("size", [8 << 20, (8 << 20) + 5000])
def test_holes_stay_holes(size: int, root: tuple[Path, Transfer], tmp_path: Path) -> None:
    """As /var/log/lastlog has them: hundreds of GB where the ids of users are large."""
    folder, transfer = root
    with open(tmp_path / "lastlog", "wb") as file:
        for at in (*range(1 << 20, (1 << 20) + 80_000, 8192), 3 << 20, 8 << 20):
            file.seek(at)
            file.write(b"%d" % at * 600)
        file.truncate(size)
    transfer.copy_in(str(tmp_path / "lastlog"), "/etc")
    transfer.upload(str(tmp_path / "lastlog"), "/etc/other")
    transfer.copy_out("/etc/lastlog", str(tmp_path / "out"))
    before = (tmp_path / "lastlog").stat()
    for made in (folder / "etc/lastlog", folder / "etc/other", tmp_path / "out/lastlog"):
        assert made.read_bytes() == (tmp_path / "lastlog").read_bytes()
        assert made.stat().st_blocks == before.st_blocks < before.st_size // 1024


def test_what_the_kernel_makes_up_is_copied_too(root: tuple[Path, Transfer]) -> None:
    root[1].copy_in("/proc/version", "/etc")
    assert (root[0] / "etc/version").read_text() == Path("/proc/version").read_text()


@pytest.mark.parametrize("ending", ["tar", "tar.gz", "tbz2", "tar.xz", "tar.zst"])
def test_a_tar_goes_round(ending: str, root: tuple[Path, Transfer], tmp_path: Path) -> None:
    folder, transfer = root
    (folder / "etc/conf").mkdir(mode=0o750)
    (folder / "etc/conf/a").write_text("a" * 70_000)
    os.symlink("a", folder / "etc/conf/b")
    os.symlink("conf", folder / "etc/also")
    os.link(folder / "etc/conf/a", folder / "etc/one-more")
    transfer.tar_out("/etc", str(tmp_path / f"etc.{ending}"))
    (folder / "copy").mkdir()
    transfer.tar_in(str(tmp_path / f"etc.{ending}"), "/copy")
    assert (folder / "copy/conf/a").read_text() == "a" * 70_000
    assert os.readlink(folder / "copy/conf/b") == "a" and os.readlink(folder / "copy/also") == "conf"
    assert (folder / "copy/conf").stat().st_mode & 0o7777 == 0o750
    assert os.path.samefile(folder / "copy/conf/a", folder / "copy/one-more")
    if ending != "tar.zst":
        with tarfile.open(tmp_path / f"etc.{ending}") as tar:
            assert {"./conf/a", "./conf/b", "./also"} <= set(tar.getnames())


def test_what_comes_out_is_whole_or_not_there(
    root: tuple[Path, Transfer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, transfer = root
    (folder / "etc/a").write_text("a")
    os.mkdir(tmp_path / "out")
    (tmp_path / "out/etc.tar").write_text("before")

    def full(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        for act in (
            lambda: transfer.tar_out("/etc", str(tmp_path / "out/etc.tar")),
            lambda: transfer.download("/etc/a", str(tmp_path / "out/a")),
        ):
            with pytest.raises(OSError, match="No space"):
                act()
    assert os.listdir(tmp_path / "out") == ["etc.tar"] and (tmp_path / "out/etc.tar").read_text() == "before"


@pytest.mark.parametrize("act", ["tar_out", "download"])
def test_what_is_no_file_is_written_to(act: str, root: tuple[Path, Transfer], tmp_path: Path) -> None:
    """`download /etc/hostname /dev/stdout`: nobody wants a file in its place."""
    folder, transfer = root
    (folder / "etc/a").write_text("text")
    os.mkfifo(tmp_path / "fifo")
    os.symlink("fifo", tmp_path / "out")
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    getattr(transfer, act)("/etc" if act == "tar_out" else "/etc/a", str(tmp_path / "out"))
    assert b"text" in os.read(reader, 1 << 16)
    os.close(reader)
    assert (tmp_path / "fifo").is_fifo() and os.readlink(tmp_path / "out") == "fifo"


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress, lzma.compress, bz2.compress])
def test_a_tar_in_several_compressed_pieces_is_read_to_its_end(
    pack: Callable[[bytes], bytes], root: tuple[Path, Transfer], tmp_path: Path
) -> None:
    """As pigz(1), zstd(1), pixz(1) and ctk itself write them."""
    folder, transfer = root
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name in "abc":
            entry = tarfile.TarInfo(name)
            entry.size = 50_000
            tar.addfile(entry, io.BytesIO(name.encode() * 50_000))
    data = stream.getvalue()
    path = tmp_path / "in.tar"
    path.write_bytes(b"".join(pack(data[at : at + 40_000]) for at in range(0, len(data), 40_000)))
    transfer.tar_in(str(path), "/etc")
    assert (folder / "etc/c").read_text() == "c" * 50_000


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress, lzma.compress, bz2.compress, bytes])
@pytest.mark.parametrize("damage", ["cut", "overwritten"])
def test_a_damaged_tar_is_an_error_of_ours(
    pack: Callable[[bytes], bytes], damage: str, root: tuple[Path, Transfer], tmp_path: Path
) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        entry = tarfile.TarInfo("a")
        entry.size = 300_000
        tar.addfile(entry, io.BytesIO(os.urandom(1000) * 300))
        tar.addfile(tarfile.TarInfo("b"))
    data = pack(stream.getvalue())
    path = tmp_path / "in.tar"
    path.write_bytes(data[: len(data) // 2] if damage == "cut" else data[:20] + b"\xff" * 80 + data[100:])
    with pytest.raises((CtkError, OSError)):
        root[1].tar_in(str(path), "/etc")


def test_no_link_of_the_root_leads_a_copy_out_of_it(root: tuple[Path, Transfer], tmp_path: Path) -> None:
    """The root's `away` points to a folder of the host: inside the root there is none of that name."""
    _, transfer = root
    (tmp_path / "file").write_text("evil")
    for act in (transfer.copy_in, transfer.sync_in):
        with pytest.raises((OSError, SystemCall)):
            act(str(tmp_path), "/away")
    with pytest.raises((OSError, SystemCall)):
        transfer.upload(str(tmp_path / "file"), "/away/canary")
    with pytest.raises((OSError, SystemCall)):
        transfer.download("/away/canary", str(tmp_path / "stolen"))
    with pytest.raises((OSError, SystemCall)):
        transfer.tar_out("/away", str(tmp_path / "stolen.tar"))


@pytest.mark.parametrize(
    "members",
    [
        [member("../host/canary")],
        [member("x", tarfile.SYMTYPE, linkname="../host"), member("x/new")],
        [member("hard", tarfile.LNKTYPE, linkname="../host/canary")],
        [member("hard", tarfile.LNKTYPE, linkname="away/canary")],
    ],
)
def test_s14_a_tar_writes_nowhere_but_in_the_root(
    members: list[tarfile.TarInfo], root: tuple[Path, Transfer], tmp_path: Path
) -> None:
    folder, transfer = root
    with tarfile.open(tmp_path / "evil.tar", "w") as tar:
        for one in members:
            tar.addfile(one)
    try:
        transfer.tar_in(str(tmp_path / "evil.tar"), "/")
    except (CtkError, OSError):
        pass
    for path in folder.rglob("*"):
        assert path.is_symlink() or path.stat().st_ino != (tmp_path / "host/canary").stat().st_ino


def test_what_is_copied_out_follows_no_link_of_an_earlier_copy(root: tuple[Path, Transfer], tmp_path: Path) -> None:
    folder, transfer = root
    os.symlink(tmp_path / "host", folder / "etc/trap")
    transfer.sync_out("/etc", str(tmp_path / "out"))
    assert os.readlink(tmp_path / "out/trap") == str(tmp_path / "host")
    os.unlink(folder / "etc/trap")
    (folder / "etc/trap").mkdir()
    (folder / "etc/trap/canary").write_text("evil")
    transfer.sync_out("/etc", str(tmp_path / "out"))
    assert (tmp_path / "out/trap/canary").read_text() == "evil" and not (tmp_path / "out/trap").is_symlink()


# --- other architectures


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An amd64 host with a kernel of our choice, and folders of ours for qemu and for the host's entries."""
    monkeypatch.setattr(architectures, "host_architecture", lambda: "amd64")
    monkeypatch.setattr(emulation, "host_architecture", lambda: "amd64")
    monkeypatch.setattr(emulation, "is_native", lambda name: name == "amd64")
    monkeypatch.setattr(emulation, "_FOLDERS", (str(tmp_path / "bin"),))
    monkeypatch.setattr(binfmt, "HOST_ENTRIES", str(tmp_path / "entries"))
    monkeypatch.setattr(emulation.HostFacts, "kernel", (6, 18), raising=False)
    (tmp_path / "bin").mkdir()
    (tmp_path / "entries").mkdir()
    return tmp_path


def entry(host: Path, flags: str) -> None:
    magic = binfmt.pattern("arm64")[0].hex()
    (host / "entries/register").write_text("")
    text = f"enabled\ninterpreter /usr/bin/qemu-aarch64-static\nflags: {flags}\noffset 0\nmagic {magic}\n"
    (host / "entries/some-name").write_text(text)


def test_native_programs_and_the_32_bit_sibling_need_nothing(host: Path) -> None:
    assert emulation.emulation("amd64").way == emulation.emulation("i386").way == "native"


def test_foreign_programs_need_an_emulator(host: Path) -> None:
    with pytest.raises(HostLacks, match="can't run its programs") as caught:
        emulation.emulation("arm64")
    assert "qemu-user-static" in caught.value.hint and "--foreign" in caught.value.hint


def test_a_build_has_a_list_of_its_own_where_the_kernel_has_them(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy("/bin/busybox" if os.path.exists("/bin/busybox") else "/sbin/ldconfig", host / "bin/qemu-aarch64")
    found = emulation.emulation("arm64")
    assert found.way == "own" and found.registration.endswith(f":{host}/bin/qemu-aarch64:OCF".encode())
    monkeypatch.setattr(emulation.HostFacts, "kernel", (6, 6), raising=False)
    with pytest.raises(HostLacks, match=r"needs Linux 6\.7"):
        emulation.emulation("arm64")


def test_a_dynamic_emulator_is_none(host: Path) -> None:
    shutil.copy("/bin/ls", host / "bin/qemu-aarch64")
    with pytest.raises(HostLacks):
        emulation.emulation("arm64")


def test_the_hosts_entry_will_do_if_it_has_the_flag_f(host: Path) -> None:
    entry(host, "F")
    assert emulation.emulation("arm64") == emulation.Emulation("host")
    entry(host, "OC")
    with pytest.raises(HostLacks, match="lacks the flag F"):
        emulation.emulation("arm64")


def test_a_magic_is_the_head_of_such_a_program() -> None:
    with open("/proc/self/exe", "rb") as file:
        head = file.read(20)
    magic, mask = binfmt.pattern(architectures.host_architecture())
    assert bytes(a & b for a, b in zip(head, mask, strict=True)) == bytes(
        a & b for a, b in zip(magic, mask, strict=True)
    )
    assert binfmt.pattern("s390x")[0][16:] == b"\x00\x02\x00\x16"
