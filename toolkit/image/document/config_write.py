"""A configuration is written: a new one, or one more step on another image's (image-spec 1.1, config.md).

What another image's configuration says and nobody here knows stays as it is.
"""

import os
import shlex
from collections.abc import Sequence
from typing import Any, NamedTuple

from toolkit.archive.epoch import epoch_s, time_text
from toolkit.errors import Invalid, Usage
from toolkit.image.document import config
from toolkit.image.document.platform import Platform
from toolkit.oci import json_text

_HINT = "as in a Containerfile: 'CMD [\"nginx\", \"-g\", \"daemon off;\"]', 'ENV A=b', 'USER web'"


class Step(NamedTuple):
    """What is new: the history's words, and the diff id of the layer, "" if no file has changed."""

    created_by: str
    diff_id: str
    author: str = ""
    comment: str = ""


def written(base: bytes, platform: Platform | None, changes: Sequence[str], step: Step) -> bytes:
    """The bytes of the configuration `base`, b"" for none, with one more step; it is as old as SOURCE_DATE_EPOCH says.

    `platform` None leaves that of `base`. `changes` are instructions of a Containerfile, as `docker commit --change`
    takes them. Raises Usage for one that can't be, Invalid.
    """
    whole: dict[str, Any] = json_text.loads(base, "the image's configuration") if base else {}
    created = time_text(epoch_s())
    whole["created"] = created
    if step.author:
        whole["author"] = step.author
    if platform is not None:
        whole |= {"architecture": platform.architecture, "os": platform.os}
        if platform.variant:
            whole["variant"] = platform.variant
    run: dict[str, Any] = dict(whole.pop("config", None) or {})
    _change(run, changes)
    if run:
        whole["config"] = run
    rootfs = whole.get("rootfs") or {}
    layers = [*(rootfs.get("diff_ids") or ()), *([step.diff_id] if step.diff_id else ())]
    whole["rootfs"] = {"type": "layers", "diff_ids": layers}
    history = {"created": created, "created_by": step.created_by}
    history |= {key: text for key, text in (("author", step.author), ("comment", step.comment)) if text}
    whole["history"] = [*(whole.get("history") or ()), history | ({} if step.diff_id else {"empty_layer": True})]
    data = json_text.dumps(whole).encode()
    config.read(data, "the new configuration")
    return data


def _change(run: dict[str, Any], changes: Sequence[str]) -> None:
    """Apply the instructions. A new entrypoint drops the command that is there: it was meant for the old one."""
    split = [_split(one) for one in changes]
    if any(name == "ENTRYPOINT" for name, _ in split):
        run.pop("Cmd", None)
    for name, rest in split:
        doing = f"change {name} to {rest!r}"
        match name:
            case "CMD" | "ENTRYPOINT":
                run[name.capitalize()] = _command(rest, doing)
            case "ENV":
                given = _pairs(rest, doing)
                kept = [one for one in run.get("Env") or () if one.partition("=")[0] not in given]
                run["Env"] = [*kept, *(f"{key}={value}" for key, value in given.items())]
            case "LABEL":
                run["Labels"] = dict(run.get("Labels") or {}) | _pairs(rest, doing)
            case "EXPOSE":
                ports = [port if "/" in port else f"{port}/tcp" for port in _words(rest, doing)]
                run["ExposedPorts"] = dict(run.get("ExposedPorts") or {}) | {port: {} for port in ports}
            case "VOLUME":
                run["Volumes"] = dict(run.get("Volumes") or {}) | {path: {} for path in _list(rest, doing)}
            case "USER":
                run["User"] = rest
            case "STOPSIGNAL":
                run["StopSignal"] = rest
            case "WORKDIR":
                run["WorkingDir"] = os.path.normpath(os.path.join("/", run.get("WorkingDir") or "/", rest))
            case _:
                known = "CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME and WORKDIR"
                raise Usage(f"make the change {name!r}", because=f"only {known} can be changed", hint=_HINT)


def _split(text: str) -> tuple[str, str]:
    """`NAME REST` or, as podman has it, `NAME=REST`. Raises Usage."""
    name, at = text.strip(), len(text.strip())
    for mark in " \t=":
        found = name.find(mark)
        at = min(at, found) if found >= 0 else at
    rest = name[at + 1 :].strip()
    if not rest:
        raise Usage(f"make the change {text!r}", because="it says nothing new", hint=_HINT)
    return name[:at].upper(), rest


def _command(rest: str, doing: str) -> list[str]:
    """The words of a JSON array, else a line for the shell."""
    return _array(rest, doing) if rest.startswith("[") else ["/bin/sh", "-c", rest]


def _list(rest: str, doing: str) -> list[str]:
    return _array(rest, doing) if rest.startswith("[") else _words(rest, doing)


def _array(rest: str, doing: str) -> list[str]:
    try:
        found = json_text.loads(rest, "it")
    except Invalid as error:
        raise Usage(doing, because=f"it is not a JSON array ({error.because})", hint=_HINT) from None
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise Usage(doing, because="it is not a JSON array of texts", hint=_HINT)
    return found


def _words(rest: str, doing: str) -> list[str]:
    try:
        return shlex.split(rest)
    except ValueError as error:
        raise Usage(doing, because=str(error).lower()) from None


def _pairs(rest: str, doing: str) -> dict[str, str]:
    """`NAME=VALUE …`, or `NAME VALUE` for a value with blanks."""
    words = _words(rest, doing)
    if "=" not in words[0]:
        name, _, value = rest.partition(" ")
        if not value:
            raise Usage(doing, because="it is not NAME=VALUE", hint=_HINT)
        return {name: value.strip()}
    found = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not name or not equals:
            raise Usage(doing, because=f"{word!r} is not NAME=VALUE", hint=_HINT)
        found[name] = value
    return found
