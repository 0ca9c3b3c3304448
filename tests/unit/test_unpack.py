"""toolkit.bootstrap.install.unpack: what packages become in a tree, and what hostile ones don't (security B6)."""

import io
import os
import stat
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.fixtures import debs
from toolkit.bootstrap.facts.model import Lock, Package, Source
from toolkit.bootstrap.install.staging import STAGING, Staging
from toolkit.bootstrap.install.unpack import Unpacked, Unpacker
from toolkit.errors import CtkError, Malformed
from toolkit.events import Event, Note, Progressed

pytestmark = pytest.mark.root  # owners and device nodes

Files = Mapping[str, "bytes | str | tarfile.TarInfo"]


def member(name: str, kind: bytes = tarfile.REGTYPE, **fields: object) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.mtime = kind, 0o644, 1_700_000_000
    for field, value in fields.items():
        setattr(entry, field, value)
    return entry


class Build:
    """A tree, and what went into it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "root"
        self.canary = folder / "canary"
        self.canary.mkdir()
        (self.canary / "file").write_text("untouched")
        self.events: list[Event] = []

    def unpack(
        self,
        required: Mapping[str, Files],
        base: Mapping[str, Files] | None = None,
        *,
        suite: str = "bookworm",
        jobs: int = 2,
        scripts: Mapping[str, str] | None = None,
        variant: str = "minbase",
        fields: Mapping[str, Mapping[str, str]] | None = None,
    ) -> list[Unpacked]:
        made = {**required, **(base or {})}
        packages = {
            name: Package(
                name,
                "1.0",
                "amd64",
                f"pool/{name}.deb",
                0,
                "",
                0,
                {"Installed-Size": "10", **(fields or {}).get(name, {})},
            )
            for name in made
        }
        lock = Lock(
            suite,
            "debian",
            variant,
            "amd64",
            (Source("http://mirror.example", suite, suite, "Debian", ("main",), "", ""),),
            tuple(packages[name] for name in required),
            tuple(packages[name] for name in base or {}),
            "id",
        )
        self.root.mkdir()
        rootfd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        unpacker = Unpacker(rootfd, lock, self.events.append)

        def add(name: str) -> None:
            path = self.folder / f"{name}.deb"
            path.write_bytes(debs.make({"Package": name}, made[name], scripts=scripts))
            with path.open("rb") as file:
                unpacker.add(packages[name], file.fileno())

        try:
            with ThreadPoolExecutor(jobs) as pool:
                list(pool.map(add, made))
            return unpacker.finish()
        finally:
            os.close(rootfd)

    def outside(self) -> dict[str, str]:
        """Everything beside the tree and the packages."""
        return {str(path.relative_to(self.folder)): path.read_text() for path in self.canary.rglob("*")}


@pytest.fixture
def build(tmp_path: Path) -> Iterator[Build]:
    made = Build(tmp_path)
    before = set(os.listdir("/proc/self/fd"))
    yield made
    assert made.outside() == {"canary/file": "untouched"}
    assert set(os.listdir("/proc/self/fd")) <= before | {str(int(max(before, key=int)) + 1)}, "descriptors left open"


def test_contents_owners_modes_times_links(build: Build) -> None:
    files: Files = {
        "./usr/bin/program": b"\x7fELF" * 100_000,
        "./usr/bin/su": member("./usr/bin/su", mode=0o4755, uid=0, gid=42),
        "./usr/bin/again": member("./usr/bin/again", tarfile.LNKTYPE, linkname="./usr/bin/program"),
        "./etc/alias": member("./etc/alias", tarfile.SYMTYPE, linkname="../usr/bin/program"),
        "./var/mail": member("./var/mail", tarfile.DIRTYPE, mode=0o2775, gid=8),
        "./run/pipe": member("./run/pipe", tarfile.FIFOTYPE, mode=0o600),
        "./dev/null": member("./dev/null", tarfile.CHRTYPE, mode=0o666, devmajor=1, devminor=3),
    }
    (one,) = build.unpack({"demo": files})
    program = os.lstat(build.root / "usr/bin/program")
    assert program.st_size == 400_000 and stat.S_IMODE(program.st_mode) == 0o755 and program.st_mtime == 1_700_000_000
    assert program.st_nlink == 2 and program.st_ino == os.lstat(build.root / "usr/bin/again").st_ino
    su = os.lstat(build.root / "usr/bin/su")
    assert (stat.S_IMODE(su.st_mode), su.st_gid) == (0o4755, 42)
    assert os.readlink(build.root / "etc/alias") == "../usr/bin/program"
    assert os.lstat(build.root / "etc/alias").st_mtime == 1_700_000_000
    mail = os.lstat(build.root / "var/mail")
    assert (stat.S_IMODE(mail.st_mode), mail.st_gid, mail.st_mtime) == (0o2775, 8, 1_700_000_000)
    assert stat.S_ISFIFO(os.lstat(build.root / "run/pipe").st_mode)
    null = os.lstat(build.root / "dev/null")
    assert stat.S_ISCHR(null.st_mode) and null.st_rdev == os.makedev(1, 3) and stat.S_IMODE(null.st_mode) == 0o666
    assert one.files[:4] == ("/.", "/usr", "/usr/bin", "/usr/bin/program") and "/var/mail" in one.files
    assert [event.item for event in build.events if isinstance(event, Progressed)] == ["demo"]


def test_capabilities_of_pax_headers(build: Build) -> None:
    capability = bytes.fromhex("0100000200200000000000000000000000000000")  # cap_net_raw+ep
    entry = member("./usr/bin/ping", mode=0o755)
    entry.pax_headers = {"SCHILY.xattr.security.capability": capability.decode("latin-1")}
    parts = debs.members(debs.make({"Package": "demo"}, {}, suffix=""))
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.PAX_FORMAT, encoding="latin-1") as tar:
        tar.addfile(entry)
    raw = debs.join({**{k: v for k, v in parts.items() if k != "data.tar"}, "data.tar": data.getvalue()})
    build.unpack({"demo": {}})
    lock = Lock("bookworm", "debian", "minbase", "amd64", (), (_package("demo"),), (), "id")
    target = build.folder / "second"
    target.mkdir()
    rootfd = os.open(target, os.O_RDONLY)
    (build.folder / "caps.deb").write_bytes(raw)
    with (build.folder / "caps.deb").open("rb") as file:
        unpacker = Unpacker(rootfd, lock, build.events.append)
        unpacker.add(_package("demo"), file.fileno())
        unpacker.finish()
    os.close(rootfd)
    assert os.getxattr(target / "usr/bin/ping", "security.capability") == capability


def _package(name: str) -> Package:
    return Package(name, "1.0", "amd64", f"pool/{name}.deb", 0, "", 0, {})


def test_names_with_slashes_and_dots_stay_inside(build: Build) -> None:
    names = (str(build.canary / "file"), ".//etc/x", "./etc//y", "./etc/./z")
    (one,) = build.unpack({"a": {name: member(name) for name in names}})
    assert (build.root / str(build.canary / "file").lstrip("/")).is_file()
    assert sorted(os.listdir(build.root / "etc")) == ["x", "y", "z"]
    assert one.files == ("/.", str(build.canary / "file"), "/etc/x", "/etc//y", "/etc/./z")  # as dpkg lists them


OUTSIDE: dict[str, Callable[[Build], Files]] = {
    "dots": lambda b: {"a": member("./../canary/file")},
    "dots within": lambda b: {"a": member("./usr/../../canary/file")},
    "only dots": lambda b: {"a": member("..")},
    "slashes and dots": lambda b: {"a": member("/.//../canary/file")},
    "newline": lambda b: {"a": member("./etc/x\ny")},
    "root as a file": lambda b: {"a": member("./")},
    "root as a link": lambda b: {"a": member("./", tarfile.SYMTYPE, linkname=str(b.canary))},
    "hard link outside": lambda b: {"a": member("./x", tarfile.LNKTYPE, linkname=str(b.canary / "file"))},
    "hard link by dots": lambda b: {"a": member("./x", tarfile.LNKTYPE, linkname="../canary/file")},
    "hard link to what is not shipped": lambda b: {"a": member("./x", tarfile.LNKTYPE, linkname="./etc/shadow")},
    "hard link to a directory": lambda b: {
        "a": member("./d", tarfile.DIRTYPE), "b": member("./x", tarfile.LNKTYPE, linkname="./d")
    },
    "device outside of /dev": lambda b: {"a": member("./etc/disk", tarfile.BLKTYPE, devmajor=8)},
    "device through dots": lambda b: {"a": member("./dev/../disk", tarfile.BLKTYPE, devmajor=8)},
    "a link to nothing": lambda b: {"a": member("./x", tarfile.SYMTYPE, linkname="")},
}  # fmt: skip


@pytest.mark.parametrize("files", OUTSIDE.values(), ids=OUTSIDE.keys())
def test_b6_names_that_lead_out_are_refused(build: Build, files: Callable[[Build], Files]) -> None:
    with pytest.raises(Malformed, match="evil"):
        build.unpack({"evil": files(build)})
    assert not (build.root / "etc/disk").exists()


@pytest.mark.parametrize("target", ["{canary}", "../../../../../../../..{canary}", "/proc/self/root{canary}"])
@pytest.mark.parametrize("same_package", [True, False])
def test_b6_nothing_is_written_through_a_link_to_outside(build: Build, target: str, same_package: bool) -> None:
    link: Files = {"./out": member("./out", tarfile.SYMTYPE, linkname=target.format(canary=build.canary))}
    file: Files = {"./out/file": b"overwritten", "./out/new": b"new"}
    try:
        build.unpack({"evil": {**link, **file}} if same_package else {"a-link": link, "evil": file}, jobs=1)
    except CtkError:
        pass  # refusing is as good; what counts is in the fixture: the canary is as it was


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.FIFOTYPE])
def test_b6_a_link_in_the_place_of_a_file_is_replaced_not_followed(build: Build, kind: bytes) -> None:
    link: Files = {"./x": member("./x", tarfile.SYMTYPE, linkname=str(build.canary / "file"))}
    build.unpack({"a-link": link, "b-file": {"./x": member("./x", kind, linkname="t", mode=0o600)}}, jobs=1)
    found = os.lstat(build.root / "x")
    assert stat.S_IFMT(found.st_mode) == {b"0": stat.S_IFREG, b"2": stat.S_IFLNK, b"6": stat.S_IFIFO}[kind]


def test_links_inside_the_root_are_followed_as_dpkg_does(build: Build) -> None:
    link: Files = {"./opt/target/keep": b"1", "./srv/link": "-> /opt/target"}
    build.unpack({"a-link": link, "b-files": {"./srv/link/file": b"2"}}, jobs=1)
    assert (build.root / "opt/target/file").read_bytes() == b"2"
    assert (build.root / "srv/link").is_symlink()


def test_merged_usr_takes_both_layouts(build: Build) -> None:
    build.unpack(
        {
            "base-files": {"./sbin": member("./sbin", tarfile.SYMTYPE, linkname="usr/sbin")},
            "new": {"./usr/bin/new": b"1"},
            "old": {"./bin/old": b"1", "./lib64/ld.so": b"1", "./sbin/fsck": b"1"},
        }
    )
    assert {name: os.readlink(build.root / name) for name in ("bin", "lib64", "sbin")} == {
        "bin": "usr/bin",
        "lib64": "usr/lib64",
        "sbin": "usr/sbin",
    }
    for path in ("usr/bin/new", "usr/bin/old", "usr/lib64/ld.so", "usr/sbin/fsck"):
        assert (build.root / path).is_file()
    assert not (build.root / "lib32").exists()


def test_suites_before_the_merge_stay_split(build: Build) -> None:
    build.unpack({"old": {"./bin/old": b"1"}}, suite="stretch")
    assert (build.root / "bin").is_dir() and not (build.root / "bin").is_symlink()


@pytest.mark.parametrize("jobs", [1, 4])
def test_the_later_package_wins_whichever_thread_came_first(build: Build, jobs: int) -> None:
    shared = [f"./etc/{i}" for i in range(50)]
    named = {name: dict.fromkeys(shared, name.encode()) for name in ("a", "b", "c", "d")}
    unpacked = build.unpack(named, jobs=jobs)
    assert {(build.root / path).read_text() for path in shared} == {"d"}
    assert [sum(path.startswith("/etc/") for path in one.files) for one in unpacked] == [0, 0, 0, 50]


@pytest.mark.parametrize("jobs", [1, 4])
def test_where_no_dpkg_runs_replaces_decides_and_the_rest_is_told(build: Build, jobs: int) -> None:
    shared = {"./f": b"", "./g": b""}
    fields = {"a": {"Replaces": "b (<< 2)"}}
    unpacked = build.unpack(
        {
            name: {path: name.encode() for path in paths}
            for name, paths in (("a", ["./f"]), ("b", shared), ("c", ["./g"]))
        },
        jobs=jobs,
        variant="extract",
        fields=fields,
    )
    assert [(build.root / name).read_text() for name in "fg"] == ["a", "c"]
    assert [one.files for one in unpacked] == [("/.", "/f"), ("/.",), ("/.", "/g")]
    (note,) = (event.text for event in build.events if isinstance(event, Note))
    assert note.startswith("c 1.0 has taken '/g' from b 1.0:")


def test_a_directory_has_the_mode_of_the_first_package(build: Build) -> None:
    def folder(mode: int) -> Files:
        return {"./var/x": member("./var/x", tarfile.DIRTYPE, mode=mode)}

    build.unpack({name: folder(mode) for name, mode in (("a", 0o700), ("b", 0o755), ("c", 0o777))}, jobs=3)
    assert stat.S_IMODE(os.stat(build.root / "var/x").st_mode) == 0o700


def test_a_directory_where_a_file_is_fails_by_name(build: Build) -> None:
    with pytest.raises(CtkError, match=r"unpack b 1\.0: .*etc/x"):
        build.unpack({"a": {"./etc/x": b"file"}, "b": {"./etc/x/y": b"1"}}, jobs=1)


def test_the_umask_and_the_parent_leave_no_trace(build: Build) -> None:
    os.chmod(build.folder, 0o2777)
    os.chown(build.folder, 0, 42)
    before = os.umask(0o077)
    try:
        build.unpack({"a": {"./usr/bin/x": b"1", "./etc/y": b"2"}})
    finally:
        os.umask(before)
    for path, mode in (("usr/bin/x", 0o755), ("etc/y", 0o644), ("usr", 0o755), (".", 0o755)):
        found = os.stat(build.root / path)
        assert (path, stat.S_IMODE(found.st_mode), found.st_gid) == (path, mode, 0)


def test_conffiles_are_hashed_on_their_way(build: Build) -> None:
    (one,) = build.unpack({"a": {"./etc/a.conf": b"hello"}}, scripts={"conffiles": "/etc/a.conf\n"})
    assert one.conffiles == {"/etc/a.conf": "5d41402abc4b2a76b9719d911017c592"}


def test_the_base_set_waits_and_is_moved_in(build: Build) -> None:
    required: Mapping[str, Files] = {"a": {"./usr/bin/a": b"1", "./etc/shared": b"a"}}
    base: Mapping[str, Files] = {"b": {"./bin/b": b"2", "./etc/shared": b"b", "./var/b": "-> /bin/b"}}
    early, late = build.unpack(required, base)
    assert not (build.root / "usr/bin/b").exists() and (build.root / "etc/shared").read_text() == "a"
    assert early.names & late.names == {b"etc/shared"} and not early.staged
    rootfd = os.open(build.root, os.O_RDONLY)
    staging = Staging(rootfd)
    assert not staging.in_the_way(late.staged, frozenset())
    staging.release(late.position, late.staged, {b"usr/bin/b": b"usr/bin/b.distrib"}, frozenset())
    staging.close()
    os.close(rootfd)
    assert (build.root / "usr/bin/b.distrib").read_bytes() == b"2"
    assert (build.root / "etc/shared").read_text() == "b" and os.readlink(build.root / "var/b") == "/bin/b"
    assert not (build.root / STAGING).exists()


@pytest.mark.parametrize("linked", [False, True])
def test_b6_a_device_of_the_base_set_comes_into_dev_alone(build: Build, linked: bool) -> None:
    """A script that ran meanwhile may have put a link in /dev's place."""
    node = member("./dev/null", tarfile.CHRTYPE, mode=0o666, devmajor=1, devminor=3)
    _, late = build.unpack({"a": {"./tmp/x": b"1"}}, {"b": {"./dev/null": node}})
    if linked:
        (build.root / "dev").symlink_to("tmp")
    rootfd = os.open(build.root, os.O_RDONLY)
    staging = Staging(rootfd)
    if linked:
        with pytest.raises(OSError, match="/dev"):
            staging.release(late.position, late.staged, {}, frozenset())
        assert os.listdir(build.root / "tmp") == ["x"]
    else:
        staging.release(late.position, late.staged, {}, frozenset())
        assert stat.S_ISCHR(os.lstat(build.root / "dev/null").st_mode)
    staging.close()
    os.close(rootfd)


