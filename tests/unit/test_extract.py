"""What an archive's member becomes, and what it must never do: toolkit.archive.extract and those who read for it."""

import os
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fixtures.command import tool
from tests.fixtures.often import tries
from toolkit.archive import extract_tree, tar_write
from toolkit.archive.entries import BLOCK, CHARACTER, DIRECTORY, FIFO, FILE, HARD_LINK, SYMLINK, Entry, of_file
from toolkit.archive.extract import SKIP, TRY, Extractor, Policy
from toolkit.errors import CtkError, Malformed

MTIME_NS = 1_234_567_890_123_456_789
NEW = Policy(umask=0o022)
OVER = Policy(replace=True)


def entry(kind: bytes = FILE, mode: int = 0o644, **values: object) -> Entry:
    made = Entry(b"./member", kind, 0)
    made.mode, made.mtime_ns = mode, MTIME_NS
    for name, value in values.items():
        setattr(made, name, value)
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    """A directory's descriptor; beside it lies `victim`, a file that nothing here may change."""
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "victim").chmod(0o600)
    (tmp_path / "in").mkdir()
    before = os.umask(0o022)
    fd = os.open(tmp_path / "in", os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)
    os.umask(before)
    about = (tmp_path / "victim").stat()
    assert (tmp_path / "victim").read_text() == "mine"
    assert (stat.S_IMODE(about.st_mode), about.st_uid, about.st_nlink) == (0o600, os.geteuid(), 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "victim"]


def put(fd: int, policy: Policy, member: Entry, name: str = "x", data: bytes = b"") -> os.stat_result:
    assert Extractor(policy, "unpack it").put(fd, name, member, [data])
    return os.stat(name, dir_fd=fd, follow_symlinks=False)


def as_nobody(work: Callable[[], None]) -> None:
    """Do it in a child that may give nothing away."""
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            work()
            os._exit(0)
        except BaseException as error:
            os.write(2, repr(error).encode())
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0


@pytest.mark.root
@pytest.mark.parametrize("policy", [NEW, OVER])
@pytest.mark.parametrize("mode", [0o644, 0o600, 0o4755, 0o2755, 0o1777, 0o666, 0o000])
@pytest.mark.parametrize("owner", [(0, 0), (0, 42), (7, 3_000_000)])
def test_a_file_is_what_its_member_says(folder: int, policy: Policy, mode: int, owner: "tuple[int, int]") -> None:
    value = {"user.note": b"with a \0", "security.capability": bytes.fromhex("0100000200200000" + "00" * 12)}
    member = entry(mode=mode, uid=owner[0], gid=owner[1], xattrs=value)
    about = put(folder, policy, member, data=b"text" * 100_000)
    assert (stat.S_IMODE(about.st_mode), about.st_uid, about.st_gid) == (mode, *owner)
    assert (about.st_mtime_ns, about.st_size) == (MTIME_NS, 400_000)
    assert {name: os.getxattr(f"/proc/self/fd/{folder}/x", name) for name in value} == value


@pytest.mark.root
@pytest.mark.parametrize("policy", [NEW, OVER])
@pytest.mark.parametrize(
    ("kind", "device"), [(SYMLINK, None), (FIFO, None), (CHARACTER, (1, 3)), (BLOCK, (7, 300)), (CHARACTER, (0, 0))]
)
def test_links_and_nodes_are_too(folder: int, policy: Policy, kind: bytes, device: "tuple[int, int] | None") -> None:
    member = entry(kind, 0o6751, uid=7, gid=9, link=b"\xff/../target")
    member.major, member.minor = device or (0, 0)
    about = put(folder, policy, member)
    assert (about.st_uid, about.st_gid, about.st_mtime_ns) == (7, 9, MTIME_NS)
    if kind == SYMLINK:
        assert os.readlink(b"x", dir_fd=folder) == b"\xff/../target"
    else:
        assert stat.S_IMODE(about.st_mode) == 0o6751
        assert device is None or about.st_rdev == os.makedev(*device)


