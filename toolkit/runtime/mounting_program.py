"""What `Mount` writes into a program: each destination is opened inside the root first, and then mounted on.

A new file system is mounted on `.`, after fchdir(2) to what was opened, a bind mount by move_mount(2) of descriptors.
"""

import errno
import os
import stat as st

from toolkit.errors import CtkError, LaunchFailed, SystemCall
from toolkit.kernel import beneath, mounts
from toolkit.kernel.program.program import MEMORY, Cell, Label
from toolkit.runtime import mount_options
from toolkit.runtime.site import CLONE, DIRECTORY, ONTO, Words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.kernel.program.program import Owner, Program
    from toolkit.runtime.mounting import FinishReadOnly, Mount
    from toolkit.runtime.site import Site

# Files of procfs that lxcfs and the like replace by their own. Any other mount on /proc could forge facts that the
# runtime or the container relies on (CVE-2019-16884, CVE-2019-19921).
PROC_ALLOWED = frozenset(
    "/proc/" + name
    for name in (
        "cpuinfo diskstats meminfo stat swaps uptime loadavg slabinfo sys/kernel/ns_last_pid sys/crypto/fips_enabled"
    ).split()
)
_BY_NAME = ("proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup", "cgroup2")  # no source is looked up by the kernel
# Failures of ours, beside the errnos.
_NOT_A_PROCFS, _IN_PROC, _NOT_ORDINARY, _LOCKED = 4096, 4097, 4098, 5000


def emit(step: "Mount", p: "Program", site: "Site") -> None:
    """Emit one entry of `mounts`."""
    p.owned_by(owner(step))
    if step.is_bind:
        _bind(step, p, site)
    else:
        _new(step, p, site)
    p.owned_by(None)


def owner(step: "Mount") -> "Owner":
    """Who says what a failure of its operations means."""
    return lambda error: _failed(step, error)


def _failed(step: "Mount", error: SystemCall) -> CtkError:
    if error.errno == _NOT_ORDINARY:
        because = "filesystem must be mounted on ordinary directory"
        return step.explained(f"mount {step.fstype} at {step.destination!r}: {because}", 0)
    if error.errno == _NOT_A_PROCFS:
        told = LaunchFailed(
            f"mount {step.source!r} at '/proc'", because="it is not a procfs", hint='mount one with "type": "proc"'
        )
        return step.explained(str(told), 0)
    if error.errno >= _LOCKED:
        name = step.options.kept_if_locked()[error.errno - _LOCKED][2]
        words = f"cannot clear locked flags: {name}: {os.strerror(errno.EPERM).lower()}"
        return step.explained(words, errno.EPERM)
    if error.errno == _IN_PROC:
        told = LaunchFailed(
            f"mount {step.source!r} at {os.path.normpath(step.destination)!r}",
            because="a mount inside /proc could forge what the kernel reports",
            hint="allowed: " + ", ".join(sorted(PROC_ALLOWED)),
        )
        return step.explained(str(told), 0)
    return step.explained(str(error), error.errno)


def _new(step: "Mount", p: "Program", site: "Site") -> None:
    data = ",".join(step.options.data)
    text: "int | Cell | str" = data or 0
    fd, copies = p.cell(), "tmpcopyup" in step.options.extensions
    if step.fstype in ("proc", "sysfs"):
        _plain_directory(step, p, site, fd)
    else:
        mode = (step.fstype == "tmpfs" or copies) and "mode=" not in data
        made = Label() if mode else None
        _target(step, p, site, fd, made)
        if mode:
            text = _mode_of(p, site, fd, "" if copies else data, made)
        _refuse_proc(step, p, site, fd, None)
    if copies:
        from toolkit.runtime import copy_up

        tree = p.cell()
        copy_up.emit(p, site, data, text if isinstance(text, Cell) else None, tree, fd)
        set_attributes(p, tree, *step.options.attributes())
        p.call("move_mount", tree, "", fd, "", ONTO)
        p.call("close", tree)
        p.call("close", fd)
    else:
        _mount(step, p, site, fd, text)
    if step.destination.strip("/") in ("", "."):
        site.reopen()
    options = step.options
    if options.propagation or options.recursive_set or options.recursive_cleared:
        beneath.emit_open(p, site.root, step.destination, os.O_PATH, fd)
        _finish(step, p, fd, 0)
        p.call("close", fd)


