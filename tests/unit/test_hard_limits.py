"""Hard limits as /proc shows them are the ones that getrlimit(2) tells."""

import os
import resource
import subprocess
import sys

from toolkit.runtime import identity

SHOW = """
import os, resource, sys
sys.path.insert(0, sys.argv[1])
from toolkit.runtime import identity
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 101))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
known = identity._hard_limits(os.getpid())
print(known[identity.RLIMITS["RLIMIT_NOFILE"]], known[identity.RLIMITS["RLIMIT_CORE"]])
"""


def test_they_are_those_of_getrlimit() -> None:
    known = identity._hard_limits(os.getpid())
    for name, number in identity.RLIMITS.items():
        told = resource.getrlimit(getattr(resource, name))[1] if hasattr(resource, name) else None
        if told is not None:
            assert known[number] == (identity._UNLIMITED if told == resource.RLIM_INFINITY else told), name
        assert known[number] == identity._prlimit(os.getpid(), number, None)[1], name


def test_small_numbers_are_read() -> None:
    folder = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(identity.__file__))))
    done = subprocess.run([sys.executable, "-c", SHOW, folder], capture_output=True, text=True, check=True)
    assert done.stdout == "101 0\n"


def test_no_process_has_no_limits() -> None:
    assert identity._hard_limits(0) == []
