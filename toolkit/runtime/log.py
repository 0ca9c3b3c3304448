"""Log lines as engines read them: runc's, which are logrus's.

Text: `time="2026-01-31T10:00:00Z" level=error msg="..."`; JSON: `{"level":"error","msg":"...","time":"..."}`, one a
line. They go to standard error, or to `--log FILE`; containerd shows its user the last JSON line of level error.
"""

import os
import time

from toolkit.errors import CtkError, bounded, reason
from toolkit.text import escape, in_json, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.runtime.options import Options

_fd = 2
_json = False
_debug = False


def configure(options: "Options") -> None:
    """Send the lines to where the global options say. Raises OSError if the log file cannot be opened."""
    global _fd, _json, _debug
    _json = options.log_format == "json"
    _debug = options.debug
    if options.log:
        _fd = os.open(options.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)


def to_file() -> bool:
    """Whether the lines go to a file, so that standard error needs the message too."""
    return _fd != 2


def structured() -> bool:
    """Whether a program reads the lines: they go to a file, are JSON, or standard error is not a terminal."""
    return _fd != 2 or _json or _debug or not os.isatty(2)


def debug(message: str) -> None:
    """A line of level debug; nothing without `--debug`."""
    if _debug:
        _line("debug", message)


def debugging() -> bool:
    """Whether `--debug` was given, to avoid building messages that are not needed."""
    return _debug


def warning(message: str) -> None:
    """A line of level warning."""
    _line("warning", message)


def error(message: str) -> None:
    """A line of level error."""
    _line("error", message)


def _line(level: str, message: str) -> None:
    now = timestamp()
    message = bounded(message)
    if _json:
        from toolkit.oci.json_text import dumps

        text = in_json(dumps({"level": level, "msg": message, "time": now}))
    else:
        text = f'time="{now}" level={level} msg={_value(message)}'
    write(_fd, text + "\n")


def timestamp() -> str:
    """The local time as RFC 3339 writes it, in whole seconds."""
    now = time.localtime()
    offset = now.tm_gmtoff // 60
    zone = f"{'-' if offset < 0 else '+'}{abs(offset) // 60:02}:{abs(offset) % 60:02}" if offset else "Z"
    return time.strftime("%Y-%m-%dT%H:%M:%S", now) + zone


_BARE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._/@^+")
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r", "\a": "\\a", "\b": "\\b"}


def _value(text: str) -> str:
    """A logfmt value: bare if it can be, else in Go's quotes. No control character reaches a terminal."""
    if text and _BARE.issuperset(text):
        return text
    return '"' + "".join(_ESCAPES.get(c) or (c if c.isprintable() else escape(c)) for c in text) + '"'


def write(fd: int, text: str) -> None:
    """Write all of `text`; a reader that has closed its end is not an error (there is still the exit code)."""
    data = text.encode("utf-8", "surrogateescape")
    while data:
        try:
            data = data[os.write(fd, data) :]
        except BrokenPipeError:
            return
        except BlockingIOError:
            import select

            select.select((), (fd,), ())
        except OSError:
            if fd == 1:
                raise
            return


def out(text: str) -> None:
    """Write a verb's result to standard output. Raises CtkError (a full disk), but not for a closed pipe."""
    try:
        write(1, text)
    except OSError as error:
        raise CtkError("write /dev/stdout", because=reason(error), hint="send it somewhere else") from None


def say(message: str) -> None:
    """Write `message` to standard error for the user, with anything escaped that could control the terminal."""
    write(2, printable(message))


def program_name(argv0: str) -> str:
    """The program's name in messages: the base name of argv[0], or `ctk` if Python was called by hand."""
    name = argv0.rpartition("/")[2]
    return "ctk" if name in ("", "-c", "__main__.py") or name.startswith("python") else name