def _mount(step: "Mount", p: "Program", site: "Site", fd: Cell, text: "int | Cell | str") -> None:
    """mount(2) on what `fd` is open on, and close it."""
    flags = step.options.flags & ~mounts.MS_RDONLY if step.read_only_at_the_end else step.options.flags
    here = "." if step.fstype in _BY_NAME else _path_of(p, fd)
    if here == ".":
        p.call("fchdir", fd)
    done, busy = Label(), Label()
    on = ((errno.EBUSY, busy),) if step.fstype in ("mqueue", "proc", "sysfs") else ()
    if site.userns and step.fstype == "sysfs":
        _hosts_sysfs(step, p, fd, hosts := Label(), done)
        on = (*on, (errno.EPERM, hosts))
    p.call("mount", step.source, here, step.fstype or 0, flags, text, on=on)
    p.place(done)
    p.call("close", fd)
    if on:
        p.aside(lambda: _mount_detached(step, p, fd, busy, done))


def _mode_of(p: "Program", site: "Site", fd: Cell, data: str, made: "Label | None") -> Cell:
    """A folder that a tmpfs is mounted over keeps its mode, as with runc: a /tmp stays 1777.

    One that was `made` for it gets tmpfs's default, 1777. Returns the cell with the address of the mount's data.
    """
    assert made is not None
    prefix = f"{data},mode=" if data else "mode="
    size = len(os.fsencode(prefix))
    room, mode, text, after = p.room(size + 24), p.cell(), p.cell(), Label()
    site.stat(fd)
    p.own("and", site.mode, 0o7777, result=mode)
    p.own("copy", room, p.text(prefix), size)
    p.own("digits", mode, room + size, 8)
    p.own("set", room, result=text)
    p.place(after)

    def plain() -> None:
        p.place(made)
        p.own("set", p.text(data) if data else 0, result=text)
        p.go(after)

    p.aside(plain)
    return text


def _path_of(p: "Program", fd: Cell) -> int:
    """The address of the path by which mount(2) reaches what `fd` is open on."""
    words = Words(p, 16)
    words.add("/proc/self/fd/", fd)
    return words.address


def _mount_detached(step: "Mount", p: "Program", fd: Cell, busy: Label, done: Label) -> None:
    """Two mounts of one mqueue (or proc, sysfs) at the same place: only mount(2) refuses that."""
    fs, tree = p.cell(), p.cell()
    p.place(busy)
    p.call("fsopen", step.fstype, mounts.FSOPEN_CLOEXEC, result=fs)
    for key, value in mount_options.settings(",".join(step.options.data)).items():
        p.call("fsconfig", fs, mounts.FSCONFIG_SET_STRING, key, value, 0)
    p.call("fsconfig", fs, mounts.FSCONFIG_CMD_CREATE, 0, 0, 0)
    p.call("fsmount", fs, mounts.FSMOUNT_CLOEXEC, 0, result=tree)
    p.call("close", fs)
    set_attributes(p, tree, *step.options.attributes())
    p.call("move_mount", tree, "", fd, "", ONTO)
    p.call("close", tree)
    p.go(done)


