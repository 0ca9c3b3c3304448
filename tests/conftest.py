"""What all tests share. The fixtures themselves are in tests/fixtures, one file for each thing they stand for."""

import gc
import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.fixtures.command import (  # noqa: F401
    busybox_bundle,
    busybox_rootfs,
    ctk,
    default_spec,
    new_bundle,
    shared_cache,
    state_root,
)
from tests.fixtures.debian import debian_mirror  # noqa: F401
from tests.fixtures.leaks import leaks, own_mounts  # noqa: F401
from tests.fixtures.network import machine, town  # noqa: F401
from tests.fixtures.places import home  # noqa: F401
from tests.fixtures.roots import made_root, root_of  # noqa: F401
from tests.fixtures.shards import pytest_collection_modifyitems, pytest_xdist_make_scheduler  # noqa: F401
from tests.fixtures.terminal import terminal  # noqa: F401
from tests.fixtures.ubuntu import ubuntu_archive, ubuntu_archive_files  # noqa: F401
from toolkit.kernel import roots

# Whoever starts the tests in the background of a shell without job control ignores SIGINT and SIGQUIT for all of them,
# and Python then leaves them ignored: tests of Ctrl-C would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # and nohup ignores that one

# How many random examples a test tries where it doesn't say so itself: `scripts/test --all` takes many. None has a
# deadline: the machine may be busy with something else.
settings.register_profile("few", max_examples=50, deadline=None)
settings.register_profile("many", max_examples=1000, deadline=None)
settings.load_profile("few")

# Folders whose tests make containers or root file systems: nothing may stay behind.
WATCHED = {"story", "kernel", "security", "conformance", "clients", "reliability", "oracle"}


def pytest_configure() -> None:
    if roots.in_chroot():
        # Where a runtime has a fault, a container made here would be in the host's root, and its attacks with it.
        raise pytest.UsageError("these tests do not run in a chroot: run them on a machine, or in a container")
    own_mounts()


def pytest_collection_finish() -> None:
    gc.freeze()  # what was imported and collected stays: the collector need not look at it after each few tests


@pytest.fixture(autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    if WATCHED & set(request.path.parts):
        request.getfixturevalue("leaks")
    yield


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("root") and os.geteuid() != 0:
        if os.environ.get("CTK_TEST_STRICT") == "1":
            pytest.fail("needs root; scripts/test --no-root leaves such tests out", pytrace=False)
        pytest.skip("needs root")
