"""The stages of `ctk up` before the run: a root file system and a config.json, each reused if it exists.

A bundle of ours has `rootfs/`, `config.json`, `hosts`, and `ctk-up.json`, which records what each stage was made from.
A stage is redone only by --force. If it was made from another request it is refused, because its files may be in use
or edited.
"""

import os
from dataclasses import asdict, replace
from typing import Any

from toolkit.bootstrap.build import bootstrap
from toolkit.bootstrap.facts.model import Request, Result
from toolkit.bootstrap.output.target import read_result
from toolkit.errors import InUse
from toolkit.events import Done, Emit, Event, Planned
from toolkit.fetch.logins import bare
from toolkit.up import config
from toolkit.up.bundle import (
    UpRequest,
    bundle_folder,
    content_id,
    make_folder,
    no_empty_folder,
    read_marker,
    write_marker,
)
from toolkit.up.config import STAGE


def prepare(request: UpRequest, asked: Request, emit: Emit) -> str:
    """Make the bundle, or reuse it. Returns its path. Raises like bootstrap and the spec builder, and InUse."""
    bundle = bundle_folder(request)
    make_folder(bundle, request)
    rootfs = os.path.join(bundle, "rootfs")
    wanted = replace(asked, target=rootfs)
    made = read_marker(bundle)
    known = replace(wanted, mirror=bare(wanted.mirror), mirrors=tuple(map(bare, wanted.mirrors)))
    rootfs_id = content_id(asdict(known) | {"target": "", "jobs": 0, "keep_failed": False, "use_kept": True})
    there = None if request.force else read_result(rootfs)
    if there is not None and made.get("rootfs") == rootfs_id:
        emit(Planned(((STAGE[0], "Use the bundle"),)))
    else:
        if there is not None:
            raise InUse(
                f"bring up {request.id!r}",
                because=f"{rootfs!r} was made from another request ({_in_short(there)})" + _difference(made, wanted),
                hint="use the same options to go on with it; or use another id, or --force to make it again",
            )
        # restart: a half-made tree in our bundle is our own leftover; bootstrap refuses everything else.
        with no_empty_folder(bundle):
            bootstrap(replace(wanted, restart=True), _within(emit))
        # `made` still has what config.json was written from: without it, edits by hand could not be recognised.
        made = made | {"rootfs": rootfs_id, "request": _asked(wanted)}
        write_marker(bundle, made)
    config.write(request, bundle, config.Folder(rootfs), made, emit, _in_short(there) if there else "")
    return bundle


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
            emit(Planned((*event.stages, STAGE)))
        elif not isinstance(event, Done):
            emit(event)

    return passing