def _hosts_sysfs(step: "Mount", p: "Program", fd: Cell, hosts: Label, done: Label) -> None:
    """Bind the host's sysfs, as crun does.

    A new one shows the devices of a network namespace, which the user namespace must own (kernel,
    sysfs_init_fs_context). The host's sysfs has the same contents.
    """

    def bind() -> None:
        tree, fs, shield, place = (p.cell() for _ in range(4))
        set_, _ = step.options.attributes()  # locked flags stay (mount_namespaces(7))
        p.place(hosts)
        p.call("open_tree", mounts.AT_FDCWD, "/sys", CLONE | mounts.AT_RECURSIVE, result=tree)
        set_attributes(p, tree, set_, 0, mounts.AT_RECURSIVE)
        p.call("move_mount", tree, "", fd, "", ONTO)
        # The container must not see the host's cgroups.
        p.call("fsopen", "tmpfs", mounts.FSOPEN_CLOEXEC, result=fs)
        p.call("fsconfig", fs, mounts.FSCONFIG_SET_STRING, "mode", "755", 0)
        p.call("fsconfig", fs, mounts.FSCONFIG_CMD_CREATE, 0, 0, 0)
        p.call("fsmount", fs, mounts.FSMOUNT_CLOEXEC, set_ or mounts.MOUNT_ATTR_RDONLY, result=shield)
        p.call("close", fs)
        p.call("openat", tree, "fs/cgroup", DIRECTORY, 0, result=place)
        p.call("move_mount", shield, "", place, "", ONTO)
        for each in (shield, place, tree):
            p.call("close", each)
        p.go(done)

    p.aside(bind)


def set_attributes(p: "Program", tree: Cell, set_: int, clear: int, flags: int = 0) -> None:
    """mount_setattr(2) of a mount, if there is something to set or to clear."""
    if set_ or clear:
        p.call("mount_setattr", tree, "", mounts.AT_EMPTY_PATH | flags, p.words(set_, clear, 0, 0), 32)


def _plain_directory(step: "Mount", p: "Program", site: "Site", fd: Cell) -> None:
    """Open the destination of /proc or /sys, which must be a directory of the root and not a symlink."""
    missing, wrong, again = Label(), Label(), p.placed()
    beneath.emit_open(
        p,
        site.root,
        step.destination,
        DIRECTORY | os.O_NOFOLLOW,
        fd,
        on=((errno.ENOENT, missing), (errno.ELOOP, wrong), (errno.ENOTDIR, wrong)),
        resolve=beneath.RESOLVE_IN_ROOT | beneath.RESOLVE_NO_SYMLINKS,
    )

    def make() -> None:
        p.place(missing)
        site.directories.make(step.destination, fd)
        p.call("close", fd)
        p.go(again)
        p.place(wrong)
        p.fail(_NOT_ORDINARY)

    p.aside(make)


def _target(
    step: "Mount", p: "Program", site: "Site", fd: Cell, made: "Label | None" = None, *, file: bool = False
) -> None:
    if "dest-nofollow" in step.options.extensions:
        flags = os.O_PATH | os.O_NOFOLLOW
        beneath.emit_open(p, site.root, step.destination, flags, fd, resolve=beneath.RESOLVE_IN_ROOT)
    elif file:
        site.directories.make_file(step.destination, fd)
    else:
        site.directories.make(step.destination, fd, made=made)


def _refuse_proc(step: "Mount", p: "Program", site: "Site", fd: Cell, tree: "Cell | None") -> None:
    """Refuse a mount on /proc that is not a procfs, and one below it except on files that are known to be harmless.

    `tree` is the bind mount's source, None for a new file system.
    """
    look, fine = Label(), Label()
    wanted = os.path.normpath(step.destination)
    if wanted == "/proc" or wanted.startswith("/proc/"):
        p.go(look)
    else:
        # Through a link of the image: then it is inside of a procfs, if one is mounted there already.
        p.call("fstatfs", fd, site.fstatus)
        p.when("if_equal", Cell(site.fstatus - MEMORY), mounts.PROC_SUPER_MAGIC, look)
    p.place(fine)

    def check() -> None:
        on_it, back, same = Label(), Label(), p.cell()
        p.place(look)
        p.own("set", fd, result=site.inside)
        site.within_proc.call(then=back)
        p.place(back)
        p.when("if_equal", site.inside, 0, fine)
        p.when("if_equal", site.inside, 1, on_it)
        if wanted in PROC_ALLOWED:
            p.own("same", site.inside, p.text(wanted), len(wanted) + 1, result=same)
            p.when("if_equal", same, 1, fine)
        p.fail(_IN_PROC)
        p.place(on_it)
        if tree is not None:
            p.call("fstatfs", tree, site.fstatus)
            p.when("if_equal", Cell(site.fstatus - MEMORY), mounts.PROC_SUPER_MAGIC, fine)
        p.fail(_NOT_A_PROCFS)

    p.aside(check)