@pytest.mark.root
def test_a_directory_gets_its_looks_at_the_end(folder: int) -> None:
    os.mkdir("x", dir_fd=folder)
    fd = os.open("x", os.O_RDONLY | os.O_DIRECTORY, dir_fd=folder)
    member = entry(b"5", 0o3711, uid=5, gid=6, xattrs={"user.note": b"x"})
    Extractor(NEW, "unpack it").finish(fd, member)
    about = os.fstat(fd)
    assert (stat.S_IMODE(about.st_mode), about.st_uid, about.st_gid, about.st_mtime_ns) == (0o3711, 5, 6, MTIME_NS)
    assert os.getxattr(fd, "user.note") == b"x"
    os.close(fd)


@pytest.mark.root
def test_without_its_owner_no_file_is_setuid(folder: int) -> None:
    unowned = Policy(owners=False)
    for name, kind in (("file", FILE), ("fifo", FIFO)):
        about = put(folder, unowned, entry(kind, 0o6755, uid=5), name)
        assert (about.st_uid, stat.S_IMODE(about.st_mode)) == (0, 0o755)
    os.fchmod(folder, 0o777)

    def work() -> None:
        """Who may not give it away keeps it, and no bit that would let others be him."""
        about = put(folder, Policy(lenient=True), entry(mode=0o4755, uid=5), "given")
        assert (about.st_uid, stat.S_IMODE(about.st_mode)) == (65534, 0o755)
        with pytest.raises(PermissionError):
            put(folder, Policy(), entry(mode=0o4755, uid=5), "kept")
        assert os.stat("kept", dir_fd=folder).st_mode & 0o7000 == 0

    as_nobody(work)


@pytest.mark.root
@pytest.mark.parametrize("name", ["security.selinux", "trusted.overlay.opaque", "user", "system.nfs4_acl"])
def test_attributes_that_are_not_the_files_are_not_set(folder: int, name: str) -> None:
    with pytest.raises(Malformed, match=name):
        put(folder, NEW, entry(xattrs={name: b"x"}))
    os.unlink("x", dir_fd=folder)
    put(folder, Policy(refuse_xattrs=False), entry(xattrs={name: b"x", "user.note": b"kept"}))
    assert os.listxattr(f"/proc/self/fd/{folder}/x") == ["user.note"]


@pytest.mark.root
def test_what_the_file_system_does_not_take_is_an_error_or_left_out(folder: int) -> None:
    broken = {"system.posix_acl_access": b"no list", "user.note": b"x"}
    with pytest.raises(OSError):
        put(folder, NEW, entry(xattrs=broken))
    os.unlink("x", dir_fd=folder)
    put(folder, Policy(lenient=True), entry(xattrs=broken))
    assert os.listxattr(f"/proc/self/fd/{folder}/x") == ["user.note"]


@pytest.mark.root
def test_devices_are_made_or_tried_or_left_out(folder: int) -> None:
    node = entry(CHARACTER, 0o666, major=1, minor=5)
    skipping = Extractor(Policy(devices=SKIP, replace=True), "unpack it")
    put(folder, NEW, entry(), "there")
    assert not skipping.put(folder, "x", node, ()) and not skipping.put(folder, "there", node, ())
    assert os.listdir(folder) == ["there"] and skipping.left_out == 2  # what is there stays
    os.fchmod(folder, 0o777)

    def work() -> None:
        with pytest.raises(PermissionError):
            put(folder, Policy(owners=False), node)
        trying = Extractor(Policy(owners=False, devices=TRY), "unpack it")
        assert not trying.put(folder, "x", node, ()) and trying.left_out == 1
        assert trying.put(folder, "fifo", entry(FIFO), ())

    as_nobody(work)
    with pytest.raises(Malformed, match="type"):
        put(folder, NEW, entry(b"7"))


@pytest.mark.parametrize("kind", [FILE, SYMLINK, FIFO])
def test_what_is_there_stays_or_gives_way_and_is_never_followed(folder: int, kind: bytes, tmp_path: Path) -> None:
    member = entry(kind, 0o777, uid=os.geteuid(), gid=os.getegid(), link=b"elsewhere")
    os.symlink(tmp_path / "victim", "x", dir_fd=folder)
    with pytest.raises(FileExistsError):
        put(folder, NEW, member, data=b"evil")
    assert os.readlink("x", dir_fd=folder) == str(tmp_path / "victim")
    about = put(folder, OVER, member, data=b"evil")
    assert {SYMLINK: stat.S_ISLNK, FILE: stat.S_ISREG, FIFO: stat.S_ISFIFO}[kind](about.st_mode)
    os.mkdir("d", dir_fd=folder)
    with pytest.raises(OSError):
        put(folder, OVER, member, "d")
    assert stat.S_ISDIR(os.stat("d", dir_fd=folder).st_mode)


