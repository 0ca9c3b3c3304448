"""The stages of `ctk up` before the run: a root file system and a config.json, each reused if it exists.

A bundle of ours has `rootfs/`, `config.json`, `hosts`, and `ctk-up.json`, which records what each stage was made from.
A stage is redone only by --force. If it was made from another request it is refused, because its files may be in use
or edited.
"""

import contextlib
import hashlib
import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from toolkit import places
from toolkit.bootstrap.build import bootstrap
from toolkit.bootstrap.facts.model import Request, Result
from toolkit.bootstrap.output.target import read_result
from toolkit.bundle import build, document, process, root
from toolkit.bundle.build import SpecRequest
from toolkit.errors import CtkError, InUse, Invalid, Usage, reason
from toolkit.events import Done, Emit, Event, Finished, Note, Planned, Started
from toolkit.fetch.logins import bare
from toolkit.kernel import atomic, ours, reading
from toolkit.oci import json_text

MARKER = "ctk-up.json"
_SPEC_STAGE = ("spec", "Write config.json")


@dataclass(frozen=True, slots=True)
class UpRequest:
    """The options of `ctk up`. `bootstrap.target` and `spec.bundle` are filled in from `bundle`."""

    id: str
    bootstrap: Request
    spec: SpecRequest
    bundle: str = ""  # "": a folder of ctk's own
    terminal: bool = False
    force: bool = False


def bundle_folder(request: UpRequest) -> str:
    """The path of the bundle, whether it exists or not. Raises Usage for an invalid container id."""
    if not re.fullmatch(r"[A-Za-z0-9_+.-]+", request.id) or request.id in (".", ".."):
        hint = "it may have letters, digits and _ + - ."
        raise Usage(f"use {request.id!r} as a container id", because="it has other characters", hint=hint)
    return os.path.abspath(request.bundle or places.bundle_dir(request.id))


def prepare(request: UpRequest, emit: Emit) -> str:
    """Make the bundle, or reuse it. Returns its path. Raises like bootstrap and the spec builder, and InUse."""
    bundle = bundle_folder(request)
    try:
        _make_folder(bundle, request)
    except OSError as error:
        hint = "run with sudo, or name a folder of yours with --bundle"
        raise CtkError(f"make {bundle!r}", because=reason(error), hint=hint) from None
    rootfs = os.path.join(bundle, "rootfs")
    wanted = replace(request.bootstrap, target=rootfs)
    made = _read_marker(bundle)
    known = replace(wanted, mirror=bare(wanted.mirror), mirrors=tuple(map(bare, wanted.mirrors)))
    rootfs_id = _content_id(asdict(known) | {"target": "", "jobs": 0, "keep_failed": False, "use_kept": True})
    there = None if request.force else read_result(rootfs)
    if there is not None and made.get("rootfs") == rootfs_id:
        emit(Planned(((_SPEC_STAGE[0], "Use the bundle"),)))
    else:
        if there is not None:
            raise InUse(
                f"bring up {request.id!r}",
                because=f"{rootfs!r} was made from another request ({_in_short(there)})" + _difference(made, wanted),
                hint="use the same options to go on with it; or use another id, or --force to make it again",
            )
        # restart: a half-made tree in our bundle is our own leftover; bootstrap refuses everything else.
        with _no_empty_folder(bundle):
            bootstrap(replace(wanted, restart=True), _within(emit))
        # `made` still has what config.json was written from: without it, edits by hand could not be recognised.
        made = made | {"rootfs": rootfs_id, "request": _asked(wanted)}
        _write_marker(bundle, made)
    _write_spec(request, bundle, rootfs, made, emit, _in_short(there) if there else "")
    return bundle


def _make_folder(bundle: str, request: UpRequest) -> None:
    """Make the bundle's folder, private to its owner: no other user may run a setuid program of the container's root.

    A folder of our own is made private even if an earlier version left it open. If the container's root is another user
    of the host (root gave it an id map), the group of that user has access. Raises OSError.
    """
    ours.make_private(bundle)
    if request.bundle:
        return
    os.chmod(bundle, 0o700)
    gid = next((int(words[1]) for words in (one.split(":") for one in request.spec.gid_map) if words[0] == "0"), 0)
    if os.geteuid() == 0 and gid:
        for above in (os.path.dirname(bundle), places.data_dir()):
            os.chmod(above, 0o711)
        os.chown(bundle, -1, gid)
        os.chmod(bundle, 0o710)


