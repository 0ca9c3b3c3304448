"""The part of a container's program that gives up privileges, carried out against a model of the kernel."""

import errno
import os
import stat
from typing import Any

import pytest

from tests.fixtures.simulator import Simulator
from toolkit.kernel import capabilities
from toolkit.kernel.program import structures
from toolkit.kernel.program.program import Cell, Program
from toolkit.runtime import credentials, executable, finish
from toolkit.runtime.identity import Identity

ALL = (1 << 41) - 1
FILE, FOLDER = stat.S_IFREG | 0o755, stat.S_IFDIR | 0o755


class Kernel:
    """Files by path, capabilities, a working directory; what it does not know succeeds with 0."""

    def __init__(self, **settings: Any) -> None:
        self.files: dict[str, tuple[int, bytes]] = {"/": (FOLDER, b"")}
        self.permitted = ALL
        self.cwd = "/"
        self.errors: dict[str, list[int]] = {}  # by call: the errno of each turn, 0 for none
        self.open: dict[int, str] = {0: "", 1: "", 2: ""}
        self.__dict__.update(settings)

    def __call__(self, program: Simulator, name: str, arguments: list[int]) -> int:
        if (planned := self.errors.get(name)) and (error := planned.pop(0)):
            return -error
        answer = getattr(self, "do_" + name, None)
        return int(answer(program, *arguments)) if answer is not None else 0

    def do_capget(self, program: Simulator, header: int, sets: int) -> int:
        low, high = self.permitted & 0xFFFFFFFF, self.permitted >> 32
        program.put(sets, b"".join(word.to_bytes(4, "little") for word in (low, low, 0, high, high, 0)))
        return 0

    def do_getcwd(self, program: Simulator, to: int, size: int) -> int:
        program.put(to, self.cwd.encode() + b"\0")
        return len(self.cwd) + 1

    def do_openat(self, program: Simulator, folder: int, path: int, *rest: int) -> int:
        name = program.text(path)
        if name == "..":
            above = os.path.dirname(self.open[folder])
            name = above if above in self.files else self.open[folder]
        elif name == ".":
            name = self.cwd
        if name not in self.files:
            return -errno.ENOENT
        self.open[fd := max(self.open) + 1] = name
        return fd

    def do_newfstatat(self, program: Simulator, folder: int, path: int, to: int, flags: int) -> int:
        name = program.text(path) or self.open[folder]
        if name not in self.files:
            return -errno.ENOENT
        mode_at, _, _ = structures.stat(program.program.machine)
        program.put(to, (1).to_bytes(8, "little") + hash(name).to_bytes(8, "little", signed=True))
        program.put(to + mode_at, self.files[name][0].to_bytes(4, "little"))
        return 0

    def do_faccessat2(self, program: Simulator, folder: int, path: int, *rest: int) -> int:
        return 0 if self.files[program.text(path)][0] & 0o111 else -errno.EACCES

    def do_read(self, program: Simulator, fd: int, to: int, size: int) -> int:
        text = self.files[self.open[fd]][1][:size]
        program.put(to, text)
        return len(text)


def carried_out(p: Program, kernel: Kernel) -> Simulator:
    p.call("exit_group", 0)
    simulator = Simulator(p, kernel)
    simulator.run()
    return simulator


def applied(process: Any, **settings: Any) -> tuple[Program, Simulator]:
    identity = Identity(process)
    identity.last = 40
    p = Program(2)
    credentials.apply(p, identity)
    kernel = Kernel(**settings)
    kernel.files["/dev/null"] = (stat.S_IFCHR | 0o666, b"")
    return p, carried_out(p, kernel)


USER = {"uid": 1000, "gid": 100, "additionalGids": [5, 7], "umask": 0o27}