def _bind(step: "Mount", p: "Program", site: "Site") -> None:
    options = step.options
    tree, fd, copied = p.cell(), p.cell(), Label()
    if "copy-symlink" in options.extensions:
        _copy_symlink(step, p, site, copied)
    flags = CLONE
    if options.flags & mounts.MS_REC:
        flags |= mounts.AT_RECURSIVE
    if "src-nofollow" in options.extensions:
        flags |= mounts.AT_SYMLINK_NOFOLLOW
    _open_source(step, p, site, tree, flags)
    _set_flags(step, p, site, tree)
    folder, file, there = Label(), Label(), Label()
    site.stat(tree)
    # What the source was when the program was written comes first; the other is put aside.
    first_is_folder = os.path.isdir(step.source)
    p.when("if_equal", site.kind, st.S_IFDIR, folder)
    if first_is_folder:
        p.go(file)
        p.place(folder)
        _target(step, p, site, fd)
    else:
        p.place(file)
        _file_target(step, p, site, fd)
    p.place(there)

    def other() -> None:
        if first_is_folder:
            p.place(file)
            _file_target(step, p, site, fd)
        else:
            p.place(folder)
            _target(step, p, site, fd)
        p.go(there)

    p.aside(other)
    _refuse_proc(step, p, site, fd, tree)
    p.call("move_mount", tree, "", fd, "", ONTO)
    p.call("close", fd)
    _finish(step, p, tree, mounts.MS_PRIVATE | mounts.MS_REC)
    p.call("close", tree)
    if step.destination.strip("/") in ("", "."):
        site.reopen()
    p.place(copied)


def _copy_symlink(step: "Mount", p: "Program", site: "Site", copied: Label) -> None:
    """copy-symlink (crun's): a source that is a symbolic link is copied into the root instead of being followed."""
    target, there, size, again, same, folder_fd = (p.room(4104), p.room(4104), *(p.cell() for _ in range(4)))
    is_none, exists, differs = Label(), Label(), Label()
    on = ((0, is_none),)
    p.call("readlinkat", mounts.AT_FDCWD, step.source, target, 4096, result=size, on=on)
    folder, _, name = step.destination.rstrip("/").rpartition("/")
    site.directories.make(folder or "/", folder_fd)
    p.call("symlinkat", target, folder_fd, name, on=((errno.EEXIST, exists),))
    p.call("close", folder_fd)
    p.go(copied)
    p.place(is_none)

    def compare() -> None:
        p.place(exists)
        p.call("readlinkat", folder_fd, name, there, 4096, result=again)
        p.when("if_equal", size, again, alike := Label())
        p.place(differs)
        p.fail(errno.EEXIST)
        p.place(alike)
        p.own("same", target, there, size, result=same)
        p.when("if_equal", same, 0, differs)
        p.call("close", folder_fd)
        p.go(copied)

    p.aside(compare)


def _open_source(step: "Mount", p: "Program", site: "Site", tree: Cell, flags: int) -> None:
    """A detached copy of the mount to bind, with its id mapping."""
    if step.index in site.sources:
        p.own("set", site.sources[step.index], result=tree)
        return
    opened, ourselves = Label(), Label()
    if site.opener >= 0 or step.mapping is not None:
        from toolkit.runtime import opener_program
    if site.opener >= 0 and opener_program.opens(step, site.path):
        opener_program.ask(p, site.opener, step.index, tree, ourselves)
        p.go(opened)
        p.place(ourselves)
    p.call("open_tree", mounts.AT_FDCWD, step.source, flags, result=tree)
    if step.mapping is not None:
        opener_program.map_ids(p, tree, *step.mapping)
    p.place(opened)


