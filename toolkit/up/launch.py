"""Starts ctk itself as a child process: `ctk up` uses the runtime like an engine, and never imports it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from types import FrameType

import toolkit
from toolkit.errors import CtkError, reason


def launcher() -> list[str]:
    """The argv that starts the ctk that is running now, whatever the current folder and PATH are."""
    started_as = sys.argv[0] if sys.argv else ""
    if os.path.basename(started_as) == "ctk" and os.access(started_as, os.X_OK):
        return [os.path.abspath(started_as)]
    return [sys.executable, "-X", "utf8", "-m", "toolkit"]


def anywhere() -> list[str]:
    """The argv that starts this ctk from any folder and environment, even `python -m toolkit` in a checkout."""
    words = launcher()
    return words if len(words) == 1 else ["env", f"PYTHONPATH={_package()}", *words]


def _package() -> str:
    return os.path.dirname(os.path.dirname(os.path.abspath(toolkit.__file__)))


def _environment() -> dict[str, str]:
    # In a checkout that is not installed, `python -m toolkit` needs PYTHONPATH to find the package.
    environment = dict(os.environ)
    paths = [_package(), *filter(None, environment.get("PYTHONPATH", "").split(":"))]
    environment["PYTHONPATH"] = ":".join(dict.fromkeys(paths))
    return environment


def status(identity: str, leading: Sequence[str] = ()) -> str:
    """The status of the container `identity`; "" if there is none.

    `leading`, here and below, are global options for that call of ctk. It finds --root in the environment.
    """
    asked = [*launcher(), *leading, "state", identity]
    done = subprocess.run(
        asked, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=_environment()
    )
    return str(json.loads(done.stdout)["status"]) if done.returncode == 0 else ""


def start(words: Sequence[str]) -> "subprocess.Popen[bytes]":
    """Start `ctk WORDS` with nothing to read, in a session of its own: a Ctrl-C is ours alone. Its output is a pipe."""
    try:
        return subprocess.Popen(
            [*launcher(), *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=_environment(),
            start_new_session=True,
        )
    except OSError as error:
        raise CtkError(f"start {launcher()[0]!r}", because=reason(error)) from None


def removed(identity: str) -> None:
    """End and remove a container, if there is one of that name; says nothing."""
    words = [*launcher(), "delete", "--force", identity]
    quiet = subprocess.DEVNULL
    subprocess.run(words, stdin=quiet, stdout=quiet, stderr=quiet, env=_environment(), start_new_session=True)


def call(words: Sequence[str], leading: Sequence[str] = ()) -> int:
    """Run `ctk WORDS` with our own standard streams. Returns its exit code."""
    return subprocess.run([*launcher(), *leading, *words], env=_environment()).returncode


def run(identity: str, bundle: str, options: Sequence[str] = (), leading: Sequence[str] = ()) -> int:
    """Run the container and wait for it. Returns the exit code of `ctk run` (128 + n if signal n ended it).

    The terminal, if there is one, belongs to the child. A Ctrl-C reaches both processes, and the child handles it;
    signals sent to us alone are passed on.
    """
    words = [*launcher(), *leading, "run", *options, "--bundle", bundle, identity]
    sys.stdout.flush()
    sys.stderr.flush()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGQUIT, *_PASSED_ON)}
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, _ignored)  # SIG_IGN would be inherited through exec
    try:
        child = subprocess.Popen(words, env=_environment())
    except OSError as error:
        raise CtkError(f"start {words[0]!r}", because=reason(error)) from None

    def pass_on(number: int, _: FrameType | None) -> None:
        child.send_signal(number)

    try:
        for number in _PASSED_ON:
            signal.signal(number, pass_on)
        code = child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 128 - code if code < 0 else code


_PASSED_ON = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def _ignored(number: int, frame: FrameType | None) -> None:
    """A handler that does nothing. Unlike SIG_IGN it is not inherited through exec."""
