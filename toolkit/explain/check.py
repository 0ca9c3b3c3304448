"""`ctk check`: everything that is wrong with a bundle; each finding with why it matters and what to write instead.

Three layers: the document by itself (what `run` and `create` check too, toolkit/oci/check.py, and the misspellings
that they must ignore), the bundle's files (program.py), and this host (host.py). A value of the wrong type is reported
and removed, so that the rules can check the rest.
"""

import copy
import os
import re
from typing import Any

from toolkit.errors import CtkError, Invalid, NotFound, reason
from toolkit.explain import fields, host, program, unmapped
from toolkit.explain.finding import Found, found
from toolkit.explain.values import MOUNT_OPTIONS, VALUES, nearest, system_calls
from toolkit.kernel import reading
from toolkit.oci import check as rules
from toolkit.oci import json_text, schema

Spec = dict[str, Any]


def read(bundle: str, config: str = "") -> tuple[bytes, str]:
    """(text of config.json or of the file `config` instead, absolute path of the bundle). Raises NotFound, CtkError."""
    bundle = os.path.abspath(bundle)
    path = os.path.join(bundle, config or "config.json")
    try:
        return reading.named(path), bundle
    except FileNotFoundError:
        hint = "make one with `ctk spec`, or name the bundle's folder"
        raise NotFound(f"read {path!r}", because="no such file", hint=hint) from None
    except OSError as error:
        raise CtkError(f"read {path!r}", because=reason(error)) from None


def bundle(folder: str, *, terminal: bool, privileged: bool) -> list[Found]:
    """All findings of a bundle. `terminal`: the caller has one; `privileged`: the caller is root.

    Raises NotFound if there is no config.json.
    """
    text, folder = read(folder)
    try:
        spec = json_text.loads(text)
    except Invalid as error:
        return [found("E100", "", error.because)]
    listed, sound = document(spec)
    if not isinstance(sound, dict) or not sound:
        return listed
    listed += program.findings(sound, folder)
    listed += host.findings(sound, terminal=terminal, privileged=privileged)
    return listed


def document(spec: Any) -> tuple[list[Found], Any]:
    """(findings of a document by itself, the document without the values of a wrong type)."""
    first = rules.findings(spec)
    sound, pruned = _sound(spec, first)
    if pruned:
        known = {finding.path for finding in first}
        more = [f for f in rules.findings(sound) if f.path not in known and not _hides(f.path, pruned)]
        first += more
    listed = [_told(finding, spec) for finding in first]
    listed += [_unknown(path) for path in rules.unknown_fields(spec)] if isinstance(spec, dict) else []
    if isinstance(sound, dict):
        listed += _slips(sound)
        listed += unmapped.findings(sound)
    return listed, sound


def _sound(spec: Any, findings: "list[rules.Finding]") -> tuple[Any, list[str]]:
    """The document without the values of a wrong type, and the paths that were removed."""
    wrong = [f.path for f in findings if f.code in ("E101", "E102", "E103")]
    if not isinstance(spec, dict):
        return spec, []
    sound = copy.deepcopy(spec)
    taken = []
    for path in wrong:
        if not path:
            continue
        # An element of a list is removed with its list, or the indexes of the others would shift.
        path = re.split(r"\[\d+\]", path, maxsplit=1)[0] if "[" in path else path
        at: Any = sound
        parts = _parts(path)
        for part in parts[:-1]:
            at = at.get(part) if isinstance(at, dict) else None
        if isinstance(at, dict) and parts and at.pop(parts[-1], None) is not None:
            taken.append(path)
    return sound, taken


def _parts(path: str) -> list[str]:
    return [name or plain for name, plain in re.findall(r"\['(.*?)'\]|([^.\[\]]+)", path)]


def _hides(path: str, pruned: list[str]) -> bool:
    """Is a finding only about a value that we removed? (`process.args is required`, when it had a wrong type.)"""
    return any(path == hole or path.startswith((hole + ".", hole + "[")) for hole in pruned)


def _told(finding: "rules.Finding", spec: Any) -> Found:
    hint = finding.hint
    where = fields.generic(finding.path)
    if not hint and finding.code in ("E105", "W121"):
        hint = _nearest_value(finding, where, spec)
    if finding.code == "W121" and (near := _nearest_value(finding, where, spec)):
        hint = near
    if not hint and finding.code in ("E101", "E104", "E106", "E109") and (example := fields.example(finding.path)):
        hint = f"for example {example}"
    if finding.code == "E101" and (better := _converted(finding.path, spec)):
        hint = better
    return found(finding.code, finding.path, finding.message, hint)


def _value(spec: Any, path: str) -> Any:
    at = spec
    for name, place, plain in re.findall(r"\['(.*?)'\]|\[(\d+)\]|([^.\[\]]+)", path):
        try:
            at = at[int(place)] if place else at[name or plain]
        except (KeyError, IndexError, TypeError):
            return None
    return at


def _nearest_value(finding: "rules.Finding", where: str, spec: Any) -> str:
    known = VALUES.get(where, ())
    given = _value(spec, finding.path)
    if isinstance(given, dict):
        near = next((near for key in given if key not in known and (near := nearest(key, known))), "")
    else:
        near = nearest(given, known) if isinstance(given, str) else ""
    return f'did you mean "{near}"?' if near else ""


