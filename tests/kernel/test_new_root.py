"""What --no-pivot finds out of the host before it moves the root."""

import pytest

from toolkit.errors import LaunchFailed
from toolkit.runtime import new_root
from toolkit.runtime.plan import LaunchPlan


def test_views_of_the_host_are_found() -> None:
    assert "/proc" in new_root.host_views(LaunchPlan("/tmp"))


def test_views_that_can_not_be_found_stop_the_launch() -> None:
    """An empty list would leave the host's procfs in the container's sight."""
    with pytest.raises(LaunchFailed, match=r"no-pivot.*No such file"):
        new_root.host_views(LaunchPlan("/no/such"))
