"""The config.json of a bundle of `ctk up`."""

import os
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from toolkit.bundle import build, document, process, root
from toolkit.bundle.document import Edit, Spec
from toolkit.events import Emit, Finished, Note, Started
from toolkit.kernel import atomic
from toolkit.up.bundle import UpRequest, content_id, file_id, write_marker

STAGE = ("spec", "Write config.json")


class Root(Protocol):
    """What config.json must know about the root of the container."""

    @property
    def rootfs(self) -> str:
        """Its folder, for SpecRequest.rootfs; "" if it consists of layers."""
        ...

    @property
    def identity(self) -> str:
        """A text that changes if config.json must be written again for it; "" if that never happens."""
        ...

    def command(self, words: Sequence[str]) -> tuple[str, ...]:
        """The command to run if the user asked for `words`, which may be empty. Raises Usage."""
        ...

    def edits(self, words: Sequence[str], emit: Emit) -> Iterator[Edit]:
        """The edits that this root needs. Raises Usage."""
        ...

    def check(self, spec: Spec) -> None:
        """Raise NotFound if the root does not have the command of `spec`."""
        ...


class Folder(NamedTuple):
    """A root that is a folder."""

    rootfs: str
    identity: str = ""

    def command(self, words: Sequence[str]) -> tuple[str, ...]:
        """As Root."""
        return tuple(words) or (root.shell(self.rootfs),)

    def edits(self, words: Sequence[str], emit: Emit) -> Iterator[Edit]:
        """As Root."""
        return iter(())

    def check(self, spec: Spec) -> None:
        """As Root."""
        root.check_command(self.rootfs, spec)


def write(request: UpRequest, bundle: str, of: Root, made: dict[str, Any], emit: Emit, there: str = "") -> None:
    """Write config.json. One that was edited by hand is kept, except for the command and the terminal.

    `there` describes a root that was made before; then one line is all that is shown.
    """
    name, began = STAGE[0], time.monotonic()
    emit(Started(name))
    hosts = _write_hosts(request, bundle)
    volumes = (*request.spec.volume, f"{hosts}:/etc/hosts:ro")
    options = request.spec._replace(bundle=bundle, rootfs=of.rootfs, args=(), terminal=None, volume=volumes)
    spec_id = content_id(options._asdict() | ({"image": of.identity} if of.identity else {}))
    path = os.path.join(bundle, document.FILE_NAME)
    known = file_id(path)
    by_hand = bool(known) and known != made.get("config")
    keep = bool(known) and not request.force and (by_hand or made.get("spec") == spec_id)
    args = of.command(request.spec.args) if request.spec.args else (() if keep and by_hand else of.command(()))
    if keep:
        spec = document.read(bundle)
        if request.spec.args:
            of.check(document.edited(spec, [process.args(args)]))
    else:
        _, spec = build.make(options._replace(args=args if of.rootfs else ()), image=of.edits(request.spec.args, emit))
    edits = [process.terminal(request.terminal), *([process.args(args)] if args else [])]
    spec = document.edited(spec, edits)
    content = document.updated(document.read_text(bundle), spec) if keep else document.text(spec)
    unchanged = keep and content_id(content) == known
    if not unchanged:
        document.write(bundle, content, force=True)
    if not known and not request.spec.share_net:
        emit(Note(f"{request.id!r} gets a network of its own, with only lo in it; --share-net gives it the host's"))
    if by_hand and keep:
        if made.get("spec", spec_id) != spec_id:
            text = "config.json was edited by hand, so changed options are ignored (--force writes it again)"
            emit(Note(text, warning=True))
    else:
        made = made | {"spec": spec_id, "config": content_id(content)}
        write_marker(bundle, made)
    by_hand_too = "kept as it was edited by hand" if keep and by_hand else ""
    detail = "; ".join(filter(None, [there, by_hand_too or ("" if keep and there else path)]))
    emit(Finished(name, time.monotonic() - began, detail, skipped=unchanged or bool(keep and there)))


def _write_hosts(request: UpRequest, bundle: str) -> str:
    """Write a hosts file with the container's own name, which sudo and many daemons look up. Returns its path."""
    known = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"
    if request.spec.share_net:
        try:
            with open("/etc/hosts", encoding="utf-8", errors="replace") as file:
                known = file.read().rstrip("\n") + "\n"
        except OSError:
            pass  # a host without the file resolves localhost in another way; the container gets our own lines
    path = os.path.join(bundle, "hosts")
    # Readable for any user of the container; the folder of the bundle keeps the users of the host out.
    atomic.replace(path, f"{known}127.0.1.1 {request.spec.hostname or request.id}\n".encode(), mode=0o644)
    return path
