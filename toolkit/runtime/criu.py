"""Talk to CRIU over its own protocol: `criu swrk FD`, protocol buffers on a SOCK_SEQPACKET socket.

A request names descriptors in two ways (CRIU, criu/cr-service.c, setup_opts_from_req). Folders and the status fd are
given by *our* numbers, and criu opens them by /proc/PID/fd of the socket's creator (SO_PEERCRED in socket(7)).
Descriptors to inherit are given by criu's own numbers. So folders go into `images_fd` with our numbers, and the rest
are passed to criu as `extra`.

Source: CRIU, images/rpc.proto. Two wire types of protocol buffers are enough (protobuf.dev, "Encoding"): varints for
numbers and booleans, length-delimited bytes for text and nested messages. So no library is needed.
"""

import os

from toolkit.errors import CtkError, HostLacks, reason
from toolkit.kernel import process
from toolkit.runtime import log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    # The handler of a notification: (its name, the pid that it reports, the fd that came with it or -1).
    Notified = Callable[[str, int, int], None]

DUMP, RESTORE, CHECK, PRE_DUMP, NOTIFY, FEATURE_CHECK, VERSION = 1, 2, 3, 4, 6, 9, 10
_KINDS = {DUMP: "dump", RESTORE: "restore", CHECK: "check", PRE_DUMP: "pre-dump", 9: "feature check", 10: "version"}

# criu_opts: the fields that we use, by name.
_FIELDS = {
    "images_dir_fd": 1, "pid": 2, "leave_running": 3, "ext_unix_sk": 4, "tcp_established": 5, "evasive_devices": 6,
    "shell_job": 7, "file_locks": 8, "log_level": 9, "log_file": 10, "ps": 11, "notify_scripts": 12, "root": 13,
    "parent_img": 14, "track_mem": 15, "auto_dedup": 16, "work_dir_fd": 17, "link_remap": 18, "ext_mnt": 23,
    "manage_cgroups": 24, "cg_root": 25, "rst_sibling": 26, "inherit_fd": 27, "manage_cgroups_mode": 34,
    "external": 37, "empty_ns": 38, "join_ns": 39, "freeze_cgroup": 44, "tcp_skip_in_flight": 46, "lazy_pages": 48,
    "status_fd": 49, "orphan_pts_master": 50, "config_file": 51, "lsm_profile": 53, "lsm_mount_context": 63,
}  # fmt: skip
CGROUP_MODES = {"ignore": 0, "none": 1, "props": 2, "soft": 3, "full": 4, "strict": 5, "": 3}

# A bare name is searched in these folders and not in the caller's PATH, because criu runs as root.
_FOLDERS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
_SOCKET = 3  # the fd of criu's end of the socket
FIRST_EXTRA = 4  # criu's number of the first descriptor that it inherits

_OWN_CONFIG, _RUNC_CONFIG = "/etc/criu/{}.conf", "/etc/criu/runc.conf"
CONFIG_ANNOTATION = "org.criu.config"


def find(name: str) -> str:
    """The path of the criu program. Raises HostLacks."""
    candidates = [name] if "/" in name else [f"{folder}/{name}" for folder in _FOLDERS]
    for path in candidates:
        if os.access(path, os.X_OK):
            return path
    raise HostLacks(
        "checkpoint or restore",
        because=f"{name!r} is not installed",
        hint="install the package criu, or name it with --criu",
    )


def config_file(program: str, annotations: "Mapping[str, str]") -> str:
    """CRIU's settings file for containers, which overrides our request; "" for none. `program` is the name we run as.

    As in runc and crun: the file that the annotation org.criu.config names (none if that is empty), else
    /etc/criu/PROGRAM.conf, else /etc/criu/runc.conf. CRIU ignores a file that does not exist.
    """
    if CONFIG_ANNOTATION in annotations:
        return annotations[CONFIG_ANNOTATION]
    own = _OWN_CONFIG.format(program)
    return own if os.path.exists(own) else _RUNC_CONFIG


def encode(fields: "Sequence[tuple[int, Any]]") -> bytes:
    """A message: numbers and booleans as varints; text, bytes and messages (lists of fields) with their length."""
    out = bytearray()
    for number, value in fields:
        if isinstance(value, int):
            out += _varint(number << 3)
            out += _varint(value & 0xFFFFFFFFFFFFFFFF)  # negative numbers in two's complement of 64 bits
            continue
        data = value.encode() if isinstance(value, str) else value if isinstance(value, bytes) else encode(value)
        out += _varint(number << 3 | 2)
        out += _varint(len(data))
        out += data
    return bytes(out)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def decode(data: bytes) -> "dict[int, Any]":
    """The fields of a message by number, the last of each: int, or bytes. Raises ValueError for anything else."""
    fields: dict[int, Any] = {}
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        kind = key & 7
        if kind == 0:
            fields[key >> 3], at = _read_varint(data, at)
        elif kind == 2:
            length, at = _read_varint(data, at)
            if at + length > len(data):
                raise ValueError("a field ends after its message")
            fields[key >> 3] = data[at : at + length]
            at += length
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            raise ValueError(f"wire type {kind}")
    return fields


def _read_varint(data: bytes, at: int) -> "tuple[int, int]":
    value = shift = 0
    while at < len(data) and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("a number without an end")


