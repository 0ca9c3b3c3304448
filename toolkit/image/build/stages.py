"""The stages of a Containerfile: what each is made of, and which of them are needed. Pure."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from toolkit.errors import Invalid, NotFound
from toolkit.image.build import words
from toolkit.image.build.instructions import Arg, Copy, From, Instruction, Parsed
from toolkit.image.build.words import Scope
from toolkit.image.document.platform import Platform

SCRATCH = "scratch"
# ARGs that need not be declared (Dockerfile reference, "Predefined ARGs"); they are no part of a cache's key.
PROXIES = tuple(
    one for name in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY") for one in (name, name.lower())
)


class Stage(NamedTuple):
    """A stage. `base` is the index of an earlier one, or the name of an image, or SCRATCH."""

    number: int
    name: str
    head: From
    base: int | str
    steps: tuple[Instruction, ...]

    @property
    def title(self) -> str:
        """What it is called in messages."""
        return self.name or f"stage {self.number}"


class Plan(NamedTuple):
    """The stages that the target needs, in order; the last is the target. `args` are the ARGs before the first FROM."""

    stages: tuple[Stage, ...]
    args: Mapping[str, str]
    escape: str
    declared: frozenset[str]


def plan(parsed: Parsed, build_args: Mapping[str, str], host: Platform, file: str, target: str = "") -> Plan:
    """What is to be built. Raises Invalid; NotFound if there is no such target."""
    given = dict(build_args)
    args = _platform_args(host)
    stages: list[Stage] = []
    steps: list[Instruction] = []
    declared: set[str] = set(PROXIES) | set(args)
    for one in parsed.instructions:
        if isinstance(one, Arg):
            declared.update(name for name, _ in one.names)
        if isinstance(one, From):
            if stages:
                stages[-1] = stages[-1]._replace(steps=tuple(steps))
            steps = []
            stages.append(_stage(one, stages, Scope(args, parsed.escape, one.line.where), host))
        elif not stages:
            assert isinstance(one, Arg)
            _take(one, args, given, parsed.escape)
        else:
            steps.append(one)
    if not stages:
        raise Invalid("", "it has no FROM", document=file)
    stages[-1] = stages[-1]._replace(steps=tuple(steps))
    return Plan(_needed(stages, target, file), args, parsed.escape, frozenset(declared))


def _take(one: Arg, args: dict[str, str], given: Mapping[str, str], escape: str) -> None:
    for name, default in one.names:
        if name in given:
            args[name] = given[name]
        elif default is not None:
            args[name] = words.expand(default, Scope(args, escape, one.line.where))


def _platform_args(host: Platform) -> dict[str, str]:
    """Docker's ARGs about platforms. ctk builds for this machine only."""
    found = {"PLATFORM": str(host), "OS": host.os, "ARCH": host.architecture, "VARIANT": host.variant}
    return {f"{side}{name}": value for side in ("TARGET", "BUILD") for name, value in found.items()}


def _stage(one: From, before: Sequence[Stage], scope: Scope, host: Platform) -> Stage:
    where = one.line.where
    wanted = words.expand(one.platform, scope)
    if wanted and not _is_here(wanted, host):
        raise where.invalid(f"--platform={wanted}: this machine is {host}, and ctk builds for no other")
    image = words.expand(one.image, scope)
    if not image:
        raise where.invalid(f"{one.image!r} is empty here", "ARG before the first FROM gives a default")
    if one.name and any(each.name == one.name for each in before):
        raise where.invalid(f"there is a stage {one.name!r} already")
    return Stage(len(before), one.name, one, _named(image, before, numbers=False), ())


def _is_here(wanted: str, host: Platform) -> bool:
    return wanted in (str(host), f"{host.os}/{host.architecture}")


def _named(text: str, before: Sequence[Stage], *, numbers: bool = True) -> int | str:
    """The stage of this name or number; the text itself if it is none."""
    for each in before:
        if each.name and each.name == text.lower():
            return each.number
    if numbers and text.isdecimal() and int(text) < len(before):
        return int(text)
    return text


def source(copy: Copy, stage: Stage, known: Sequence[Stage], scope: Scope) -> int | str | None:
    """Where a COPY takes from: an earlier stage, an image, None for the build's folder. Raises Invalid."""
    if not copy.source_image:
        return None
    text = words.expand(copy.source_image, scope)
    found = _named(text, [each for each in known if each.number < stage.number])
    if isinstance(found, str) and (not found or found == SCRATCH or found.isdecimal() or found.lower() == stage.name):
        raise copy.line.where.invalid(f"--from={text}: no stage before this one is called so")
    return found


def _needed(stages: list[Stage], target: str, file: str) -> tuple[Stage, ...]:
    wanted = stages[-1]
    if target:
        found = _named(target, stages)
        if isinstance(found, str):
            known = ", ".join(each.title for each in stages)
            raise NotFound(f"build the stage {target!r} of {file}", because=f"it has {known}")
        wanted = stages[found]
    needed = {wanted.number}
    for each in reversed(stages[: wanted.number + 1]):
        if each.number not in needed:
            continue
        if isinstance(each.base, int):
            needed.add(each.base)
        for step in each.steps:
            if isinstance(step, Copy):
                # The name of a stage can't have variables in it where it is needed: they are known when it is built.
                found = _named(step.source_image, stages[: each.number])
                if isinstance(found, int):
                    needed.add(found)
                elif "$" in step.source_image:
                    needed.update(range(each.number))
    return tuple(each for each in stages if each.number in needed)
