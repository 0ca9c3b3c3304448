"""`ctk cp`: copy files out of a container and into it, as a tar stream between two processes.

One side stays on the host; the other, a child, works in the container's root, and in its user namespace if it has one,
so that owners are the container's and files of its other users can be read. The container's root is reached through
/proc/PID/root, opened once; its paths are never resolved against our root.
"""

import os
import sys

from toolkit.errors import CtkError, NotFound, SystemCall, Usage, reason
from toolkit.runtime import lifecycle
from toolkit.runtime import record as records
from toolkit.runtime.comfort import tar_in, tar_out

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

    from toolkit.runtime.record import Record


def split(text: str) -> "tuple[str, str]":
    """(container id or "", path): "web:/etc" names one, "./a:b", "/a:b" and "-" do not. Pure."""
    name, colon, path = text.partition(":")
    if colon and name and "/" not in name and not name.startswith("."):
        return name, path or "/"
    return "", text


def copy(root: str, source: str, target: str, *, archive: bool, follow: bool, say: "Callable[[str], None]") -> None:
    """Copy `source` to `target`, one of which is ID:PATH; "-" means a tar on our standard streams. Raises CtkError."""
    from_id, from_path = split(source)
    to_id, to_path = split(target)
    if bool(from_id) == bool(to_id):
        because = "both are in a container" if from_id else "neither is in a container"
        raise Usage(f"copy {source!r} to {target!r}", because=because, hint="write one of them as ID:PATH")
    container = records.load(root, from_id or to_id)
    root_fd, user_namespace = _open_root(container)
    inside = tar_in.Place(root_fd)
    here = tar_in.Place()
    if from_id:
        _out_of(inside, user_namespace, from_path, here, to_path, archive, follow, say)
    else:
        _into(here, from_path, inside, user_namespace, to_path, archive, follow, say)
    os.close(root_fd)


def _out_of(
    inside: tar_in.Place, user_namespace: int, source: str, here: tar_in.Place, target: str,
    archive: bool, follow: bool, say: "Callable[[str], None]",
) -> None:  # fmt: skip
    if target == "-" and os.isatty(1):
        raise Usage("write a tar to standard output", because="it is a terminal", hint="… > file.tar, or | tar -t")
    reading, writing = os.pipe()

    def work() -> None:
        os.close(reading)
        _pack(inside, source, follow, open(writing, "wb"))

    helper = _Helper(work, user_namespace, source)
    os.close(writing)
    with open(reading, "rb") as stream:
        try:
            if target == "-":
                _shovel(stream, sys.stdout.buffer)
            else:
                tar_in.Unpacker(here, target, contents=_contents(source), owners=archive, say=say).unpack(stream)
        except Exception as error:
            stream.close()
            helper.finish()
            raise _explained(error, target) from None
    helper.finish()


def _into(
    here: tar_in.Place, source: str, inside: tar_in.Place, user_namespace: int, target: str,
    archive: bool, follow: bool, say: "Callable[[str], None]",
) -> None:  # fmt: skip
    reading, writing = os.pipe()
    contents, plain = _contents(source), source == "-"

    def work() -> None:
        os.close(writing)
        with open(reading, "rb") as stream:
            unpacker = tar_in.Unpacker(inside, target, contents=contents, owners=archive, say=say)
            unpacker.unpack(stream, plain=plain)

    helper = _Helper(work, user_namespace, target)
    os.close(reading)
    try:
        with open(writing, "wb") as stream:
            if plain:
                _shovel(sys.stdin.buffer, stream)
            else:
                _pack(here, source, follow, stream)
    except BrokenPipeError:
        helper.finish()  # raises the error that it reported
        raise CtkError(f"copy to {target!r}", because="the process in the container ended") from None
    except Exception as error:
        helper.end()
        raise _explained(error, source) from None
    helper.finish()


def _explained(error: Exception, path: str) -> Exception:
    if isinstance(error, RecursionError):
        return CtkError(f"copy {path!r}", because="folders nest too deep")
    if isinstance(error, OSError):
        where = os.fsdecode(error.filename) if error.filename else path
        return CtkError(f"copy {where!r}", because=reason(error))
    return error


