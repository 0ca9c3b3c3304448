"""The instructions of a Containerfile, with all that can be said about them before anything is built. Pure.

What ctk does not carry out is refused here, so before the first step, with its file and line. HEALTHCHECK and ONBUILD
are left out with a warning, as buildah does it: an OCI image has no place for them.
"""

import re
import signal
from collections.abc import Callable, Iterator
from typing import NamedTuple

from toolkit.image.build import words
from toolkit.image.build.lines import Containerfile, Heredoc, Line, Where

_STAGE = re.compile(r"[a-z][a-z0-9_.-]*")
_URL = re.compile(r"(https?|ftp|git|ssh)://|git@", re.IGNORECASE)
_PORT = re.compile(r"(\d+)(?:-(\d+))?(?:/(tcp|udp|sctp))?")
_REALTIME = re.compile(r"RTM(?:IN|AX)(?:[+-][0-9]{1,2})?")
HOST, NONE = "host", "none"
_LEFT_OUT = ("HEALTHCHECK", "ONBUILD")


class From(NamedTuple):
    """FROM. `image` and `platform` are raw words, whose variables are those before the first FROM."""

    line: Line
    image: str
    platform: str
    name: str


class Arg(NamedTuple):
    """ARG: names, and raw defaults; None for a name without one."""

    line: Line
    names: tuple[tuple[str, str | None], ...]


class Copy(NamedTuple):
    """COPY and ADD. Sources and target are raw words; here-documents among the sources are in `heredocs`."""

    line: Line
    sources: tuple[str, ...]
    target: str
    source_image: str
    owner: str
    mode: str
    heredocs: tuple[Heredoc, ...]
    is_add: bool


class Run(NamedTuple):
    """RUN: `argv`, or `text` for the shell. `network` is HOST or NONE; "" if it does not say."""

    line: Line
    argv: tuple[str, ...]
    text: str
    network: str


class Pairs(NamedTuple):
    """ENV and LABEL: keys and values are raw words."""

    line: Line
    pairs: tuple[tuple[str, str], ...]


class Command(NamedTuple):
    """CMD and ENTRYPOINT: `argv`, or `text` for the shell; SHELL has `argv`."""

    line: Line
    argv: tuple[str, ...]
    text: str | None


class Words(NamedTuple):
    """USER, WORKDIR, STOPSIGNAL, MAINTAINER (one word), EXPOSE, VOLUME: raw words."""

    line: Line
    words: tuple[str, ...]


Instruction = From | Arg | Copy | Run | Pairs | Command | Words


class Parsed(NamedTuple):
    """All instructions in their order, and warnings about what was left out."""

    instructions: tuple[Instruction, ...]
    escape: str
    warnings: tuple[str, ...]


def read(found: Containerfile) -> Parsed:
    """The instructions of a Containerfile. Raises Invalid, also for what ctk does not carry out."""
    instructions: list[Instruction] = []
    warnings: list[str] = []
    for line in found.lines:
        if line.name in _LEFT_OUT:
            warnings.append(f"{line.where}: {line.name} is left out: an OCI image has no place for it")
            continue
        reader = _READERS.get(line.name)
        if reader is None:
            known = ", ".join(sorted(_READERS))
            raise line.where.invalid(f"{line.name} is not an instruction", f"there are {known}")
        one = reader(line, found.escape)
        if not _may_begin(one) and not any(isinstance(each, From) for each in instructions):
            raise line.where.invalid(f"{line.name} stands before the first FROM", "only ARG may")
        instructions.append(one)
    return Parsed(tuple(instructions), found.escape, tuple(warnings))


def _may_begin(one: Instruction) -> bool:
    """Whether it may stand before the first FROM."""
    return isinstance(one, (From, Arg))


