"""Build as an ordinary user: the whole build runs as root of a user namespace, in a process of its own.

    ctk ── starts ──> builder: unshares a user namespace, reports it
     │ newuidmap(1), newgidmap(1) write its maps: 0 is the user, 1… the subordinate ids of /etc/subuid and /etc/subgid
     └──── the request in, events and the result out, over pipes ────┘

It is a process of its own because a process with a second thread (here the live display) can't unshare a user
namespace.

Without subordinate ids only the user's own id can be mapped. Then every file belongs to that id, and chown(2) does
nothing and succeeds (kernel/seccomp_noop.py): such a tree runs shells and compilers, but no service that drops its
privileges.
"""

import os
import pickle
import shutil
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from toolkit import errors, places
from toolkit.children import interpreter
from toolkit.errors import BuildFailed, CtkError, HostLacks, SystemCall, reason
from toolkit.events import Emit, Event, Note
from toolkit.kernel import namespaces, process, seccomp_noop, subids
from toolkit.kernel.host import HostFacts

if TYPE_CHECKING:
    import subprocess

_PATH = "/usr/bin:/usr/local/bin:/bin"
_DOING = "become root of a user namespace"

Map = list[tuple[int, int, int]]
Argument = TypeVar("Argument")
Result = TypeVar("Result")


def as_root(function: "Callable[[Argument, Emit], Result]", argument: "Argument", emit: Emit) -> "Result":
    """As `run`; root calls the function in this process."""
    if os.geteuid() == 0:
        return function(argument, emit)
    result: Result = run(function, argument, emit)
    return result


def run(function: Callable[..., Any], argument: Any, emit: Emit) -> Any:
    """Call `function(argument, emit)` as root of a new user namespace; return its result or raise its CtkError.

    Its ModuleNotFoundError is raised, too, with nothing but the name. The function is one at the top of a module;
    argument and result can be pickled. Raises HostLacks if the host allows no user namespaces. A KeyboardInterrupt is
    passed to the builder, which cleans up before this returns.
    """
    refused = HostFacts().user_namespaces
    if refused:
        raise HostLacks(_DOING, because=refused, hint="run it with sudo")
    uids, gids = subids.of_caller()
    if len(uids) == 1:
        emit(
            Note(
                f"no 65535 subordinate ids for you in {subids.SUBUID} and {subids.SUBGID}: all files will be yours, "
                "and services that change their user will not run (`ctk doctor` has the line that adds them)",
                warning=True,
            )
        )
    import subprocess

    their_in, our_out = os.pipe2(os.O_CLOEXEC)
    our_in, their_out = os.pipe2(os.O_CLOEXEC)
    with os.fdopen(our_out, "wb") as out, os.fdopen(our_in, "rb") as replies:
        try:
            child = subprocess.Popen(
                interpreter.command("toolkit.children.rootless", their_in, their_out, os.getpid(), site=True),
                stdin=subprocess.DEVNULL,
                pass_fds=(their_in, their_out),
                start_new_session=True,
                env={
                    **os.environ,
                    "CTK_CACHE": places.cache_dir(),
                    "CTK_DATA": places.data_dir(),
                    "CTK_ROOT": places.runtime_root(),
                },
            )
        finally:
            os.close(their_in)
            os.close(their_out)
        try:
            return _converse(child, out, replies, (uids, gids), (function, argument), emit)
        except (CtkError, ModuleNotFoundError):
            raise  # the builder's own: it has ended. Or the id maps failed: it ends when it reads EOF from `out`
        except BaseException:
            child.send_signal(signal.SIGINT)
            raise
        finally:
            out.close()
            _finish(child, replies, emit)