def test_a_hard_link_does_not_follow_one(folder: int, tmp_path: Path) -> None:
    os.symlink(tmp_path / "victim", "x", dir_fd=folder)
    Extractor(NEW, "unpack it").link(folder, "x", folder, "y")
    assert os.readlink("y", dir_fd=folder) == str(tmp_path / "victim")
    put(folder, NEW, entry(uid=os.geteuid(), gid=os.getegid()), "file")
    with pytest.raises(FileExistsError):
        Extractor(NEW, "unpack it").link(folder, "file", folder, "y")
    Extractor(OVER, "unpack it").link(folder, "file", folder, "y")
    assert os.stat("y", dir_fd=folder).st_nlink == 2


@pytest.mark.parametrize("planted", ["link", "link to a fifo", "file", "device"])
@pytest.mark.root
def test_a_node_that_is_replaced_before_it_is_settled_is_not_touched(folder: int, planted: str, tmp_path: Path) -> None:
    """chmod(2) would follow a link: the host's file would get the member's owner and mode."""
    extractor, member = Extractor(Policy(), "unpack it"), entry(FIFO, 0o6777, uid=7)
    assert extractor.new_node(folder, "x", member)
    os.unlink("x", dir_fd=folder)
    if planted == "link":
        os.symlink(tmp_path / "victim", "x", dir_fd=folder)
    elif planted == "link to a fifo":
        os.mkdir("outside", dir_fd=folder)
        os.mkfifo("outside/fifo", 0o600, dir_fd=folder)
        os.symlink("outside/fifo", "x", dir_fd=folder)
    elif planted == "file":
        put(folder, NEW, entry(mode=0o600))
    else:
        os.mknod("x", stat.S_IFCHR | 0o600, os.makedev(1, 3), dir_fd=folder)
    with pytest.raises(OSError, match="replaced"):
        extractor.settle(folder, "x", member)
    about = os.stat("x", dir_fd=folder, follow_symlinks=planted == "link to a fifo")
    assert planted == "link" or (about.st_uid, stat.S_IMODE(about.st_mode)) == (0, 0o600)


def exchanged(folder: int, first: str, second: str, stop: threading.Event) -> None:
    """Let the two names change places until told to stop."""
    while not stop.is_set():
        for one, other in ((first, "spare"), (second, first), ("spare", second)):
            try:
                os.rename(one, other, src_dir_fd=folder, dst_dir_fd=folder)
            except OSError:
                pass


@pytest.mark.root
@pytest.mark.parametrize("kind", [FILE, FIFO, SYMLINK, CHARACTER])
def test_a_race_for_the_name_leads_nowhere(folder: int, kind: bytes, tmp_path: Path) -> None:
    """A thread that puts links to the victim in the member's place, all the while."""
    stop = threading.Event()
    os.symlink(tmp_path / "victim", "trap", dir_fd=folder)
    thread = threading.Thread(target=exchanged, args=(folder, "trap", "x", stop))
    thread.start()
    extractor, member = Extractor(OVER, "unpack it"), entry(kind, 0o777, uid=7, gid=7, link=b"t", major=1, minor=3)
    try:
        for _ in range(tries(150, 5000)):
            try:
                extractor.put(folder, "x", member, [b"evil"])
            except OSError:
                pass
    finally:
        stop.set()
        thread.join()