def _flags(line: Line, known: tuple[str, ...], refused: dict[str, str] | None = None) -> dict[str, str]:
    """The flags of a line; each has a value. Raises Invalid for others, with the reason in `refused`."""
    found: dict[str, str] = {}
    for key, value in line.flags:
        if key not in known:
            because = (refused or {}).get(key, f"{line.name} has no such flag")
            hint = f"it has {', '.join(f'--{one}' for one in known)}" if known else ""
            raise line.where.invalid(f"--{key}: {because}", hint)
        if key in found:
            raise line.where.invalid(f"--{key} is there twice")
        if value is None and key != "link":
            raise line.where.invalid(f"--{key} has no value", f"--{key}=VALUE")
        found[key] = value or ""
    return found


def _need(line: Line, what: str) -> None:
    if not line.rest:
        raise line.where.invalid(f"{line.name} needs {what}")


def _from(line: Line, escape: str) -> From:
    flags = _flags(line, ("platform",))
    found = list(words.raw(line.rest, escape, line.where))
    if len(found) not in (1, 3) or (len(found) == 3 and found[1].lower() != "as"):
        raise line.where.invalid(f"it is {line.text!r}", "FROM IMAGE, or FROM IMAGE AS NAME")
    name = found[2].lower() if len(found) == 3 else ""
    if name and (not _STAGE.fullmatch(name) or name == "scratch"):
        because = f"{name!r} can't be the name of a stage"
        raise line.where.invalid(because, "it begins with a letter, and has letters, digits and _ . -")
    return From(line, found[0], flags.get("platform", ""), name)


def _arg(line: Line, escape: str) -> Arg:
    _flags(line, ())
    _need(line, "a name")
    names: list[tuple[str, str | None]] = []
    for word in words.raw(line.rest, escape, line.where):
        name, equals, value = word.partition("=")
        if not name:
            raise line.where.invalid(f"{word!r} has no name")
        names.append((words.unquoted(name, escape, line.where), value if equals else None))
    return Arg(line, tuple(names))


_COPY_REFUSED = {
    "parents": "ctk does not do this",
    "exclude": "ctk does not do this; name it in .containerignore",
    "checksum": "it is for URLs, which ctk does not fetch",
    "keep-git-dir": "it is for git, which ctk does not fetch",
    "unpack": "ctk does not do this: ADD unpacks a local tar, COPY does not",
}


def _copy(line: Line, escape: str) -> Copy:
    is_add = line.name == "ADD"
    flags = _flags(line, ("chown", "chmod", "link", *(() if is_add else ("from",))), _COPY_REFUSED)
    found = list(line.json() or words.raw(line.rest, escape, line.where))
    if line.json() is not None:
        found = [_quoted(word, escape) for word in found]
    if len(found) < 2:
        raise line.where.invalid(f"{line.name} needs a source and a target", f"{line.name} SOURCE… TARGET")
    *sources, target = found
    files = [word for word in sources if not (line.heredocs and "<<" in word)]
    if line.heredocs and len(sources) - len(files) != len(line.heredocs):
        raise line.where.invalid("its here-documents are not understood")
    if line.heredocs and flags.get("from"):
        raise line.where.invalid("a here-document can't be taken --from another image")
    for one in files if is_add else ():
        if _URL.match(one):
            hint = "fetch it in a RUN, which can check it, or beside the build, and COPY it"
            raise line.where.invalid(f"ctk does not fetch {one!r}", hint)
    return Copy(
        line,
        tuple(files),
        target,
        flags.get("from", ""),
        flags.get("chown", ""),
        flags.get("chmod", ""),
        line.heredocs,
        is_add,
    )


def _quoted(word: str, escape: str) -> str:
    """A word of a JSON array as a raw one: its blanks and quotes are its own, its variables are replaced."""
    return "".join(escape + one if one in f"'\"{escape}" else one for one in word)


_RUN_REFUSED = {
    "mount": "ctk does not do this: COPY the files, and remove them in the same stage or use another one",
    "security": "ctk runs no step with more rights",
    "device": "ctk does not do this",
}