def _set_flags(step: "Mount", p: "Program", site: "Site", tree: Cell) -> None:
    """Set the mount's flags by its options, those of a bind mount that the kernel has not locked."""
    set_, clear = step.options.of_a_bind()
    if not (set_ or clear):
        return
    refused, done = Label(), Label()
    on = ((errno.EPERM, refused),) if site.locked else ()
    p.call("mount_setattr", tree, "", mounts.AT_EMPTY_PATH, p.words(set_, clear, 0, 0), 32, on=on)
    p.place(done)
    if on:
        p.aside(lambda: _set_beside_locked(step, p, site, tree, refused, done))


def _set_beside_locked(step: "Mount", p: "Program", site: "Site", tree: Cell, refused: Label, done: Label) -> None:
    """mount_options.Options.beside_locked, with the flags that the source has: f_flags of struct statfs."""
    p.place(refused)
    p.call("fstatfs", tree, site.fstatus)
    there = Cell(site.fstatus - MEMORY + 80)
    bits = p.cell()
    for number, (needed, value, _) in enumerate(step.options.kept_if_locked()):
        p.own("and", there, needed, result=bits)
        p.when("if_equal", bits, value, fine := Label())
        if needed == os.ST_RDONLY:
            # If it is its file system that is read-only, and not the mount, `rw` may be set, without effect.
            wrong = Label()
            attributes = p.words(0, mounts.MOUNT_ATTR_RDONLY, 0, 0)
            p.call("mount_setattr", tree, "", mounts.AT_EMPTY_PATH, attributes, 32, on=((0, wrong),))
            p.call("fstatfs", tree, site.fstatus)
            p.when("if_any", there, os.ST_RDONLY, fine)
            p.place(wrong)
        p.fail(_LOCKED + number)
        p.place(fine)
    set_, clear, _ = step.options.beside_locked(0)
    set_attributes(p, tree, set_, clear)
    p.go(done)


def _file_target(step: "Mount", p: "Program", site: "Site", fd: Cell) -> None:
    _target(step, p, site, fd, file=True)
    # The error of mount(2); move_mount(2) fails with EINVAL. Docker adds a hint to these words.
    fine, folder = Label(), Label()
    site.stat(fd)
    p.when("if_equal", site.kind, st.S_IFDIR, folder)
    p.place(fine)

    def refuse() -> None:
        p.place(folder)
        p.fail(errno.ENOTDIR, f"mount {step.source} at {step.destination}")

    p.aside(refuse)


def _finish(step: "Mount", p: "Program", fd: Cell, default: int) -> None:
    """Propagation and recursive attributes, on the mount that `fd` is the root of."""
    options = step.options
    for flags in options.propagation or ([default] if default else []):
        recursive = mounts.AT_RECURSIVE if flags & mounts.MS_REC else 0
        attributes = p.words(0, 0, flags & ~mounts.MS_REC, 0)
        p.call("mount_setattr", fd, "", mounts.AT_EMPTY_PATH | recursive, attributes, 32)
    set_, clear = options.recursive_set, options.recursive_cleared
    if set_ & mounts.MOUNT_ATTR__ATIME or clear & mounts.MOUNT_ATTR__ATIME:
        clear |= mounts.MOUNT_ATTR__ATIME
    set_attributes(p, fd, set_, clear, mounts.AT_RECURSIVE)


def emit_read_only(step: "FinishReadOnly", p: "Program", site: "Site") -> None:
    """Emit what makes a tmpfs read-only once everything is in it."""
    fd = p.cell()
    beneath.emit_open(p, site.root, step.destination, os.O_PATH, fd)
    set_attributes(p, fd, mounts.MOUNT_ATTR_RDONLY, 0)
    p.call("close", fd)
