"""Read and write the files of a cgroup, and walk the tree below it: what v1 and v2 have in common."""

import errno
import os
import time

from toolkit.errors import CtkError, HostLacks, InUse, Invalid, NotFound, SystemCall
from toolkit.runtime.cgroups import layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import NoReturn

    from toolkit.kernel.program.program import Program
    from toolkit.runtime.cgroups.limits import Write

DIRECTORY_MODE = 0o755
_REFUSALS = (errno.EPERM, errno.EACCES, errno.EROFS)


def failed(call: str, error: OSError, *, hint: str = "") -> "NoReturn":
    """Raise the SystemCall for a failed call on a cgroup file."""
    number = error.errno or 0
    raise SystemCall(call, number, os.strerror(number).lower(), hint=hint) from None


def is_refusal(error: "BaseException | None") -> bool:
    """Whether the error means that we may not change it (as for a rootless caller), not that the value is wrong."""
    return getattr(error, "errno", 0) in _REFUSALS


def put(path: str, value: str) -> None:
    """Write `value` to a cgroup file with one write(2). Raises SystemCall."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, value.encode("utf-8", "replace"))
        finally:
            os.close(fd)
    except OSError as error:
        failed(f'write("{path}", "{value}")', error)


def put_all(path: str, values: "Iterable[str]") -> None:
    """Write each value with a write(2) of its own, the file opened once. Raises SystemCall."""
    value = ""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            for value in values:
                os.write(fd, value.encode("utf-8", "replace"))
        finally:
            os.close(fd)
    except OSError as error:
        failed(f'write("{path}", "{value}")', error)


def get(path: str) -> str:
    """The text of a cgroup file. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.read(fd, 65536)
        # The kernel returns a list in parts of less than a page, however large the buffer (fs/seq_file.c).
        while len(data) > 1024 and (more := os.read(fd, 65536)):
            data += more
    finally:
        os.close(fd)
    # It may contain names of cgroups and of processes (comm), which programs in the container choose.
    return data.decode("utf-8", "surrogateescape")


def make_directory(path: str, made: "list[str]") -> bool:
    """mkdir(2) with missing parents; new directories are appended to `made`, outermost first.

    False if it existed. Raises OSError.
    """
    try:
        os.mkdir(path, DIRECTORY_MODE)
    except FileExistsError:
        return False
    except FileNotFoundError:
        parent = path.rpartition("/")[0]
        if not parent:
            raise
        make_directory(parent, made)
        return make_directory(path, made)
    made.append(path)
    return True