def _run(line: Line, escape: str) -> Run:
    flags = _flags(line, ("network",), _RUN_REFUSED)
    _need(line, "a command")
    network = flags.get("network", "")
    if network not in ("", "default", HOST, NONE):
        raise line.where.invalid(f"--network={network}: there are default, {HOST} and {NONE}")
    argv = line.json()
    if argv is not None:
        if not argv:
            raise line.where.invalid("RUN needs a command")
        return Run(line, argv, "", network.replace("default", ""))
    return Run(line, (), _script(line, escape), network.replace("default", ""))


def _script(line: Line, escape: str) -> str:
    """The text for the shell: the command with its here-documents, or only one here-document."""
    if not line.heredocs:
        return line.rest
    first, rest = words.first(line.rest, escape, line.where)
    if not rest and first.startswith("<<"):
        content = line.heredocs[0].content
        if content.startswith("#!"):
            raise line.where.invalid("a here-document with a line #! of its own", "ctk gives it to the shell: SHELL")
        return content
    return line.rest + "\n" + "".join(f"{one.content}{one.name}\n" for one in line.heredocs)


def _pairs(line: Line, escape: str) -> Pairs:
    _flags(line, ())
    _need(line, "KEY=VALUE")
    return Pairs(line, tuple(words.pairs(line.rest, escape, line.where, line.name)))


def _command(line: Line, escape: str) -> Command:  # noqa: ARG001 (as the others)
    _flags(line, ())
    argv = line.json()
    if argv is not None:
        return Command(line, argv, None)
    if line.name == "SHELL":
        raise line.where.invalid("SHELL needs a JSON array", 'SHELL ["/bin/bash", "-c"]')
    return Command(line, (), line.rest or None)


def _one_word(line: Line, escape: str) -> Words:
    _flags(line, ())
    _need(line, "a value")
    if line.name in ("USER", "STOPSIGNAL") and len(found := list(words.raw(line.rest, escape, line.where))) != 1:
        raise line.where.invalid(f"{line.name} has {len(found)} words, and takes one")
    return Words(line, (line.rest,))


def _several_words(line: Line, escape: str) -> Words:
    _flags(line, ())
    _need(line, "a value")
    found = line.json() if line.name == "VOLUME" else None
    if found is not None:
        return Words(line, tuple(_quoted(word, escape) for word in found))
    return Words(line, tuple(words.raw(line.rest, escape, line.where)))


_READERS: dict[str, Callable[[Line, str], Instruction]] = {
    "FROM": _from,
    "ARG": _arg,
    "COPY": _copy,
    "ADD": _copy,
    "RUN": _run,
    "ENV": _pairs,
    "LABEL": _pairs,
    "CMD": _command,
    "ENTRYPOINT": _command,
    "SHELL": _command,
    "USER": _one_word,
    "WORKDIR": _one_word,
    "STOPSIGNAL": _one_word,
    "MAINTAINER": _one_word,
    "EXPOSE": _several_words,
    "VOLUME": _several_words,
}


def ports(text: str, where: Where) -> Iterator[str]:
    """The ports that a word of EXPOSE means, each as `80/tcp`. Raises Invalid."""
    found = _PORT.fullmatch(text.lower())
    low = int(found[1]) if found else -1
    high = int(found[2]) if found and found[2] else low
    if found is None or not 0 <= low <= high < 1 << 16:
        raise where.invalid(f"EXPOSE {text!r} is no port", "EXPOSE 80, 8000-8010 or 53/udp")
    for number in range(low, high + 1):
        yield f"{number}/{found[3] or 'tcp'}"


def check_signal(text: str, where: Where) -> str:
    """The value of STOPSIGNAL. Raises Invalid."""
    word = text.upper().removeprefix("SIG")
    known = 0 < int(word) <= signal.NSIG if word.isdecimal() else f"SIG{word}" in signal.Signals.__members__
    if not known and not _REALTIME.fullmatch(word):
        raise where.invalid(f"STOPSIGNAL {text!r} is no signal", "STOPSIGNAL SIGTERM, or a number")
    return text