def test_the_order_is_the_safe_one() -> None:
    able = ["CAP_KILL", "CAP_CHOWN"]
    sets = {"bounding": able, "permitted": able, "effective": able, "inheritable": able, "ambient": ["CAP_KILL"]}
    _, done = applied({"user": USER, "capabilities": sets, "noNewPrivileges": True, "cwd": "/"})
    assert not done.told
    calls = [(name, arguments[:2]) for name, arguments in done.calls]
    names = [name for name, _ in calls]
    keep = [index for index, call in enumerate(calls) if call[0] == "prctl" and call[1][0] == 8]
    order = [
        names.index("chdir"), calls.index(("prctl", [38, 1])), names.index("capget"), calls.index(("prctl", [24, 1])),
        keep[0], names.index("setgroups"), names.index("setresgid"), names.index("fchown") if "fchown" in names else -1,
        names.index("setresuid"), keep[1], names.index("capset"), calls.index(("prctl", [47, 2])), names.index("umask"),
    ]  # fmt: skip
    assert [each for each in order if each >= 0] == sorted(each for each in order if each >= 0)
    dropped = {arguments[1] for name, arguments in calls if name == "prctl" and arguments[0] == 24}
    assert dropped == set(range(41)) - {0, 5}
    groups = next(arguments for name, arguments in done.calls if name == "setgroups")
    assert done.bytes(groups[1], 8) == b"\5\0\0\0\7\0\0\0" and groups[0] == 2
    wanted = next(arguments for name, arguments in done.calls if name == "capset")[1]
    assert done.bytes(wanted, 24) == (0x21).to_bytes(4, "little") * 3 + bytes(12)


def test_what_the_process_has_not_is_left_out_and_told() -> None:
    able = ["CAP_KILL", "CAP_CHOWN", "CAP_BPF"]
    sets = {"permitted": able, "effective": able}
    p, done = applied({"capabilities": sets}, permitted=1 << capabilities.NUMBERS["CAP_KILL"])
    wanted = next(arguments for name, arguments in done.calls if name == "capset")[1]
    assert done.bytes(wanted, 24) == (0x20).to_bytes(4, "little") * 2 + bytes(16)
    texts = [p.warning(number, value) for kind, number, value in done.told if kind == "w"]
    assert texts == ["", "capabilities that this host cannot grant are left out: CAP_CHOWN, CAP_BPF"]
    # Without CAP_SETPCAP the bounding set can't be changed.
    assert not [arguments for name, arguments in done.calls if name == "prctl" and arguments[0] == 24]


def test_groups_that_a_user_namespace_denies() -> None:
    denied = {"setgroups": [errno.EPERM]}
    _, done = applied({"user": {"uid": 0, "gid": 0}}, errors=denied)
    assert not done.told
    p, done = applied({"user": USER}, errors={"setgroups": [errno.EPERM]})
    (kind, number, error) = done.told[0]
    assert kind == "E"
    assert str(p.failure(number, error)) == "become user 1000:100: operation not permitted"


def failure(p: Program, done: Simulator) -> str:
    assert [kind for kind, _, _ in done.told] == ["E"]
    return str(p.failure(*done.told[0][1:]))


def test_a_folder_that_only_the_user_may_enter() -> None:
    _, done = applied({"user": USER, "cwd": "/home"}, errors={"chdir": [errno.EACCES, 0]})
    names = [name for name, _ in done.calls]
    assert not done.told and names.count("chdir") == 2
    assert names.index("setresuid") < len(names) - names[::-1].index("chdir")


def test_a_folder_that_nobody_may_enter() -> None:
    p, done = applied({"user": USER, "cwd": "/home"}, errors={"chdir": [errno.EACCES, errno.EACCES]})
    assert failure(p, done) == "chdir to cwd ('/home') set in config.json failed: permission denied"
    p, done = applied({"cwd": "/no"}, errors={"chdir": [errno.ENOENT]})
    assert failure(p, done) == "chdir to cwd ('/no') set in config.json failed: no such file or directory"


@pytest.mark.parametrize("how", ["(unreachable)/etc", "removed"])
def test_a_folder_outside_of_the_root(how: str) -> None:
    settings: dict[str, Any] = {"cwd": how} if how != "removed" else {"errors": {"getcwd": [errno.ENOENT]}}
    p, done = applied({"cwd": "/proc/self/fd/7"}, **settings)
    assert "it is outside the container's root" in failure(p, done)


def test_a_filter_that_refuses_getcwd() -> None:
    files = dict.fromkeys(("/", "/a", "/a/b"), (FOLDER, b""))
    _, done = applied({"cwd": "/a/b"}, cwd="/a/b", files=files, errors={"getcwd": [errno.EPERM]})
    assert not done.told
    # Upwards it ends at a folder that is its own parent and not our root.
    files = dict.fromkeys(("/", "/out/a", "/out/a/b"), (FOLDER, b""))
    p, done = applied({"cwd": "/out/a/b"}, cwd="/out/a/b", files=files, errors={"getcwd": [errno.EPERM]})
    assert "it is outside the container's root" in failure(p, done)


