"""Hooks in a launch's script: each gets the container's state on its standard input, as with ctk.

Comments at the top of the script say what a shell can't do: argv[0] is always the hook's path.
"""

from collections.abc import Callable, Sequence
from typing import Any

from toolkit.explain.launch import Launch
from toolkit.oci.json_text import dumps
from toolkit.oci.state import for_hooks
from toolkit.text import one_line, quote

Hook = dict[str, Any]

FROM_OUTSIDE = ("prestart", "createRuntime")


def of(launch: Launch, kind: str) -> list[Hook]:
    """The hooks of one kind, in order."""
    return list((launch.spec.get("hooks") or {}).get(kind) or ())


def awaited(launch: Launch) -> bool:
    """Does any hook run before the new root is entered?"""
    return any(of(launch, kind) for kind in (*FROM_OUTSIDE, "createContainer"))


def state_function(launch: Launch) -> list[str]:
    """A shell function: `state STATUS [PID]` writes the state's JSON with this status and pid."""
    head, tail = _ends(launch)
    return [f'state() {{ printf \'%s%s"%s%s\' {quote(head)} "$1" "${{2:+,\\"pid\\":$2}}" {quote(tail)}; }}']


def _ends(launch: Launch) -> tuple[str, str]:
    told = for_hooks(launch.id, 0, "", launch.bundle, launch.spec.get("annotations") or {})
    head, mark, tail = dumps(told).partition('"status":""')
    return head + mark[:-1], tail


def lines(launch: Launch, kind: str, status: str, pid: str) -> list[str]:
    """The hooks of a kind as lines for a shell of the host that has state(); `pid` is shell text, "" for none."""
    told = []
    for index, hook in enumerate(of(launch, kind)):
        words = ["timeout", "-s", "KILL", str(hook["timeout"])] if hook.get("timeout") else []
        if "env" in hook:
            words += ["env", "-i", *(quote(each) for each in hook["env"] or () if each.partition("=")[0])]
            if "=" in hook["path"]:  # env(1) would take it for a variable
                words += ["/bin/sh", "-c", quote('exec "$@"'), "sh"]
        words += [quote(hook["path"]), *map(quote, (hook.get("args") or ())[1:])]
        run = f"(cd {quote(launch.bundle)} && exec {' '.join(words)})"
        told += [
            f"# {one_line(hook['path'])}  (hooks.{kind}[{index}])",
            f"state {status}{' ' + pid if pid else ''} | {run} > /dev/null",
        ]
    return told


def in_container(launch: Launch, export: Sequence[str], exported: Callable[[Sequence[str]], list[str]]) -> list[str]:
    """The startContainer hooks as lines of the waiting shell. It has only builtins, /dev/null as descriptor 7, and its
    own pid in $0. `export` sets the program's variables, which a hook without an env of its own gets.
    """
    told = []
    head, tail = _ends(launch)
    state = f'printf \'%s%s","pid":%s%s\' {quote(head)} created "$0" {quote(tail)}'
    for hook in of(launch, "startContainer"):
        own = [
            f"export {each.partition('=')[0]}={quote(each.partition('=')[2])}"
            for each in exported(hook.get("env") or ())
        ]
        words = [quote(hook["path"]), *map(quote, (hook.get("args") or ())[1:])]
        given = "; ".join([*(own if hook.get("env") else export), f"exec {' '.join(words)}"])
        told.append(f"{state} | ({given}) >&7 2>&7 || exit 1")
    return told


def left_out(launch: Launch) -> list[str]:
    """What the script leaves out about hooks."""
    every = [hook for kind in (launch.spec.get("hooks") or {}) for hook in of(launch, kind)]
    missing = []
    if any((hook.get("args") or [hook["path"]])[0] != hook["path"] for hook in every if isinstance(hook, dict)):
        missing.append("args[0] of hooks: a shell calls a program by its path")
    if any(hook.get("timeout") for hook in of(launch, "startContainer")):
        missing.append("the timeout of startContainer hooks: timeout(1) is out of reach by then")
    return missing
