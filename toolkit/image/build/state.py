"""The configuration of the image that is being built: what each instruction changes in it. Pure.

A base image's fields that nobody here knows stay as they are.
"""

import copy
import os
from typing import Any, NamedTuple

from toolkit.image.build import instructions, words
from toolkit.image.build.instructions import Arg, Command, Pairs, Words
from toolkit.image.build.lines import Line
from toolkit.image.build.stages import PROXIES
from toolkit.image.build.words import Scope
from toolkit.image.document.platform import Platform
from toolkit.oci import json_text

_SHELL = ("/bin/sh", "-c")
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Shared(NamedTuple):
    """What is the same for all stages: the ARGs before the first FROM, those that were given, the escape character."""

    args: dict[str, str]
    given: dict[str, str]
    escape: str


class State:
    """A stage: the configuration so far, and the ARGs that count from here on."""

    def __init__(self, base: bytes, platform: Platform, shared: Shared) -> None:
        self.whole: dict[str, Any] = json_text.loads(base, "the configuration of the base image") if base else {}
        self._shared = shared
        self.args: dict[str, str] = {name: shared.given[name] for name in PROXIES if name in shared.given}
        self._has_command = False
        if not base:
            self.whole |= {"architecture": platform.architecture, "os": platform.os}
            if platform.variant:
                self.whole["variant"] = platform.variant
        self.run: dict[str, Any] = dict(self.whole.get("config") or {})
        self.history: list[dict[str, Any]] = list(self.whole.get("history") or ())

    def scope(self, line: Line) -> Scope:
        """What variables mean in this line: ENV goes before ARG."""
        return Scope(self.args | self.env, self._shared.escape, line.where)

    @property
    def env(self) -> dict[str, str]:
        """The environment of the image."""
        return dict(one.partition("=")[::2] for one in self.run.get("Env") or ())

    @property
    def user(self) -> str:
        """USER, "" for root."""
        return str(self.run.get("User") or "")

    @property
    def folder(self) -> str:
        """WORKDIR."""
        return str(self.run.get("WorkingDir") or "/")

    def shell(self, text: str) -> list[str]:
        """The words that carry out a line of the shell's."""
        return [*(self.run.get("Shell") or _SHELL), text]

    def path(self, text: str) -> str:
        """A path of the image as an absolute one; a slash at its end stays."""
        whole = os.path.normpath(os.path.join("/", self.folder, text))
        whole = "/" + whole.lstrip("/")
        return whole + "/" if text.endswith(("/", "/.")) and whole != "/" else whole

    def note(self, created_by: str, *, layer: bool) -> None:
        """One more step of the history."""
        self.history.append({"created": "", "created_by": created_by} | ({} if layer else {"empty_layer": True}))

    def change(self, one: Arg | Pairs | Command | Words) -> None:
        """Apply an instruction that changes no file. Raises Invalid."""
        if isinstance(one, Arg):
            self._arg(one)
        elif isinstance(one, Pairs):
            self._pairs(one)
        elif isinstance(one, Command):
            self._command(one)
        else:
            self._words(one)

    def _arg(self, one: Arg) -> None:
        for name, default in one.names:
            value = self._shared.given.get(name)
            if value is None and default is not None:
                value = words.expand(default, self.scope(one.line))
            if value is None:
                value = self._shared.args.get(name)
            if value is not None:
                self.args[name] = value

    def _pairs(self, one: Pairs) -> None:
        scope = self.scope(one.line)
        found = {words.expand(key, scope): words.expand(value, scope) for key, value in one.pairs}
        if one.line.name == "ENV":
            self.run["Env"] = [f"{key}={value}" for key, value in (self.env | found).items()]
        else:
            self.run["Labels"] = dict(self.run.get("Labels") or {}) | found

    def _command(self, one: Command) -> None:
        argv = self.shell(one.text) if one.text is not None else list(one.argv)
        if one.line.name == "SHELL":
            self.run["Shell"] = argv
        elif one.line.name == "CMD":
            self.run["Cmd"] = argv
            self._has_command = True
        else:
            self.run["Entrypoint"] = argv
            if not self._has_command:  # the base image's was meant for its own entrypoint
                self.run.pop("Cmd", None)

    def _words(self, one: Words) -> None:
        scope, where = self.scope(one.line), one.line.where
        if one.line.name == "EXPOSE":
            ports = [port for text in one.words for word in words.expand_words(text, scope)
                     for port in instructions.ports(word, where)]  # fmt: skip
            self.run["ExposedPorts"] = dict(self.run.get("ExposedPorts") or {}) | {port: {} for port in ports}
            return
        if one.line.name == "VOLUME":
            paths = [words.expand(text, scope) for text in one.words]
            if not all(path.strip() for path in paths):
                raise where.invalid("VOLUME has an empty path")
            self.run["Volumes"] = dict(self.run.get("Volumes") or {}) | {path: {} for path in paths}
            return
        text = words.expand(one.words[0], scope)
        if not text:
            raise where.invalid(f"{one.line.name} {one.words[0]!r} is empty here")
        match one.line.name:
            case "USER":
                self.run["User"] = text
            case "WORKDIR":
                self.run["WorkingDir"] = self.path(text.rstrip("/") or "/")
            case "STOPSIGNAL":
                self.run["StopSignal"] = instructions.check_signal(text, where)
            case _:
                self.whole["author"] = text

    def environment(self) -> dict[str, str]:
        """What a RUN sees: ARGs, and the image's environment, which goes before them."""
        return self.args | self.env

    def document(self, diff_ids: list[str]) -> bytes:
        """The configuration as bytes, without the time of this build: `dated` fills it in."""
        whole = copy.copy(self.whole)
        whole["created"] = ""
        run = {key: value for key, value in self.run.items() if value not in (None, [], {}, "")}
        whole.pop("config", None)
        if run:
            whole["config"] = run
        whole["rootfs"] = {"type": "layers", "diff_ids": diff_ids}
        whole["history"] = self.history
        return json_text.dumps(whole).encode()


def dated(document: bytes, created: str) -> bytes:
    """A configuration of `State.document` as that of an image which is made now."""
    whole = json_text.loads(document, "the configuration of this build")
    for one in (whole, *whole["history"]):
        if one.get("created") == "":
            one["created"] = created
    return json_text.dumps(whole).encode()