class Entry:
    """A container's cgroups, opened, for a process that joins them by itself; close-on-exec.

    `fd` is for its clone (CLONE_INTO_CGROUP), -1 if there is no v2 cgroup; `enter` is its first action. A thread that
    moves itself alone (0 into `tasks`, not into `cgroup.procs`) is spared the lock that the forks of the whole machine
    wait for, and which is only had after a grace period on all CPUs (docs/quirks.md, 27).
    """

    __slots__ = ("_tasks", "fd")

    def __init__(self, unified: str, others: "Sequence[str]") -> None:
        """`unified` is the v2 cgroup, "" without one; `others` those of v1. Raises OSError."""
        self.fd = -1
        self._tasks: list[tuple[str, int]] = []
        try:
            if unified:
                self.fd = os.open(unified, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            for path in others:
                self._tasks.append((path, os.open(path + "/tasks", os.O_WRONLY | os.O_CLOEXEC)))
        except BaseException:
            self.close()
            raise

    def enter(self) -> None:
        """Join the cgroups of v1, in a process with one thread, which its clone put into v2's. Raises SystemCall."""
        for path, fd in self._tasks:
            try:
                os.write(fd, b"0")
            except OSError as error:
                failed(f'write(open("{path}/tasks"), "0")', error, hint=_hint_for(path, error))
        self.close()

    def emit(self, p: "Program") -> None:
        """The same in a program, before the clone that joins v2's: its child is where it is."""
        for path, fd in self._tasks:

            def refused(error: SystemCall, path: str = path) -> SystemCall:
                call = f'write(open("{path}/tasks"), "0")'
                return SystemCall(call, error.errno, error.because, hint=_hint_for(path, error))

            p.owned_by(refused)
            p.call("write", fd, "0", 1)
            p.call("close", fd)
        p.owned_by(None)

    def descriptors(self) -> "list[int]":
        """What a program needs of them."""
        return [fd for fd in (self.fd, *(fd for _, fd in self._tasks)) if fd >= 0]

    def close(self) -> None:
        """Close the descriptors."""
        for fd in (self.fd, *(fd for _, fd in self._tasks)):
            if fd >= 0:
                os.close(fd)
        self.fd, self._tasks = -1, []


def _hint_for(path: str, error: "OSError | SystemCall") -> str:
    if error.errno != errno.ENOSPC:
        return ""
    return f"write CPUs and nodes to {path}/cpuset.cpus and cpuset.mems first: an empty cpuset takes none"


def join(path: str, pid: int) -> None:
    """Put the process into the cgroup. Raises SystemCall."""
    for attempt in range(5):
        try:
            put(path + "/cgroup.procs", str(pid))
            return
        except SystemCall as error:
            # EINVAL: the task is still TASK_NEW, between its creation and its first wake-up (kernel/cgroup/cgroup.c).
            if hint := _hint_for(path, error):
                raise SystemCall(error.call, error.errno, error.because, hint=hint) from None
            if error.errno != errno.EINVAL or attempt == 4:
                raise
        time.sleep(0.01)


def join_by_exec(path: str, pid: int) -> None:
    """`join`, with runc's error message. Raises CtkError."""
    try:
        join(path, pid)
    except SystemCall as error:
        raise CtkError(f"error adding pid {pid} to cgroups", because=str(error), hint=error.hint) from error


def refuse_frozen(path: str, name: str, frozen: str, thawed: str, pid: int) -> None:
    """Raise CtkError if the cgroup's file `name` has a line that begins with `frozen`: who joins it never gets to run.

    `thawed` is the write that thaws it, as FILE and value. A container may freeze cgroups that it has made itself.
    """
    try:
        lines = get(f"{path}/{name}").splitlines()
    except OSError:
        return  # it is gone, as the join will tell
    if any(line.startswith(frozen) for line in lines):
        file, _, value = thawed.partition(" ")
        raise CtkError(
            f"error adding pid {pid} to cgroups",
            because=f"{path!r} is frozen",
            hint=f"thaw it: echo {value} > {path}/{file}",
        )


def below(path: str, sub: str, pid: int) -> str:
    """The cgroup that `exec --cgroup SUB` names, at or below `path`. Raises CtkError, NotFound, in runc's words."""
    if not sub:
        return path
    try:
        whole = (path + "/" + layout.clean(sub).strip("/")).rstrip("/")
    except Invalid:
        raise CtkError(
            f"error adding pid {pid} to cgroups",
            because=f"bad sub cgroup path: {sub!r}: `..` components are not allowed",
            hint="--cgroup names the container's own cgroup or one below it",
        ) from None
    if not os.path.isdir(whole):
        raise NotFound(f"error adding pid {pid} to cgroups", because=f'open("{whole}"): no such file or directory')
    return whole


def pids(path: str, *, recursive: bool = True) -> "list[int]":
    """The processes in the cgroup, and in those below it; [] if it is gone."""
    found: list[int] = []
    for folder in tree(path) if recursive else [path]:
        try:
            text = get(folder + "/cgroup.procs")
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENODEV):
                continue
            if error.errno != errno.EOPNOTSUPP:
                failed(f'read("{folder}/cgroup.procs")', error)
            # A threaded cgroup (cgroups(7)): only the domain above it lists its processes.
            text = ""
        found.extend(map(int, text.split()))
    return found


_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LONG_BYTES = 3500
"""A name of this length, followed by that of a file, stays below PATH_MAX, 4096."""


def tree(path: str, *, inner_first: bool = False) -> "Iterator[str]":
    """The cgroup and all below it, each by a name that is valid until the next is asked for; nothing if it is gone.

    A container that may make cgroups can nest them deeper than PATH_MAX: such a name leads through a descriptor, of
    which only one is open at a time, whatever the depth. Raises SystemCall.
    """
    found = _subfolders(path, None)
    if found is None:
        return
    here, waiting = found[0], [found[1]]  # for each folder that we are in: its subfolders that are still to be visited
    words, length = [path], len(os.fsencode(path))
    try:
        if not inner_first:
            yield path
        while waiting:
            if waiting[-1]:
                word = waiting[-1].pop()
                words.append(word)
                length += 1 + len(os.fsencode(word))
                if not inner_first:
                    yield "/".join(words) if length < _LONG_BYTES else f"/proc/self/fd/{here}/{word}"
                found = _subfolders(word, here)
                if found is not None:
                    os.close(here)
                    here = found[0]
                    waiting.append(found[1])
                    continue
            else:
                waiting.pop()
                word = words[-1]
                if waiting:
                    above = os.open("..", _FOLDER, dir_fd=here)
                    os.close(here)
                    here = above
                if inner_first:
                    yield "/".join(words) if length < _LONG_BYTES else f"/proc/self/fd/{here}/{word}"
            words.pop()
            length -= 1 + len(os.fsencode(word))
    finally:
        os.close(here)


def _subfolders(name: str, above: "int | None") -> "tuple[int, list[str]] | None":
    """(descriptor, names of its direct children) of a cgroup; None if it is gone. Raises SystemCall."""
    try:
        fd = os.open(name, _FOLDER, dir_fd=above)
        try:
            with os.scandir(fd) as entries:
                return fd, [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        except BaseException:
            os.close(fd)
            raise
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENODEV):
            failed(f'open("{name}", O_DIRECTORY)', error)
    return None


