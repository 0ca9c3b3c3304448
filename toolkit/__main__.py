"""The entry point, with two doors: runtime verbs go straight to `runtime.main`, everything else to `cli.app`.

The first door is the hot path: an engine calls it several times for each container, so it must not import anything
slow (tests/architecture/test_hot_path.py reads `sys.modules` afterwards).
"""

import _signal
import gc
import os
import sys

from toolkit import preload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from toolkit.runtime.options import Options


def _advice(error: Exception) -> str:
    """What may be wrong with the host; the first door asks for it when a verb has failed on a terminal."""
    from toolkit.care import doctor
    from toolkit.errors import CtkError

    try:
        return doctor.advice(error) if isinstance(error, CtkError) else ""
    except (CtkError, OSError, ImportError):
        return ""  # the error itself has been printed; a second one would hide it


def _from_image(options: "Options") -> "Callable[[], None]":
    """Make the bundle for `run --image`; what is to be done when the container has ended."""
    gc.enable()
    preload.load(preload.RUN_IMAGE)
    from toolkit.cli.images import run

    return run.prepare(options)


def _fill_standard_descriptors() -> None:
    """Open /dev/null for each of 0, 1 and 2 that the caller closed: the next file opened would get that number.

    The container would then use that file as its input or output. Go's runtime does the same (checkfds).
    """
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            try:
                opened = os.open("/dev/null", os.O_RDWR)
            except OSError:  # no /dev/null on this host: an empty memory file also gives a reader end of file
                opened = os.memfd_create("null")
            os.set_inheritable(opened, True)


def _fill_standard_streams() -> None:
    """Give Python's streams back to descriptors that were closed when it started."""
    for fd, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(fd, mode, encoding="utf-8", closefd=False))


def main() -> None:
    """Run the command line in `sys.argv`; never returns."""
    if sys.getfilesystemencoding() != "utf-8":  # `python -m toolkit` in such a locale; the launcher sets UTF-8 itself
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
    _fill_standard_descriptors()
    # A caller that ignores SIGCHLD passes that on to us: then wait(2) finds no child (wait(2), NOTES).
    _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
    gc.disable()  # a verb runs for milliseconds; the second door switches it on again
    preload.load("toolkit.runtime.main")
    from toolkit.runtime.main import main as runtime_main

    # Returns only if the verb is not one of the runtime's, or if the user asked for it to be explained.
    remaining = runtime_main(sys.argv[1:], _advice, _from_image)
    _fill_standard_streams()
    preload.load(preload.SECOND)
    from toolkit.cli.app import main as cli_main

    cli_main(remaining)


if __name__ == "__main__":
    main()
