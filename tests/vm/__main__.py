"""Run a command as root in the tests' guest, and end as it ends."""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.vm.image import image
from tests.vm.machine import GuestLost, Machine


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.vm", description=__doc__)
    parser.add_argument("-v", "--verbose", action="store_true", help="say what is done and how long it took")
    parser.add_argument("-t", "--timeout", type=float, default=300, metavar="SECONDS", help="for each command")
    parser.add_argument("command", nargs="*", help="bash commands, run in this order; none: only make the image")
    options = parser.parse_args()
    started = time.monotonic()

    def say(text: str) -> None:
        if options.verbose:
            print(f"[{time.monotonic() - started:6.1f} s] {text}", file=sys.stderr, flush=True)

    found = image(say)
    say("image")
    if not options.command:
        return 0
    code = 0
    try:
        with Machine(found, Path(tempfile.mkdtemp(prefix="ctk-vm-"))) as machine:
            say(f"booted in {machine.booted_s:.1f} s")
            for command in options.command:
                result = machine.run(command, options.timeout)
                sys.stdout.write(result.out)
                sys.stderr.write(result.err)
                sys.stdout.flush()
                code = result.rc
                say(f"exit {code}")
    except GuestLost as lost:
        print(lost, file=sys.stderr)
        return 125
    return code


if __name__ == "__main__":
    sys.exit(main())