def test_a_full_disk_is_told_as_one(build: Build) -> None:
    build.root.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", build.root], check=True)
    try:
        rootfd = os.open(build.root, os.O_RDONLY)
        try:
            lock = Lock("bookworm", "debian", "minbase", "amd64", (), (_package("big"),), (), "id")
            (build.folder / "big.deb").write_bytes(debs.make({"Package": "big"}, {"./big": bytes(1 << 20)}))
            unpacker = Unpacker(rootfd, lock, build.events.append)
            with (build.folder / "big.deb").open("rb") as file, pytest.raises(CtkError, match="no space left") as told:
                unpacker.add(_package("big"), file.fileno())
            assert told.value.hint
        finally:
            os.close(rootfd)
    finally:
        subprocess.run(["umount", build.root], check=True)


def test_threads_share_no_descriptor(build: Build) -> None:
    """Many small packages at once: nothing mixed up, nothing lost."""
    files = {f"p{i}": {f"./usr/share/p{i}/{j}": f"{i}-{j}".encode() for j in range(30)} for i in range(12)}
    build.unpack(files, jobs=6)
    assert threading.active_count() < 8
    for i in range(12):
        assert {(build.root / f"usr/share/p{i}/{j}").read_text() for j in range(30)} == {f"{i}-{j}" for j in range(30)}