def _contents(source: str) -> bool:
    """Whether to copy the contents of the folder and not the folder itself (docker cp's SRC/.)."""
    return source.endswith("/.") or source in (".", "/")


def _pack(place: tar_in.Place, source: str, follow: bool, out: "BinaryIO") -> None:
    whole = follow or source.endswith(("/", "/.")) or source in (".", "..")
    folder, _, name = source.rstrip("/").rpartition("/")
    if whole or not name:
        fd = place.open(source)
    else:
        parent = place.open(
            folder or ("/" if source.startswith("/") or place.root >= 0 else "."), os.O_PATH | os.O_DIRECTORY
        )
        try:
            fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        except OSError as error:
            error.filename = source
            raise
        finally:
            os.close(parent)
    with out:
        tar_out.pack(fd, name if name not in ("", ".", "..") else "contents", out)
    os.close(fd)


def _shovel(source: "BinaryIO", target: "BinaryIO") -> None:
    while data := source.read(1 << 16):
        target.write(data)
    target.flush()


def _open_root(container: "Record") -> "tuple[int, int]":
    """(the container's root, its user namespace or -1 if it is ours). Raises CtkError, NotFound."""
    doing = f"look into {container.id!r}"
    if lifecycle.alive(container):
        try:
            root = os.open(f"/proc/{container.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            namespace = os.open(f"/proc/{container.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise CtkError(doing, because=reason(error), hint="does it belong to you?") from None
        # Check afterwards: if the pid had been reused in between, the start time would differ.
        if lifecycle.alive(container):
            if os.path.samestat(os.fstat(namespace), os.stat("/proc/self/ns/user")):
                os.close(namespace)
                namespace = -1
            return root, namespace
        os.close(root)
        os.close(namespace)
    if container.extra.get("layer") == "memory":
        raise CtkError(doing, because="it has ended, and its files are gone with it (--ephemeral)")
    if "layer" in container.extra:
        hint = f"the files that it wrote are in {container.extra['layer']}/upper"
        raise CtkError(doing, because="it has ended, and its layers are no longer mounted", hint=hint)
    try:
        return os.open(container.rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC), -1
    except OSError as error:
        raise NotFound(doing, because=f"{container.rootfs!r}: {reason(error)}") from None


class _Helper:
    """A child process that does `work` and reports errors."""

    def __init__(self, work: "Callable[[], None]", user_namespace: int, path: str) -> None:
        self.said, says = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            code = 0
            try:
                os.close(self.said)
                if user_namespace >= 0:
                    _enter(user_namespace)
                work()
            except BrokenPipeError:
                code = 1  # the parent's own error is the one to report
            except Exception as error:
                message = _explained(error, path)
                os.write(says, str(message).encode("utf-8", "surrogateescape")[:4000])
                code = 1
            finally:
                os._exit(code)
        os.close(says)

    def finish(self) -> None:
        """Wait for it. Raises CtkError with the error that it reported."""
        message = b""
        while part := os.read(self.said, 65536):
            message += part
        os.close(self.said)
        os.waitpid(self.pid, 0)
        if message:
            raise CtkError(message.decode("utf-8", "surrogateescape"))

    def end(self) -> None:
        """Wait for it and ignore its errors."""
        try:
            self.finish()
        except CtkError:
            pass


def _enter(user_namespace: int) -> None:
    from toolkit.kernel import namespaces, process

    try:
        process.hide()  # we have the host's root and files, and the container's root could trace us in its namespace
        namespaces.setns(user_namespace, namespaces.CLONE_NEWUSER)
        process.hide()
        try:
            os.setgroups([])
        except PermissionError:
            pass  # setgroups(2) is denied, as with one mapped id (user_namespaces(7))
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        process.hide()
    except SystemCall as error:
        raise CtkError("enter the container's user namespace", because=str(error)) from None