PASSWD = (
    b"root:x:0:0:root:/root:/bin/sh\nbad line\nten:x:10:10::/ten:/bin/sh\none:x:1:1:::/bin/sh\nu:x:1000:1000:,,:/h/u"
)


@pytest.mark.parametrize(
    ("uid", "text", "home"),
    [
        (0, PASSWD, "/root"),
        (10, PASSWD, "/ten"),
        (1, PASSWD, "/"),  # an empty field
        (1000, PASSWD, "/h/u"),  # the last line, without its end
        (5, PASSWD, "/"),
        (100, PASSWD, "/"),  # begins like 1000
        (0, b"", "/"),
        (0, b"\n\n::0:::/x:\n", "/x"),
        (0, b"root:x:0\nroot:x:0:0\nroot:x:0:0:root:/late\n", "/late"),
        (7, b"x" * (1 << 20) + b"\na:x:7:7::/seven:", "/"),  # only the first MiB counts
        (8, b"a" * 500000 + b":x:8:8::/long:", "/long"),
    ],
)
def test_home_is_that_of_passwd(uid: int, text: bytes, home: str) -> None:
    p = Program(2)
    vector = finish.environment(p, ["A=1", "HOME="], uid)
    p.call("execve", "/x", 0, vector)
    kernel = Kernel(files={"/etc/passwd": (stat.S_IFREG | 0o644, text)})
    done = carried_out(p, kernel)
    assert not done.told
    at = next(arguments for name, arguments in done.calls if name == "execve")[2]
    entries = []
    while address := int.from_bytes(done.bytes(at, 8), "little"):
        entries.append(done.text(address))
        at += 8
    assert entries == ["A=1", "HOME=" + home]


@pytest.mark.parametrize("kind", [stat.S_IFIFO, stat.S_IFDIR, 0])
def test_a_passwd_that_is_no_file_is_not_read(kind: int) -> None:
    p = Program(2)
    finish.environment(p, [], 0)
    done = carried_out(p, Kernel(files={"/etc/passwd": (kind | 0o644, b"")} if kind else {}))
    assert not done.told and "read" not in [name for name, _ in done.calls]


def searched(name: str, path: str, files: dict[str, int], **settings: Any) -> tuple[Program, Simulator, str]:
    p = Program(2)
    found = executable.search(p, name, [f"PATH={path}"], lambda folder: folder == "/bin")
    result = Cell(found.path.at)
    p.call("execve", result, 0, 0)
    kernel = Kernel(files={each: (mode, b"") for each, mode in files.items()}, **settings)
    done = carried_out(p, kernel)
    at = next((arguments[0] for call, arguments in done.calls if call == "execve"), 0)
    return p, done, done.text(at) if at else ""


def test_the_first_file_of_path_that_can_be_executed() -> None:
    files = {"/a/x": FOLDER, "/b/x": stat.S_IFREG | 0o644, "/c/x": FILE, "/d/x": FILE, "./x": FILE}
    assert searched("x", "/no:/a:/b:/c:/d", files)[2] == "/c/x"
    assert searched("x", ":/c", files)[2] == "./x"
    assert searched("x", "/c", files, errors={"faccessat2": [errno.ENOSYS]})[2] == "/c/x"


def test_what_can_not_be_executed() -> None:
    p, done, _ = searched("x", "/a:/b:/no", {"/a/x": FOLDER, "/b/x": stat.S_IFREG | 0o644})
    error = p.failure(*done.told[0][1:])
    assert (str(error), error.code) == ('exec: "x": permission denied', "E043")
    assert "'/b/x' is not executable" in error.hint
    p, done, _ = searched("x", "/sbin", {})
    error = p.failure(*done.told[0][1:])
    assert str(error) == 'exec: "x": executable file not found in $PATH'
    assert "PATH in process.env is '/sbin'" in error.hint and "empty or missing" in error.hint
    p, done, _ = searched("x", "/sbin:/bin", {})
    assert "empty or missing" not in p.failure(*done.told[0][1:]).hint
    for name, files, told in (
        ("/x", {}, 'exec: "/x": stat /x: no such file or directory'),
        ("/x", {"/x": FOLDER}, 'exec: "/x": is a directory'),
        ("/x", {"/x": stat.S_IFREG | 0o644}, 'exec: "/x": permission denied'),
        ("/x y", {}, 'exec: "/x y": stat /x y: no such file or directory'),
    ):
        p, done, _ = searched(name, "", files)
        assert str(p.failure(*done.told[0][1:])) == told
