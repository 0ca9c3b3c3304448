"""What is read of a cgroup that goes meanwhile is not told as a fact."""

from typing import Any

import pytest

from toolkit.runtime.comfort import oom


class Going:
    """The cgroups of a container, which systemd removes while its files are read: a number that is not there is 0."""

    def __init__(self) -> None:
        self.there = True

    def oom_kills(self) -> int:
        return 1

    def stats(self) -> dict[str, Any]:
        self.there = False
        return {"memory": {"usage": {"limit": 0, "usage": 0, "failcnt": 0}}}

    def exists(self) -> bool:
        return self.there


def test_numbers_of_a_cgroup_that_went_while_they_were_read_are_not_used() -> None:
    going: Any = Going()
    with pytest.raises(FileNotFoundError):
        oom.facts(going)


def test_the_limit_that_was_read_before_is_told() -> None:
    container: Any = type("Record", (), {"cgroups": {}})()
    watch = oom.Watch(container)
    going: Any = Going()
    watch._manager, watch._limit, watch.events = going, 20 << 20, oom._POLLPRI
    watch._count = lambda: 1  # type: ignore[method-assign]
    watch.heard()
    assert watch.found == {"kills": 1, "limit": 20 << 20, "peak": 0}