def check_unused(path: str) -> None:
    """Raise InUse if an existing cgroup has processes: a kill of ours would hit them (as in runc 1.2 and later)."""
    found = pids(path)
    if found:
        raise InUse(
            f"make cgroup {path!r}",
            because=f"container's cgroup is not empty: {len(found)} process(es) found: " + names(found),
            hint="give the container a linux.cgroupsPath of its own",
        )


def names(processes: "Iterable[int]", limit: int = 5) -> str:
    """'12 (sleep), 13 (sh)' for a message."""
    words: list[str] = []
    for pid in processes:
        if len(words) == limit:
            words.append("…")
            break
        try:
            words.append(f"{pid} ({get(f'/proc/{pid}/comm').strip()})")
        except OSError:
            words.append(str(pid))
    return ", ".join(words)


def remove(path: str) -> None:
    """rmdir(2) the cgroup and those below it; no error if it is gone. Raises CtkError that names those that are left.

    A process that was just killed keeps its cgroup busy until the kernel has cleaned it up, so this is retried for
    about two seconds in all.
    """
    delay = 0.001
    while True:
        try:
            os.rmdir(path)
            return
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno == errno.EROFS and not os.path.isdir(path):
                return
            if error.errno not in (errno.EBUSY, errno.EINTR):
                failed(f'rmdir("{path}")', error)
        for folder in tree(path, inner_first=True):
            try:
                os.rmdir(folder)
            except OSError:
                pass  # reported below, if the outer one can't be removed because of it
        if delay > 1:
            break
        time.sleep(delay)
        delay *= 2
    stays = [folder for folder in tree(path) if pids(folder, recursive=False)] or [path]
    holders = pids(path)
    raise CtkError(
        "remove cgroup " + ", ".join(repr(folder) for folder in stays),
        because="device or resource busy" + (": it has processes " + names(holders) if holders else ""),
        hint="end them, then try again" if holders else "",
    )


def remove_all(paths: "Iterable[str]") -> None:
    """`remove` each; all are tried. Raises CtkError that names each one that is left."""
    problems = []
    for path in paths:
        try:
            os.rmdir(path)
        except OSError:
            try:
                remove(path)
            except CtkError as error:
                problems.append(error)
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise CtkError("remove cgroups", because="; ".join(map(str, problems)), hint=problems[0].hint)


def undo(made: "list[str]") -> None:
    """Remove the directories that a failed `create` made, innermost first."""
    for path in reversed(made):
        try:
            os.rmdir(path)
        except OSError:
            pass  # another process uses it by now


def carry_out(plan: "list[Write]", folder: "Callable[[str], str]") -> None:
    """Write a plan of limits. `folder(controller)` is its cgroup, '' if there is none. Raises CtkError."""
    again: list[tuple[str, str, str]] = []
    for controller, name, value, otherwise in plan:
        path = folder(controller)
        if not path:
            if otherwise == "skip":
                continue
            raise HostLacks(
                f"cannot set {controller} limit",
                because="container could not join or create cgroup",
                hint=f"the {controller} controller is not mounted, or not delegated to this user",
            )
        try:
            put(f"{path}/{name}", value)
        except SystemCall as error:
            if otherwise == "skip" and error.errno in (errno.ENOENT, errno.EOPNOTSUPP):
                continue
            if otherwise == "later" and error.errno == errno.EINVAL:
                again.append((controller, name, value))
                continue
            explain(path, controller, name, value, error)
    for controller, name, value in again:
        path = folder(controller)
        try:
            put(f"{path}/{name}", value)
        except SystemCall as error:
            explain(path, controller, name, value, error)


def explain(path: str, controller: str, name: str, value: str, error: SystemCall) -> "NoReturn":
    """Raise an error that explains why the kernel refused a limit."""
    if error.errno == errno.EBUSY and name == "memory.limit_in_bytes":
        usage, peak = get(path + "/memory.usage_in_bytes").strip(), get(path + "/memory.max_usage_in_bytes").strip()
        raise Invalid(
            "linux.resources.memory.limit",
            f"unable to set memory limit to {value} (current usage: {usage}, peak usage: {peak})",
        ) from None
    hint = ""
    if error.errno in (errno.ENOENT, errno.EACCES, errno.EPERM):
        if not os.path.isdir(path):
            hint = f"the cgroup {path!r} is gone"
        else:
            hint = f"this kernel has no {name!r}, or the {controller} controller is not enabled for {path!r}"
    elif error.errno == errno.EINVAL:
        hint = f"the kernel does not accept {value!r} here, or a limit of a parent cgroup forbids it"
    raise SystemCall(error.call, error.errno, error.because, hint=hint) from None


def wait_until(true: "Callable[[], bool]", seconds: float) -> bool:
    """Poll until it is true, at growing intervals from 0.2 ms; False if it is not true after `seconds`."""
    end = time.monotonic() + seconds
    delay = 0.0002
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(delay)
        delay = min(delay * 2, 0.02)
    return True
