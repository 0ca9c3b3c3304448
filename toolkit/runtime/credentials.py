"""The program's part that gives up privileges: user, groups, capabilities, working directory, in the one safe order.

What the process has when it gets there is read by the program itself (capget(2)), so that what it can't grant is left
out and told, and nothing is assumed.
"""

import errno
import os

from toolkit.errors import LaunchFailed
from toolkit.kernel import capabilities, process
from toolkit.kernel.program import structures
from toolkit.kernel.program.program import MEMORY, Cell, Label

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.errors import CtkError, SystemCall
    from toolkit.kernel.program.program import Program
    from toolkit.runtime.identity import Identity

_SPEC_AMBIENT = capabilities.mask(("CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"))
_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_VERSION_3 = 0x20080522
_S_IFMT, _S_IFREG, _S_IFIFO = 0o170000, 0o100000, 0o010000
_LOW = 0xFFFFFFFF
_OUTSIDE = 4096  # a failure of ours, beside the errnos
_PATH_MAX = 4096


class Capabilities:
    """The sets of a process, in a program that reads and changes them."""

    def __init__(self, p: "Program", identity: "Identity") -> None:
        """Emit the reading of what it has now."""
        self.masks = identity.masks
        self._header = p.data(_VERSION_3.to_bytes(4, "little") + bytes(4))
        self._now = p.room(24)  # effective, permitted, inheritable; then their upper halves
        p.call("capget", self._header, self._now)

    def _word(self, index: int) -> Cell:
        return Cell(self._now - MEMORY + 4 * index, 4)

    def warn(self, p: "Program", identity: "Identity") -> None:
        """Tell what the spec asks for and the process can't have. (The spec: a warning, not an error.)"""
        wanted = (self.masks["permitted"] | self.masks["effective"] | self.masks["inheritable"]) & identity.known()
        fine, have, upper = Label(), p.cell(), p.cell()
        missing = Label()
        p.own("and", self._word(1), wanted & _LOW, result=have)
        p.own("and", self._word(4), wanted >> 32, result=upper)
        lower: "list[int]" = []

        def first(number: int) -> str:
            lower[:] = [number]
            return ""

        def text(number: int) -> str:
            lacking = wanted & ~(lower[0] | number << 32)
            words = capabilities.names(lacking) + identity.unknown
            return "capabilities that this host cannot grant are left out: " + ", ".join(words)

        if not identity.unknown:
            p.when("if_equal", have, wanted & _LOW, low := Label())
            p.go(missing)
            p.place(low)
            p.when("if_equal", upper, wanted >> 32, fine)
            p.place(missing)
        p.warn(have, first)
        p.warn(upper, text)
        p.place(fine)

    def drop_bounding(self, p: "Program", last: int) -> None:
        """Drop what the bounding set should not have, if the process may."""
        setpcap, after = 1 << capabilities.NUMBERS["CAP_SETPCAP"], Label()
        p.when("if_any", self._word(0), setpcap, may := Label())
        p.go(after)
        p.place(may)
        number, bit, again, kept = p.cell(), p.cell(), Label(), Label()
        p.own("set", 0, result=number)
        p.own("set", 1, result=bit)
        p.place(again)
        p.when("if_any", bit, self.masks["bounding"], kept)
        p.call("prctl", process.PR_CAPBSET_DROP, number, 0, 0, 0)
        p.place(kept)
        p.own("add", number, 1, result=number)
        p.own("add", bit, bit, result=bit)
        p.when("if_less", number, last + 1, again)
        p.place(after)

    def set(self, p: "Program", *, keep: int = 0, use: bool = False) -> None:
        """Set effective, permitted and inheritable as the spec says, where it can.

        `keep`: permitted as well, and effective too if `use`.
        """
        permitted = self.masks["permitted"]
        sets = (
            self.masks["effective"] & permitted | (keep if use else 0), permitted | keep, self.masks["inheritable"],
        )  # fmt: skip
        wanted = p.room(32)
        for half in (0, 1):
            for index, value in enumerate(sets):
                place = Cell(wanted - MEMORY + 12 * half + 4 * index)  # in ascending order: each writes 8 bytes
                p.own("and", self._word(1 + 3 * half), value >> 32 * half & _LOW, result=place)
        p.call("capset", self._header, wanted)

    def set_ambient(self, p: "Program") -> None:
        """Set the ambient set; what it can't get is told."""
        p.call("prctl", process.PR_CAP_AMBIENT, 4, 0, 0, 0)  # PR_CAP_AMBIENT_CLEAR_ALL
        wanted = self.masks["ambient"]
        can = wanted & self.masks["permitted"] & self.masks["inheritable"]
        for number in range(len(capabilities.NAMES)):
            if can >> number & 1:
                after, refused = Label(), Label()
                p.call("prctl", process.PR_CAP_AMBIENT, 2, number, 0, 0, on=((0, refused),))  # PR_CAP_AMBIENT_RAISE
                p.go(after)
                p.place(refused)
                if not _SPEC_AMBIENT >> number & 1:
                    p.warn(number, _not_ambient)
                p.place(after)
        lost = wanted & ~can
        # No warning for the three default capabilities, or some of them: the `spec` of runc up to 1.1, and ours, lists
        # them as ambient and not as inheritable.
        if lost & ~_SPEC_AMBIENT:
            for number in range(len(capabilities.NAMES)):
                if lost >> number & 1:
                    p.warn(number, _not_ambient)