def stream(*members: Entry, data: bytes = b"") -> Iterator[bytes]:
    for one in members:
        yield tar_write.header(one, prefix=b"") + data.ljust(-(-len(data) // 512) * 512, b"\0") * (one.kind == FILE)
    yield tar_write.END


def found(path: bytes, kind: bytes = FILE, size: int = 0) -> Entry:
    made = Entry(path, kind, size)
    made.mode, made.uid, made.gid = 0o755, os.geteuid(), os.getegid()
    return made


def test_a_race_for_a_directory_leads_nowhere(folder: int, tmp_path: Path) -> None:
    """CVE-2018-15664's kind: the directory becomes a link to the host's folder between two members."""
    os.symlink(tmp_path, "trap", dir_fd=folder)
    os.mkdir("x", dir_fd=folder)
    os.mkdir("y", dir_fd=folder)
    stop = threading.Event()
    thread = threading.Thread(target=exchanged, args=(folder, "trap", "x", stop))
    thread.start()
    try:
        for turn in range(30):
            # Another directory between two members lets each be looked up anew.
            names = [b"%s/%d-%d" % (where, turn, n) for n in range(40) for where in (b"x", b"y")]
            try:
                extract_tree.extract_tree(folder, stream(*map(found, names)), "a tree")
            except (OSError, CtkError):
                pass
    finally:
        stop.set()
        thread.join()


BAD = [b"../out", b"/out", b"a/../../out", b"..", b"a/.."]


@pytest.mark.parametrize("name", BAD)
def test_no_name_leads_out_of_a_tree(name: bytes, folder: int) -> None:
    with pytest.raises(Malformed):
        extract_tree.extract_tree(folder, stream(found(name)), "a tree")
    linked = found(b"x")
    linked.kind, linked.link = HARD_LINK, name
    with pytest.raises(Malformed):
        extract_tree.extract_tree(folder, iter([tar_write.header(linked, prefix=b"")]), "a tree")
    assert os.listdir(folder) == []


def test_a_link_on_the_way_leads_nowhere(folder: int, tmp_path: Path) -> None:
    """Not for a file, not as the target of a hard link: with the root as `/` there is no such path."""
    way = found(b"way")
    way.kind, way.link = SYMLINK, os.fsencode(tmp_path)
    linked = found(b"copy")
    linked.kind, linked.link = HARD_LINK, b"way/victim"
    for second in (found(b"way/planted"), linked):
        with pytest.raises((OSError, CtkError)):
            extract_tree.extract_tree(folder, stream(way, second), "a tree")
        os.unlink("way", dir_fd=folder)
    assert os.listdir(folder) == []


def test_names_without_end_end(folder: int, tmp_path: Path) -> None:
    with pytest.raises((OSError, CtkError)):
        extract_tree.extract_tree(folder, stream(found(b"d/" * 3000, DIRECTORY)), "a tree")
    with pytest.raises((OSError, CtkError)):
        extract_tree.extract_tree(folder, stream(found(b"n" * 256)), "a tree")
    with pytest.raises((OSError, CtkError)):  # a directory within a directory, one a member
        extract_tree.extract_tree(folder, stream(*(found(b"d/" * n, DIRECTORY) for n in range(1, 3000))), "a tree")
    subprocess.run([tool("rm"), "-r", tmp_path / "in/d"], check=True)  # deeper than Python's own way goes
    with pytest.raises(Malformed):
        extract_tree.extract_tree(folder, stream(found(b"a\0b" + b"n" * 200)), "a tree")


def test_sizes_without_end_end(folder: int) -> None:
    with pytest.raises(Malformed, match="middle"):
        extract_tree.extract_tree(folder, stream(found(b"x", size=1 << 62), data=b"x"), "a tree")
    with pytest.raises(CtkError, match=str(1 << 62)):
        put(folder, Policy(check_size=True), entry(size_bytes=1 << 62))
    assert os.listdir(folder) == ["x"]  # extract_tree's; what asks first makes nothing


def test_a_file_that_was_found_is_a_member(folder: int, tmp_path: Path) -> None:
    about = put(folder, OVER, entry(mode=0o640, uid=os.geteuid(), gid=os.getegid()), data=b"text")
    made = of_file(b"x", about)
    assert made is not None and (made.kind, made.mode, made.size_bytes, made.mtime_ns) == (FILE, 0o640, 4, MTIME_NS)
    assert of_file(b"dir", os.fstat(folder)).kind == DIRECTORY  # type: ignore[union-attr]
