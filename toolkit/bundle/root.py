"""Edits of `root`, and checks that the root file system has the command to start."""

import json
import os
import stat

from toolkit.bundle.document import Edit, Spec
from toolkit.errors import NotFound
from toolkit.text import quote

_LINKS_MAX = 40  # path_resolution(7): the kernel gives up with ELOOP after 40


def rootfs(path: str, bundle: str) -> Edit:
    """`root.path`: relative if `path` is inside `bundle`, so that the bundle can be moved; absolute otherwise."""
    whole, home = os.path.abspath(path), os.path.abspath(bundle)
    inside = whole.startswith(home + "/")
    value = os.path.relpath(whole, home) if inside else whole

    def edit(spec: Spec) -> Spec:
        spec.setdefault("root", {})["path"] = value
        return spec

    return edit


def read_only(wanted: bool) -> Edit:
    """`root.readonly`. False may be written by leaving the field out, as in runc's spec."""

    def edit(spec: Spec) -> Spec:
        root = spec.setdefault("root", {})
        if wanted:
            root["readonly"] = True
        else:
            root.pop("readonly", None)
        return spec

    return edit


def inside(root: str, path: str) -> str:
    """The path on the host of `path` in `root`, with symlinks followed inside `root`; '' for a loop of links.

    For checks only, as a hostile tree can change meanwhile. What acts on a path in a container's root uses
    kernel/beneath.py.
    """
    todo = [part for part in path.split("/") if part]
    at: list[str] = []
    links = 0
    while todo:
        part = todo.pop(0)
        if part == ".":
            continue
        if part == "..":
            del at[-1:]
            continue
        here = "/".join([root, *at, part])
        try:
            target = os.readlink(here)
        except OSError:
            at.append(part)
            continue
        links += 1
        if links > _LINKS_MAX:
            return ""
        if target.startswith("/"):
            at = []
        todo = [piece for piece in target.split("/") if piece] + todo
    return "/".join([root, *at])


def find_command(root: str, command: str, env: list[str], cwd: str = "/") -> str:
    """The path in `root` that execvp(3) would execute for `command`; '' if there is none."""
    if "/" in command:
        candidates = [command if command.startswith("/") else os.path.join(cwd, command)]
    else:
        search = next((entry[5:] for entry in env if entry.startswith("PATH=")), "/usr/local/bin:/usr/bin:/bin")
        candidates = [os.path.join(folder, command) for folder in search.split(":") if folder]
    for candidate in candidates:
        try:
            found = os.stat(inside(root, candidate) or "/nonexistent")
        except OSError:
            continue
        if stat.S_ISREG(found.st_mode) and found.st_mode & 0o111:
            return candidate
    return ""


def shell(path: str) -> str:
    """The best interactive shell in the root file system at `path`: bash if it exists, else sh."""
    env = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
    return next((name for name in ("bash", "sh") if find_command(path, name, env)), "sh")


def check(path: str) -> None:
    """Raise NotFound unless `path` is a folder that is not empty."""
    doing = f"use {path!r} as the root file system"
    hint = f"make one: ctk bootstrap bookworm {quote(path)}"
    try:
        entries = os.listdir(path)
    except FileNotFoundError:
        raise NotFound(doing, because="no such folder", hint=hint) from None
    except NotADirectoryError:
        raise NotFound(doing, because="it is not a folder", hint=hint) from None
    except PermissionError:
        raise NotFound(doing, because="permission denied", hint="run as the user that made it") from None
    if not entries:
        raise NotFound(doing, because="it is empty", hint=hint)


def check_command(path: str, spec: Spec) -> None:
    """Raise NotFound unless the root file system at `path` has the program in `process.args`."""
    process = spec.get("process") or {}
    args = process.get("args") or []
    if not args:
        return
    command, env = args[0], process.get("env") or []
    if find_command(path, command, env, process.get("cwd") or "/"):
        return
    doing = f"find {command!r} in {path!r}"
    first = command.split(" ")[0]
    if first != command and find_command(path, first, env):
        words = ", ".join(json.dumps(word) for word in command.split())
        raise NotFound(
            doing, because="the first argument contains a whole command line", hint=f"did you mean [{words}]?"
        )
    if "/" in command:
        raise NotFound(doing, because="no such program", hint="name a program that is in the root file system")
    search = next((entry[5:] for entry in env if entry.startswith("PATH=")), "")
    raise NotFound(
        doing,
        because=f"no such program in its PATH ({search})",
        hint=f"install it (ctk bootstrap --include=PACKAGE), or look with: ls {quote(f'{path}/usr/bin')}",
    )