def _not_ambient(number: int) -> str:
    name = capabilities.NAMES[number]
    return f"can't raise ambient capability {name}: it is not permitted and inheritable"


def apply(p: "Program", identity: "Identity", *, keep: int = 0) -> Capabilities:
    """Become the container's user, in the working directory. `keep`: capabilities that stay permitted."""
    later = p.cell()
    _enter_directory(p, identity.cwd, later)
    if identity.no_new_privileges:
        p.call("prctl", process.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    sets = Capabilities(p, identity)
    sets.warn(p, identity)
    sets.drop_bounding(p, identity.last)
    p.call("prctl", process.PR_SET_KEEPCAPS, 1, 0, 0, 0)
    _become_user(p, identity)
    p.call("prctl", process.PR_SET_KEEPCAPS, 0, 0, 0, 0)
    sets.set(p, keep=keep)
    sets.set_ambient(p)
    p.call("umask", identity.umask)
    done = Label()
    p.when("if_equal", later, 0, done)
    _enter_directory(p, identity.cwd, None)
    p.place(done)
    return sets


def _become_user(p: "Program", identity: "Identity") -> None:
    uid, gid = identity.uid, identity.gid

    def failed(error: "SystemCall") -> "CtkError":
        hint = ""
        if error.errno == errno.EINVAL:
            hint = "the id is not mapped in the container's user namespace: see linux.uidMappings and gidMappings"
        return LaunchFailed(f"become user {uid}:{gid}", because=error.because, hint=hint)

    p.owned_by(failed)
    if not identity.keeps_groups:
        after = Label()
        groups = p.data(b"".join([group.to_bytes(4, "little") for group in identity.groups]))
        # A user namespace made without privilege has setgroups(2) denied; then there are none to set.
        exits = () if identity.groups else ((errno.EPERM, after),)
        p.call("setgroups", len(identity.groups), groups, on=exits)
        p.place(after)
    p.call("setresgid", gid, gid, gid)
    if uid:
        _own_stdio(p, uid, gid)
    p.call("setresuid", uid, uid, uid)
    p.owned_by(None)


def _own_stdio(p: "Program", uid: int, gid: int) -> None:
    """Make the process's user the owner of its standard streams, except for /dev/null (as runc does)."""
    mode_at, uid_at, rdev_at = structures.stat(p.machine)
    status = p.room(structures.STAT_SIZE)
    base = status - MEMORY
    null, kind = p.cell(), p.cell()
    known = Label()
    p.own("set", -1, result=null)
    p.call("newfstatat", _AT_FDCWD, "/dev/null", status, 0, on=((0, known),))
    p.own("set", Cell(base + rdev_at), result=null)
    p.place(known)
    for fd in (0, 1, 2):
        # On an error it is closed, on a read-only file system, or not ours: the process can do without.
        after, whole = Label(), Label()
        p.call("newfstatat", fd, "", status, _AT_EMPTY_PATH, on=((0, after),))
        p.own("and", Cell(base + uid_at, 4), _LOW, result=kind)
        p.when("if_equal", kind, uid, after)
        p.when("if_equal", Cell(base + rdev_at), null, after)
        p.own("and", Cell(base + mode_at, 4), _S_IFMT, result=kind)
        p.when("if_equal", kind, _S_IFREG, whole)
        p.when("if_equal", kind, _S_IFIFO, whole)
        p.call("fchown", fd, uid, -1, on=((0, after),))
        p.go(after)
        p.place(whole)
        p.call("fchown", fd, uid, gid, on=((0, after),))
        p.place(after)


def _enter_directory(p: "Program", cwd: str, later: "Cell | None") -> None:
    """Go to the working directory, which must be below the root.

    With `later`, a refusal is no failure, and sets it: we try first before we become the container's user, who may not
    be allowed to (as runc does); on a FUSE or NFS mount root may not be, and the user may.
    """

    def failed(error: "SystemCall") -> "CtkError":
        return LaunchFailed(
            f"chdir to cwd ({cwd!r}) set in config.json failed",
            because="it is outside the container's root" if error.errno == _OUTSIDE else error.because,
            hint="process.cwd must be a directory inside the root that the container's user may enter",
        )

    p.owned_by(failed)
    refused, after, outside = Label(), Label(), Label()
    exits = ((errno.EACCES, refused), (errno.EPERM, refused)) if later is not None else ()
    p.call("chdir", cwd, on=exits)
    # A directory of the host that was reached by a leaked descriptor is outside the root: getcwd(2) shows it as
    # "(unreachable)" (CVE-2024-21626), and a removed one not at all.
    path, walk = p.room(_PATH_MAX), Label()
    p.call("getcwd", path, _PATH_MAX, on=((errno.ENOENT, outside), (0, walk)))
    p.when("if_equal", Cell(path - MEMORY, 1), ord("/"), after)
    p.place(outside)
    p.fail(_OUTSIDE)
    p.place(walk)
    _walk_up(p, exits, outside, after)
    p.place(refused)
    if later is not None:
        p.own("set", 1, result=later)
    p.place(after)
    p.owned_by(None)


def _walk_up(p: "Program", exits: "tuple[tuple[int, Label], ...]", outside: Label, after: Label) -> None:
    """For a seccomp filter that refuses getcwd(2): follow `..` upwards, which ends at our root if we are below it."""
    root, here, above = (p.room(structures.STAT_SIZE) for _ in range(3))
    fd, up, same = p.cell(), p.cell(), p.cell()
    flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
    p.call("newfstatat", _AT_FDCWD, "/", root, 0, on=exits)
    p.call("openat", _AT_FDCWD, ".", flags, 0, result=fd, on=exits)
    step = p.placed()
    p.call("newfstatat", fd, "", here, _AT_EMPTY_PATH, on=exits)
    p.own("same", here, root, 16, result=same)  # st_dev and st_ino
    p.when("if_equal", same, 1, arrived := Label())
    p.call("openat", fd, "..", flags, 0, result=up, on=exits)
    p.call("close", fd)
    p.own("set", up, result=fd)
    p.call("newfstatat", fd, "", above, _AT_EMPTY_PATH, on=exits)
    p.own("same", here, above, 16, result=same)
    p.when("if_equal", same, 1, outside)
    p.go(step)
    p.place(arrived)
    p.call("close", fd)
    p.go(after)