def _converse(
    child: "subprocess.Popen[bytes]", out: Any, replies: Any, maps: tuple[Map, Map], work: Any, emit: Emit
) -> Any:
    while True:
        try:
            kind, value = pickle.load(replies)
        except EOFError:
            raise BuildFailed(_DOING, because="the building process died") from None
        if kind == "unshared":
            _write_map(child.pid, "uid", maps[0])
            _write_map(child.pid, "gid", maps[1])
            pickle.dump((*work, len(maps[0]) == 1), out)
            out.flush()
        elif kind == "event":
            emit(value)
        elif kind == "result":
            return value
        elif kind == "missing":
            raise ModuleNotFoundError(name=value)
        else:
            raise _rebuilt(value)


def _finish(child: "subprocess.Popen[bytes]", replies: Any, emit: Emit) -> None:
    """Wait for the builder's clean-up, however often Ctrl-C is pressed."""
    while True:
        try:
            while True:
                kind, value = pickle.load(replies)
                if kind == "event":
                    emit(value)
        except (EOFError, OSError, pickle.UnpicklingError):
            pass
        except KeyboardInterrupt:
            continue
        try:
            child.wait()
            return
        except KeyboardInterrupt:
            continue


def _write_map(pid: int, kind: str, lines: Map) -> None:
    """Write one id map of a process that has unshared. Raises HostLacks."""
    if len(lines) == 1:
        if kind == "gid":
            _put(f"/proc/{pid}/setgroups", "deny")  # otherwise an ordinary user can't write gid_map (CVE-2014-8989)
        _put(f"/proc/{pid}/{kind}_map", " ".join(map(str, lines[0])))
        return
    program = shutil.which(f"new{kind}map", path=_PATH)
    if program is None:
        raise HostLacks(
            _DOING,
            because=f"new{kind}map(1) is not installed",
            hint="install it (Debian: apt install uidmap), or run with sudo",
        )
    import subprocess

    words = [program, str(pid), *(str(number) for line in lines for number in line)]
    done = subprocess.run(words, capture_output=True, text=True, env={"PATH": _PATH}, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        because = done.stderr.strip() or f"exit code {done.returncode}"
        raise HostLacks(_DOING, because=because, hint=f"look at /etc/sub{kind}, or run with sudo")


def _put(path: str, text: str) -> None:
    try:
        with open(path, "w") as file:
            file.write(text)
    except OSError as error:
        raise HostLacks(_DOING, because=f"{path}: {reason(error)}", hint="run it with sudo") from None


def main(in_fd: int, out_fd: int, parent: int) -> NoReturn:
    """The builder's side."""
    requests, replies = os.fdopen(in_fd, "rb"), os.fdopen(out_fd, "wb")
    for fd in (in_fd, out_fd):
        os.set_inheritable(fd, False)

    def say(kind: str, value: Any) -> None:
        pickle.dump((kind, value), replies)
        replies.flush()

    def emit(event: Event) -> None:
        say("event", event)

    try:
        try:
            namespaces.unshare(namespaces.CLONE_NEWUSER)
        except SystemCall as error:
            raise HostLacks(_DOING, because=str(error), hint="run it with sudo") from None
        say("unshared", None)
        function, argument, single = pickle.load(requests)
        if single:
            seccomp_noop.install(owners=True)
        else:
            os.setgroups([])
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        process.prctl(process.PR_SET_PDEATHSIG, signal.SIGKILL)  # last: a change of ids clears it (prctl(2))
        if os.getppid() != parent:
            os._exit(1)
        say("result", function(argument, emit))
    except CtkError as error:
        say("error", (type(error).__name__, str(error.args[0]), vars(error)))
    except ModuleNotFoundError as error:
        say("missing", error.name)
    except KeyboardInterrupt:
        os._exit(130)
    except EOFError:
        os._exit(1)  # ctk ended before it had mapped our ids
    os._exit(0)


def _rebuilt(parts: tuple[str, str, dict[str, Any]]) -> CtkError:
    """The CtkError that the builder raised. The constructors of the classes differ, so its attributes are set."""
    name, doing, attributes = parts
    kind = getattr(errors, name, CtkError)
    error: CtkError = kind.__new__(kind)
    Exception.__init__(error, doing)
    error.__dict__.update(attributes)
    return error
