"""Explain why a container ended: the memory limit, a signal by its name, the exit codes with a meaning."""

import os
import time

from toolkit.errors import CtkError
from toolkit.kernel import reading
from toolkit.runtime import log, record, signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NotRequired, TypedDict

    from toolkit.oci.types import Process, Spec
    from toolkit.runtime.comfort.oom import Kills, Watch
    from toolkit.runtime.record import Record

    class End(TypedDict):
        """The facts of a container's end."""

        id: str
        at: str
        code: int
        signal: int  # 0: none
        why: NotRequired[str]  # why its program could not be executed
        oom: NotRequired[Kills]


_NO_LIMIT = 1 << 60
_KILL = 9
_SOON_S = 3.0
"""For this long after a kill was reported it may be the cause of the end: the kernel frees all that memory first."""


def facts(container: "Record", code: int, signal: int, watch: "Watch | None" = None) -> "End":
    """The facts of the end, while the cgroups still exist: exit code, signal (0: none), memory in bytes.

    `watch` has watched for OOM kills since the start.
    """
    found: "End" = {"id": container.id, "at": record.now(), "code": code, "signal": signal}
    if code in (126, 127):
        try:
            found["why"] = why_not_executed(container.rootfs, container.config().get("process") or {})
        except CtkError:
            pass
    from toolkit.runtime import cgroups
    from toolkit.runtime.comfort import oom

    killed: "Kills" = {}
    try:
        killed = oom.facts(cgroups.from_facts(container.cgroups))
    except (CtkError, OSError, KeyError):
        pass  # no cgroups, or gone already: the rest is still worth reporting
    if not killed and watch is not None:
        killed = {**(watch.found or watch.logged())}
    if killed:
        found["oom"] = killed
        if watch is not None and watch.told_s >= 0:
            killed["before_s"] = round(time.monotonic() - watch.told_s, 1)
    return found


def why_not_executed(root: str, the_process: "Process") -> str:
    """Why the container's program can't be executed, from its first bytes; "" if no reason is found."""
    from toolkit.kernel import beneath
    from toolkit.runtime import executable

    name = (the_process.get("args") or [""])[0]
    path = next((entry[5:] for entry in reversed(the_process.get("env") or []) if entry.startswith("PATH=")), "")
    candidates = [name] if "/" in name else [f"{folder}/{name}" for folder in path.split(":")]
    try:
        root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return ""

    def there(inside: str) -> bool:
        try:
            os.close(beneath.open_beneath(root_fd, inside, os.O_PATH))
        except CtkError:
            return False
        return True

    try:
        for candidate in candidates:
            if there(candidate):
                fd = beneath.open_beneath(root_fd, candidate, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
                try:
                    return executable.explain(os.read(fd, 1024), there) or _rights_of_the_file(fd, the_process)
                finally:
                    os.close(fd)
    except (CtkError, OSError):
        pass
    finally:
        os.close(root_fd)
    return ""


def _rights_of_the_file(fd: int, the_process: "Process") -> str:
    """The reason if a file requires capabilities that the container may not have; "" if it does not."""
    from toolkit.kernel import capabilities

    bounding = (the_process.get("capabilities") or {}).get("bounding") or ()
    missing = capabilities.names(capabilities.insisted_on(fd) & ~capabilities.mask(bounding))
    return f"its file requires {', '.join(missing)}, which the container may not have" if missing else ""


def sentence(found: "End", spec: "Spec | None" = None) -> str:
    """One line, without the program's name in front; "" for an end that needs no explanation."""
    code, signal, oom = found["code"], found["signal"], found.get("oom")
    if oom:
        limit = oom["limit"]
        cause = f"memory limit of {_size(limit)} reached" if 0 < limit < _NO_LIMIT else "the host was short of memory"
        if oom["peak"]:
            cause += f", peak {_size(oom['peak'])}"
        if (signal == _KILL or code == 128 + _KILL) and oom.get("before_s", 0.0) > _SOON_S:
            who = f"killed by SIGKILL, not by the kernel, which killed in it {oom['before_s']:.0f} s before"
            return f"{who}: {cause}" + _code(code, signal)
        who = "killed by the kernel" if signal == 9 or code == 137 else "processes in it were killed by the kernel"
        return f"{who}: {cause}" + (f" ({oom['kills']} times)" if oom["kills"] > 1 else "") + _code(code, signal)
    if signal:
        return f"killed by {signal_name(signal)}"
    args = ((spec or {}).get("process") or {}).get("args") or ["its program"]
    if code in (126, 127) and found.get("why"):
        return f"exit code {code}: {args[0]!r} could not be executed: {found['why']}"
    if code == 125:
        return "exit code 125: by convention, the tool that started a program failed, not the program"
    # If the shell itself did not exist, there would have been an error before.
    shell = args[0].rpartition("/")[2] in ("sh", "bash", "dash", "ash", "zsh")
    who = f"a command that {args[0]!r} ran" if shell else f"{args[0]!r}, or a command that it called,"
    if code == 126:
        return f"exit code 126: {who} can't be executed (mode, format, noexec?)"
    if code == 127:
        return f"exit code 127: {who} was not found"
    if 128 < code <= 128 + 64:
        return f"exit code {code}: a program in it was ended by {signal_name(code - 128)}, it says"
    return f"exit code {code}" if code else ""


def _code(code: int, signal: int) -> str:
    return "" if signal else f"; exit code {code}"


def signal_name(number: int) -> str:
    """SIGTERM for 15."""
    names = {value: name for name, value in reversed(signals._NAMES.items())}
    return f"SIG{names[number]}" if number in names else f"signal {number}"


def _size(count: int) -> str:
    for unit, shift in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if count >= 1 << shift:
            text = f"{count / (1 << shift):.1f}".removesuffix(".0")
            return f"{text} {unit}"
    return f"{count} bytes"


def tell(found: "End", spec: "Spec | None" = None, *, asked: bool = True) -> None:
    """Print it on standard error. If not `asked` for, leave out what the user's shell shows: plain codes, Ctrl-C."""
    code = found["code"]
    if not asked and not found.get("oom") and not found["signal"] and (code < 125 or code == 130):
        return
    if text := sentence(found, spec):
        log.say(f"ctk: {found['id']}: {text}\n")


FILE = "ended.json"


def keep(container: "Record", found: "End") -> None:
    """Write it into the record, for `ctk logs`. Raises CtkError."""
    from toolkit.oci import json_text

    container._replace(FILE, json_text.dumps(found).encode())


def kept(container: "Record") -> "End | None":
    """The facts that `keep` wrote; None while the container runs, or if it had no holder."""
    from toolkit.oci import json_text

    try:
        found: "Any" = json_text.loads(reading.read(os.path.join(container.folder, FILE)), FILE)
    except (OSError, CtkError):
        return None
    end: "End" = found
    return end if isinstance(found, dict) and {"id", "code", "signal"} <= found.keys() else None