def request_options(options: "Mapping[str, Any]") -> bytes:
    """criu_opts; a list gives one field for each element. False, None and "" are left out."""
    fields: list[tuple[int, Any]] = [] if "images_dir_fd" in options else [(1, -1)]
    for name, value in options.items():
        number = _FIELDS[name]
        if isinstance(value, list):
            fields += [(number, item) for item in value]
        elif value is not None and value is not False and value != "":
            fields.append((number, value))
    return encode(fields)


class Session:
    """A running criu. `pid` is its process; its standard streams are ours."""

    def __init__(self, program: str, extra: "Sequence[int]" = ()) -> None:
        """Start it; `extra` are fds that it gets at FIRST_EXTRA and above. Apart from these it inherits 0, 1 and 2."""
        import _socket

        process.close_range(3, 0xFFFFFFFF, process.CLOSE_RANGE_CLOEXEC)  # descriptors that ctk's caller left open

        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        self._end = ours
        # Moved out of the way first: a dup2 must not overwrite a source that is still needed.
        import fcntl

        above = FIRST_EXTRA + len(extra)
        sources = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, above) for fd in (theirs.fileno(), *extra)]
        actions = [(os.POSIX_SPAWN_DUP2, fd, _SOCKET + index) for index, fd in enumerate(sources)]
        try:
            self.pid = os.posix_spawn(
                program,
                ["criu", "swrk", str(_SOCKET)],
                _ENVIRONMENT,
                file_actions=actions,
                setsigmask=(),
                setsigdef=(13, 25),
            )
        except OSError as error:
            raise HostLacks(f"start {program}", because=reason(error)) from None
        finally:
            theirs.close()
            for fd in sources:
                os.close(fd)

    def call(self, kind: int, options: bytes, notified: "Notified | None" = None) -> "dict[int, Any]":
        """Send a request; returns the fields of the response. Raises CtkError if criu fails or dies."""
        what = f"criu {_KINDS.get(kind, kind)}"
        asked = encode([(1, kind), (2, options)] if options else [(1, kind)])
        while True:
            try:
                self._end.send(asked)
                data, ancillary, _, _ = self._end.recvmsg(1 << 16, 64)
            except OSError:  # the socket was closed: criu died
                data = b""
            except KeyboardInterrupt:
                os.kill(self.pid, 9)  # it does not look at the socket while it serves pages
                raise
            if not data:
                raise CtkError(what, because="criu ended without a response")
            fd = -1
            for level, message, payload in ancillary:
                if (level, message) == (1, 1):  # SOL_SOCKET, SCM_RIGHTS
                    fd = int.from_bytes(payload[:4], "little")
            try:
                answer = decode(data)
            except ValueError as error:
                raise CtkError(what, because=f"criu's response is not a valid message: {error}") from None
            if answer.get(1) != NOTIFY or not answer.get(2):
                if fd >= 0:
                    os.close(fd)
                if not answer.get(2):
                    number = int(answer.get(7, 0))
                    raise CtkError(f"{what} failed", because=os.strerror(number).lower() if number else "")
                return answer
            notice = decode(answer.get(5, b""))
            name = notice.get(1, b"").decode()
            log.debug(f"criu: {name}")
            try:
                if notified is not None:
                    notified(name, int(notice.get(2, 0)), fd)
            finally:
                if fd >= 0:
                    os.close(fd)
            asked = encode([(1, NOTIFY), (3, True)])

    def close(self) -> int:
        """Close the socket and wait for criu; returns its exit code."""
        self._end.close()
        try:
            return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        except ChildProcessError:
            return 0


def check(program: str) -> int:
    """criu's version (40101 for 4.1.1) if `criu check` succeeds. Raises HostLacks with the problems that it reports."""
    session = Session(program)
    try:
        answer = decode(session.call(VERSION, b"").get(10, b""))
        version = int(answer.get(1, 0)) * 10000 + int(answer.get(2, 0)) * 100 + int(answer.get(4, 0))
    except CtkError:
        version = 0
    finally:
        session.close()
    problem = _checked(program)
    if problem or version < 30000:
        raise HostLacks(
            "use CRIU",
            because=problem or f"{program} is older than 3.0",
            hint=f"`{program} check` says more; the criu of a newer Debian suite may support this kernel",
        )
    return version


def _checked(program: str) -> str:
    """The problems that `criu check` reports, "" if there are none."""
    output = os.memfd_create("criu")
    try:
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, output, 1),
            (os.POSIX_SPAWN_DUP2, output, 2),
        ]
        pid = os.posix_spawn(program, ["criu", "check"], _ENVIRONMENT, file_actions=actions, setsigdef=(13, 25))
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if code == 0:
            return ""
        os.lseek(output, 0, os.SEEK_SET)
        lines = os.read(output, 1 << 16).decode(errors="replace").strip().splitlines()
        wrong = [line for line in lines if line.startswith("Error")] or lines[-1:]
        return "; ".join(wrong[:2]) or f"`criu check` ended with {code}"
    finally:
        os.close(output)


def report_log(folder: str, name: str) -> str:
    """The last error lines of a criu log for a message, with the root cause first; "" if there are none."""
    try:
        fd = os.open(os.path.join(folder, name), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        size = os.fstat(fd).st_size
        os.lseek(fd, max(0, size - (1 << 18)), os.SEEK_SET)
        text = os.read(fd, 1 << 18).decode(errors="replace")
    finally:
        os.close(fd)
    wrong = [line.partition("Error ")[2] for line in text.splitlines() if "Error " in line]
    # criu wants more open files than the host may allow; it logs that as an error, and goes on.
    return "; ".join([line for line in wrong if "RLIMIT_NOFILE" not in line][:3])
