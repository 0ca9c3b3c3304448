"""Where the program of a launch finds what its steps work on."""

import os

from toolkit.kernel import mounts
from toolkit.kernel.program import structures
from toolkit.kernel.program.program import MEMORY, Cell, Label
from toolkit.kernel.program.routine import Routine
from toolkit.runtime.directories import Directories

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.kernel.program.program import Program
    from toolkit.runtime.cgroups import Manager
    from toolkit.runtime.container_hooks import Streams

DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
ONTO = mounts.MOVE_MOUNT_F_EMPTY_PATH | mounts.MOVE_MOUNT_T_EMPTY_PATH
CLONE = mounts.OPEN_TREE_CLONE | mounts.OPEN_TREE_CLOEXEC


class Words:
    """A string that a program puts together in memory, of text and numbers; at most `size` bytes."""

    __slots__ = ("_at", "address", "p")

    def __init__(self, p: "Program", size: int) -> None:
        self.p = p
        self.address = p.room(size + 24)
        self._at = p.cell()
        p.own("set", self.address, result=self._at)

    def add(self, text: str, number: "Cell | None" = None) -> None:
        """Append text, and the number in a cell, in decimal."""
        p, raw = self.p, os.fsencode(text)
        p.own("copy", self._at, p.text(text), len(raw))
        p.own("add", self._at, len(raw), result=self._at)
        if number is not None:
            length = p.cell()
            p.own("digits", number, self._at, 10, result=length)
            p.own("add", self._at, length, result=self._at)


class Site:
    """One program's; a step's `emit` gets it."""

    __slots__ = (
        "cgroup", "copier", "directories", "ends", "fstatus", "hook_streams", "host_views", "hosts_dev", "in_chroot",
        "inside", "kind", "locked", "nodes", "opener", "p", "path", "pipes", "root", "sources", "status", "userns",
        "within_proc",
    )  # fmt: skip

    def __init__(self, p: "Program", path: str, pipes: "tuple[int, int]", cgroup: "Manager") -> None:
        self.p = p
        self.path = path  # host path of the root
        self.pipes = pipes  # what the program reads from, and what it writes to
        self.cgroup = cgroup
        self.userns = False  # the process is in a user namespace of the container's
        self.locked = False  # mounts may have flags that we may not clear (mount_namespaces(7))
        self.nodes = -1  # a detached mount with the nodes that a user namespace may not make (devices.py)
        self.sources: "dict[int, int]" = {}  # index in `mounts`: a detached mount that the parent opened
        self.ends: "list[int]" = []  # of that socket
        self.copier = -1  # socket to who fills new file systems (copy_up.py)
        self.opener = -1  # socket to who opens sources that the container's root may not reach (opener_program.py)
        self.root = p.cell()  # descriptor of the root, O_PATH
        self.in_chroot = p.cell()  # 1 if our `/` is not the root of the mount namespace
        self.hosts_dev = p.cell()  # 1 if the root shows the host's own /dev
        self.directories = Directories(p, self.root)
        self.hook_streams: "Streams | None" = None  # of createContainer hooks
        self.host_views: "list[str]" = []  # to hide, if the root is moved to `/` (new_root.py)
        self.status = p.room(structures.STAT_SIZE)  # for struct stat
        self.fstatus = p.room(128)  # for struct statfs; its first 8 bytes are the type
        self.kind = p.cell()  # S_IFMT of `stat`
        self.inside = p.cell()  # see within_proc
        self.within_proc = Routine(p, 0, self._within_proc)

    def reopen(self) -> None:
        """Open the root again, after something was mounted over it."""
        fd = self.p.cell()
        self.p.call("openat", mounts.AT_FDCWD, self.path, DIRECTORY, 0, result=fd)
        self.p.call("close", self.root)
        self.p.own("set", fd, result=self.root)

    def stat(self, fd: Cell) -> None:
        """fstat(2) of `fd` into `status`, and its S_IFMT into `kind`."""
        p = self.p
        mode_at, _, _ = structures.stat(p.machine)
        p.call("newfstatat", fd, "", self.status, mounts.AT_EMPTY_PATH)
        p.own("and", Cell(self.status - MEMORY + mode_at, 4), 0o170000, result=self.kind)

    @property
    def device(self) -> Cell:
        """st_rdev in `status`."""
        return Cell(self.status - MEMORY + structures.stat(self.p.machine)[2])

    @property
    def mode(self) -> Cell:
        """st_mode in `status`."""
        return Cell(self.status - MEMORY + structures.stat(self.p.machine)[0], 4)

    @property
    def owner(self) -> "tuple[Cell, Cell]":
        """st_uid and st_gid in `status`."""
        at = self.status - MEMORY + structures.stat(self.p.machine)[1]
        return Cell(at, 4), Cell(at + 4, 4)

    def _within_proc(self) -> None:
        """Whether the descriptor in `inside` is the root's /proc (it becomes 1), inside of that (its path), or not (0).

        By its path, which cannot lie: it is the kernel's, by the host's procfs.
        """
        p = self.p
        name, path, root = p.room(40), p.room(4200), p.room(4200)
        size, above, at, same = p.cell(), p.cell(), p.cell(), p.cell()
        prefix = "/proc/self/fd/"
        p.own("copy", name, p.text(prefix), len(prefix))
        for fd, text, result in ((self.root, root, above), (self.inside, path, size)):
            p.own("digits", fd, name + len(prefix), 10, result=at)
            p.own("add", at, name + len(prefix), result=at)
            p.own("copy", at, p.text(""), 1)
            p.call("readlinkat", mounts.AT_FDCWD, name, text, 4096, result=result)
        p.own("set", 0, result=self.inside)
        out, after = Label(), Label()
        p.when("if_less", 1, above, after)
        p.own("set", 0, result=above)  # the root is `/`
        p.place(after)
        p.own("add", path, size, result=at)
        p.own("copy", at, p.text(""), 1)
        p.own("add", path, above, result=at)
        p.own("same", at, p.text("/proc"), 5, result=same)
        p.when("if_equal", same, 0, out)
        below = p.cell()
        p.own("add", at, 5, result=below)
        p.own("same", below, p.text(""), 1, result=self.inside)
        p.when("if_equal", self.inside, 1, out)
        p.own("same", below, p.text("/"), 1, result=same)
        p.when("if_equal", same, 0, out)
        p.own("set", at, result=self.inside)
        p.place(out)
        self.within_proc.back()
