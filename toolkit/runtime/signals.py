"""Signals by name and number, and sending them to the right process, even if pids are reused."""

import _signal
import os

from toolkit.errors import CtkError, SystemCall, reason
from toolkit.runtime import lifecycle
from toolkit.text import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.runtime.record import Record

SIGKILL = 9
HARMLESS = frozenset((0, 17, 18, 19, 20, 21, 22, 23, 28))
"""Signals whose default action is not to end the process (signal(7)), and 0."""

# signal(7), the numbers of x86, ARM, RISC-V, LoongArch, s390 and POWER.
_NAMES = {
    name: number
    for number, name in enumerate(
        (
            "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP TTIN "
            "TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS"
        ).split(),
        1,
    )
} | {"IOT": 6, "CLD": 17, "POLL": 29}
_REALTIME_FIRST = 34  # glibc's SIGRTMIN: it keeps 32 and 33 for itself
_LAST = 64


def parse(text: str) -> int:
    """The number of a signal: "9", "KILL", "SIGKILL", "rtmin+3". Raises CtkError for an unknown one."""
    digits = text.removeprefix("-")
    if digits.isascii() and digits.isdigit():
        number = int(digits) if len(digits) < 4 else _LAST + 1
        if number <= _LAST:
            return number
    else:
        name = text.upper().removeprefix("SIG")
        if name in _NAMES:
            return _NAMES[name]
        base, offset = name[:5], name[6:]
        if base in ("RTMIN", "RTMAX") and (not name[5:] or (name[5] in "+-" and offset.isdigit() and len(offset) < 3)):
            number = _REALTIME_FIRST if base == "RTMIN" else _LAST
            number += int(offset or 0) * (-1 if name[5:6] == "-" else 1)
            if _REALTIME_FIRST <= number <= _LAST:
                return number
    raise CtkError(f'unknown signal "{text}"', hint="write it as TERM, SIGTERM or 15; see signal(7)")


def open_init(record: "Record") -> int:
    """A pidfd of the container's first process. Raises CtkError ("container not running") if it has ended.

    The pidfd is opened first and its identity checked afterwards: a pid that was reused in between would have another
    start time, and a pidfd of a process that has ended accepts no signal.
    """
    if record.pid > 0:
        try:
            pidfd = os.pidfd_open(record.pid)  # not kernel/process.py: `delete` and `kill` do not load _ctypes
        except (OSError, OverflowError):  # a damaged record may have a number that does not fit a pid_t
            raise _not_running(record) from None
        if lifecycle.alive(record):
            return pidfd
        os.close(pidfd)
    raise _not_running(record)


def _not_running(record: "Record") -> CtkError:
    return CtkError("container not running", hint=f"its program has ended: ctk delete {quote(record.id)}", code="E013")


def send(pidfd: int, signal: int) -> bool:
    """Send a signal; False if the process has ended meanwhile. Raises SystemCall."""
    try:
        _signal.pidfd_send_signal(pidfd, signal)
    except ProcessLookupError:
        return False
    except OSError as error:
        raise SystemCall(f"pidfd_send_signal({pidfd}, {signal}, NULL, 0)", error.errno or 0, reason(error)) from None
    return True


def wait_for_end(pidfd: int, timeout_s: float) -> bool:
    """Wait until the process has ended (as a zombie too); False if it has not after `timeout_s`."""
    import select

    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    # poll(2) counts milliseconds in an int, at most 24 days: treat more as forever.
    return bool(poll.poll(timeout_s * 1000 if timeout_s * 1000 < 2**31 else None))


def send_to_pids(pids: "list[int]", signal: int) -> None:
    """Send a signal to processes just read from a cgroup; those that have ended are ignored."""
    for pid in pids:
        try:
            os.kill(pid, signal)
        except ProcessLookupError:
            pass