def _converted(path: str, spec: Any) -> str:
    """A value of the wrong type converted to the right one, where that is obvious."""
    given = _value(spec, path)
    where = fields.generic(path)
    want = dict(fields.paths()).get(where.removesuffix("[]").removesuffix("{}"))
    if where.endswith("{}") and isinstance(want, tuple):
        want = want[0]
    if isinstance(given, str):
        if isinstance(want, list) and want[0] == "str":
            words = ", ".join(f'"{word}"' for word in given.split())
            return f"write [{words}]"
        if isinstance(want, str) and want != "str" and given.lstrip("-").isdigit():
            return f"write {int(given)}, without quotes"
        if want == "bool" and given.lower() in ("true", "false"):
            return f"write {given.lower()}, without quotes"
    elif want == "str" and isinstance(given, int) and not isinstance(given, bool):
        return f'write "{given}"'
    return ""


def _unknown(path: str) -> Found:
    known, name = _holder(path)
    near = nearest(name, known)
    if not near and (ends := [p for p, _ in fields.paths() if p.endswith("." + name) and "[" not in p]):
        instead = f"did you mean {ends[0]}? Fields here: {', '.join(known)}"
        return found("W130", path, f"{name!r} is not a field here: it is ignored", instead)
    instead = f'did you mean "{near}"?' if near else f"Fields here: {', '.join(known)}"
    return found("W130", path, f"{name!r} is not a field of the runtime spec: it is ignored", instead)


def _holder(path: str) -> tuple[list[str], str]:
    """(the known fields beside an unknown one, its name), from its path: a name may have dots in it."""
    want: Any = schema.SPEC
    rest = path
    while True:
        if isinstance(want, dict):
            name = next((n for n in want if rest.startswith(n) and rest[len(n) : len(n) + 1] in (".", "[")), "")
            if not name:
                return list(want), rest
            want, rest = want[name], rest[len(name) :].removeprefix(".")
        elif isinstance(want, list):
            want, rest = want[0], rest.partition("]")[2].removeprefix(".")
        elif isinstance(want, tuple):
            # ['any name at all'].field: of the fields only the last "]." can be the end of the name.
            want, rest = want[0], rest.rpartition("].")[2]
        else:
            return [], rest


_SHELL = re.compile(r"[|<>*;&`]|\$[A-Za-z_({]")


def _slips(spec: Spec) -> list[Found]:
    """What is valid, but almost certainly a mistake."""
    listed = []
    for index, mount in enumerate(spec.get("mounts") or ()):
        for place, option in enumerate(mount.get("options") or ()):
            name = option.partition("=")[0]
            if name in MOUNT_OPTIONS or name in _DATA or "=" in option or mount.get("type") in ("overlay", "fuse"):
                continue
            if near := nearest(name, MOUNT_OPTIONS):
                path = f"mounts[{index}].options[{place}]"
                listed.append(found("W131", path, f"{option!r} is not a mount option", f'did you mean "{near}"?'))
    args = (spec.get("process") or {}).get("args") or []
    if args and isinstance(args[0], str):
        words = args[0].split()
        if len(words) > 1 and len(args) == 1:
            quoted = ", ".join(f'"{word}"' for word in words)
            listed.append(found("W132", "process.args[0]", f"{args[0]!r} has spaces", f"write [{quoted}]"))
        elif os.path.basename(args[0]) not in _SHELLS:
            for index, word in enumerate(args[1:], 1):
                if isinstance(word, str) and (word in ("|", ">", ">>", "&&", "||", ";", "<") or word.startswith("$")):
                    line = " ".join(args)
                    message = f"{word!r} reaches {args[0]!r} as it is: there is no shell"
                    listed.append(found("W133", f"process.args[{index}]", message, f'write ["sh", "-c", "{line}"]'))
                    break
    listed += _system_calls((spec.get("linux") or {}).get("seccomp") or {})
    return listed


_SHELLS = (
    "sh",
    "bash",
    "dash",
    "ash",
    "zsh",
    "ksh",
    "busybox",
    "env",
    "awk",
    "perl",
    "python3",
    "find",
    "expr",
    "test",
)
# Options of file systems that look like misspelled ones of mount(8)'s.
_DATA = ("newinstance", "nr_inodes", "nr_blocks", "size", "mode", "uid", "gid", "ptmxmode", "hidepid", "xattr", "huge")


def _system_calls(seccomp: Spec) -> list[Found]:
    rules_ = seccomp.get("syscalls") or ()
    if not rules_:
        return []
    known = system_calls()
    listed_names = {name for rule in rules_ for name in rule.get("names") or ()}
    listed = []
    for index, rule in enumerate(rules_):
        for place, name in enumerate(rule.get("names") or ()):
            # System calls of machines that we have no table for are listed beside similar ones (sync_file_range2).
            if name and name not in known and (near := nearest(name, known - listed_names, 0.88)):
                path = f"linux.seccomp.syscalls[{index}].names[{place}]"
                listed.append(found("W134", path, f"{name!r} is not a system call", f'did you mean "{near}"?'))
    return listed
