"""The errors that ctk expects, as a tree of exception classes.

CtkError
├── Usage             the command line is not one we know                         exit 1
├── NotFound          a container, file, suite or package that is not there       exit 1
├── InUse             an id, a target or a lock that another process holds        exit 1
├── Invalid           a document that violates its standard; `path` is a JSON path  exit 1
├── HostLacks         the kernel or the host does not offer what was asked        exit 1
├── SystemCall        a system call failed; the message is the call, as strace shows it
├── LaunchFailed      the container's program could not be started                exit 1 (exec: 255)
├── ArchiveError      a mirror, its signatures, indexes and packages
│   ├── Unreachable       no response, or an unexpected one
│   ├── Untrusted         no keyring, bad signature, wrong hash, expired
│   ├── Malformed         not in the format that it claims to have
│   └── Unsolvable        the requested packages cannot be installed together
├── BuildFailed       a step inside the new root failed; carries the last lines and the log's path
└── Interrupted       Ctrl-C or SIGTERM, after the clean-up                       exit 130 / 143

An error says what we were doing, what stopped us, and what to try: `CtkError(doing, because=…, hint=…)`. An expected
failure is a CtkError; any other exception is a bug and shows its traceback. Only `cli` and `runtime.main` exit.

This module is on the runtime's hot path: it imports nothing.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


LONGEST = 2000  # characters of an error message


def bounded(text: str) -> str:
    """`text`, with its middle cut out if it is longer than `LONGEST`.

    An error may quote part of a document or a command line, which can be megabytes long or hold a secret. The beginning
    says what was being done and the end what stopped it, so these two are kept.
    """
    if len(text) <= LONGEST:
        return text
    head, tail = LONGEST * 2 // 3, LONGEST // 4
    return f"{text[:head]} [… {len(text) - head - tail} characters …] {text[-tail:]}"


def reason(error: OSError) -> str:
    """The system's text for the error, in the form that follows a colon: "no such file or directory"."""
    return (error.strerror or str(error)).lower()


def reason_and_path(error: OSError) -> str:
    """The same, followed by the file's name if the error has one."""
    return f"{reason(error)} ({error.filename!r})" if error.filename else reason(error)


class CtkError(Exception):
    """An expected failure: `doing` (what we did), `because` (what stopped us), `hint` (what to try).

    Its string has at most `LONGEST` characters.
    """

    exit_code = 1
    code = "E001"

    def __init__(
        self,
        doing: str,
        *,
        because: str = "",
        hint: str = "",
        code: str = "",
        exit_code: int = 0,
    ) -> None:
        super().__init__(doing)
        self.doing = doing
        self.because = because
        self.hint = hint
        if code:
            self.code = code
        if exit_code:
            self.exit_code = exit_code

    def __str__(self) -> str:
        return bounded(f"{self.doing}: {self.because}" if self.because else self.doing)


class Usage(CtkError):
    code = "E010"


class NotFound(CtkError):
    code = "E011"


class InUse(CtkError):
    code = "E012"


class Invalid(CtkError):
    """A document that violates its standard. `path` is the JSON path of the offending value."""

    code = "E020"

    def __init__(self, path: str, because: str, *, hint: str = "", document: str = "config.json") -> None:
        super().__init__(f"{document}: {path}" if path else document, because=because, hint=hint)
        self.path = path


class HostLacks(CtkError):
    code = "E030"


class SystemCall(CtkError):
    """A system call failed. `errno` is the kernel's number; `call` is strace's notation of the call."""

    code = "E040"

    def __init__(self, call: str, errno: int, reason: str, *, hint: str = "") -> None:
        super().__init__(call, because=reason, hint=hint)
        self.call = call
        self.errno = errno


class LaunchFailed(CtkError):
    code = "E042"


class ArchiveError(CtkError):
    code = "E060"


class Unreachable(ArchiveError):
    code = "E061"


class Untrusted(ArchiveError):
    code = "E062"


class Malformed(ArchiveError):
    code = "E063"


class Unsolvable(ArchiveError):
    code = "E064"


class BuildFailed(CtkError):
    """A step in the new root failed. `tail` holds the last lines of its output, `log` the path of the whole log."""

    code = "E070"

    def __init__(
        self, doing: str, *, because: str = "", hint: str = "", tail: "Sequence[str]" = (), log: str = ""
    ) -> None:
        super().__init__(doing, because=because, hint=hint)
        self.tail = tuple(tail)
        self.log = log


class Interrupted(CtkError):
    exit_code = 130
    code = "E099"