@contextlib.contextmanager
def _no_empty_folder(bundle: str) -> Iterator[None]:
    """Remove the bundle's folder if making the root fails, unless something else is in it."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            os.rmdir(bundle)
        raise


def _asked(wanted: Request) -> dict[str, str]:
    """The options that are compared with those of an earlier call, by name."""
    asked = {"SUITE": wanted.suite, "variant": wanted.variant, "arch": wanted.architecture}
    lists = {"include": wanted.include, "exclude": wanted.exclude, "components": wanted.components}
    return asked | {name: ",".join(words) for name, words in lists.items()}


def _difference(made: dict[str, Any], wanted: Request) -> str:
    then, now = made.get("request") or {}, _asked(wanted)
    found = [
        f"{name if name.isupper() else '--' + name} then {then[name] or 'not given'}, now {now[name] or 'not given'}"
        for name in now
        if name in then and then[name] != now[name]
    ]
    return ": " + "; ".join(found) if found else ""


def _in_short(result: Result) -> str:
    variant = "default" if result.variant == "-" else result.variant
    return f"{result.suite}, {variant}, {result.packages} packages"


def _within(emit: Emit) -> Emit:
    """An `emit` for bootstrap as a part of `ctk up`: adds our stage to its plan, and drops its Done."""

    def passing(event: Event) -> None:
        if isinstance(event, Planned):
            emit(Planned((*event.stages, _SPEC_STAGE)))
        elif not isinstance(event, Done):
            emit(event)

    return passing


def _write_spec(
    request: UpRequest, bundle: str, rootfs: str, made: dict[str, Any], emit: Emit, there: str = ""
) -> None:
    """Write config.json. One that was edited by hand is kept, except for the command and the terminal.

    `there` describes a root that was made before; then one line is all that is shown.
    """
    name, began = _SPEC_STAGE[0], time.monotonic()
    emit(Started(name))
    hosts = _write_hosts(request, bundle)
    volumes = (*request.spec.volume, f"{hosts}:/etc/hosts:ro")
    options = replace(request.spec, bundle=bundle, rootfs=rootfs, args=(), terminal=None, volume=volumes)
    spec_id = _content_id(asdict(options))
    path = os.path.join(bundle, document.FILE_NAME)
    known = _file_id(path)
    by_hand = bool(known) and known != made.get("config")
    keep = bool(known) and not request.force and (by_hand or made.get("spec") == spec_id)
    args = request.spec.args or (() if keep and by_hand else (root.shell(rootfs),))
    if keep:
        spec = document.read(bundle)
        if request.spec.args:
            root.check_command(rootfs, document.edited(spec, [process.args(args)]))
    else:
        _, spec = build.make(replace(options, args=args))
    edits = [process.terminal(request.terminal), *([process.args(args)] if args else [])]
    spec = document.edited(spec, edits)
    content = document.updated(document.read_text(bundle), spec) if keep else document.text(spec)
    unchanged = keep and _content_id(content) == known
    if not unchanged:
        document.write(bundle, content, force=True)
    if not known and not request.spec.share_net:
        emit(Note(f"{request.id!r} gets a network of its own, with only lo in it; --share-net gives it the host's"))
    if by_hand and keep:
        if made.get("spec", spec_id) != spec_id:
            text = "config.json was edited by hand, so changed options are ignored (--force writes it again)"
            emit(Note(text, warning=True))
    else:
        made = made | {"spec": spec_id, "config": _content_id(content)}
        _write_marker(bundle, made)
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


def _content_id(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _file_id(path: str) -> str:
    try:
        return _content_id(reading.text(path))
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise CtkError(f"read {path!r}", because=getattr(error, "strerror", "") or str(error)) from None


def _read_marker(bundle: str) -> dict[str, Any]:
    try:
        made = json_text.loads(reading.read(os.path.join(bundle, MARKER)), MARKER)
    except (OSError, Invalid):
        return {}
    return made if isinstance(made, dict) else {}


def _write_marker(bundle: str, made: dict[str, Any]) -> None:
    atomic.replace(os.path.join(bundle, MARKER), json.dumps(made, indent=1).encode())
