"""Where cgroups are, from texts of /proc as hosts have them."""

import pytest

from toolkit.errors import Invalid
from toolkit.runtime.cgroups import layout, v1, v2
from toolkit.runtime.cgroups.ownership import owner

PURE_V2 = """\
22 28 0:20 / /sys rw,nosuid shared:7 - sysfs sysfs rw
30 22 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
90 28 0:26 /x /srv/r/sys/fs/cgroup ro - cgroup2 cgroup2 rw
"""
HYBRID = """\
32 26 0:27 / /sys/fs/cgroup ro,nosuid shared:8 - tmpfs tmpfs ro,size=4096k
34 32 0:29 / /sys/fs/cgroup/systemd rw,relatime shared:10 - cgroup cgroup rw,xattr,name=systemd
41 32 0:36 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:18 - cgroup cgroup rw,cpu,cpuacct
42 32 0:37 / /sys/fs/cgroup/memory rw,relatime shared:19 - cgroup cgroup rw,memory
43 32 0:37 /a /srv/other rw,relatime shared:19 - cgroup cgroup rw,memory
44 32 0:40 / /mnt/mine rw,relatime - cgroup cgroup rw,name=mine
33 32 0:28 / /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate
"""
OWN = "5:memory:/process/a:b\n3:cpu,cpuacct:/own\n1:name=systemd:/init.scope\n0::/user.slice/session-1.scope\n"


def test_pure_v2() -> None:
    found = layout.hierarchies(PURE_V2)
    assert found == [("", "/sys/fs/cgroup", "/")]
    assert layout.is_v2(found)


def test_hybrid_has_v2_first_and_each_hierarchy_once() -> None:
    found = layout.hierarchies(HYBRID)
    assert found == [
        ("", "/sys/fs/cgroup/unified", "/"),
        ("name=systemd", "/sys/fs/cgroup/systemd", "/"),
        ("cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct", "/"),
        ("memory", "/sys/fs/cgroup/memory", "/"),
    ]
    assert not layout.is_v2(found)


def test_spaces_in_mount_points_are_read_back() -> None:
    line = "1 1 0:1 / /mnt/my\\040cgroups rw - cgroup cgroup rw,pids\n"
    assert layout.hierarchies(line) == [("pids", "/mnt/my cgroups", "/")]


def test_own_cgroups_are_known_by_hierarchy_and_by_controller() -> None:
    own = layout.own(OWN)
    assert own[""] == "/user.slice/session-1.scope"
    assert own["cpu,cpuacct"] == own["cpuacct"] == "/own"
    assert own["memory"] == "/process/a:b"


@pytest.mark.parametrize(
    ("mounted", "path", "seen"),
    [
        ("/", "/a/b", "/m/a/b"),
        ("/", "/", "/m"),
        ("/docker/x", "/docker/x", "/m"),
        ("/docker/x", "/docker/x/y", "/m/y"),
        ("/docker/x", "/docker/xy", "/m"),  # what is not below the mount is not seen through it
        ("/", "/../../host", "/m"),
    ],
)
def test_own_cgroup_below_the_mount(mounted: str, path: str, seen: str) -> None:
    assert layout.visible("/m", mounted, path) == seen


@pytest.mark.parametrize(("path", "clean"), [("/a//b/./c/", "/a/b/c"), ("a/b", "a/b"), ("/", "/"), ("./x", "x")])
def test_paths_are_cleaned(path: str, clean: str) -> None:
    assert layout.clean(path) == clean


@pytest.mark.parametrize("path", ["../x", "/a/../../b", "a/..", "a\nb", "a\0b", "a\ud800"])
def test_paths_that_could_lead_out_are_refused(path: str) -> None:
    with pytest.raises(Invalid):
        layout.clean(path)


def test_v1_paths_absolute_below_the_mount_relative_below_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    own = layout.own(OWN)
    monkeypatch.setattr(layout, "own", lambda: own)
    found = layout.hierarchies(HYBRID)
    absolute = v1.make(found, "/a/b", "id", rootless=False)
    assert absolute.paths["cpu,cpuacct"] == "/sys/fs/cgroup/cpu,cpuacct/a/b"
    for given in (None, "", "id"):
        relative = v1.make(found, given, "id", rootless=False)
        assert relative.paths == {
            "": "/sys/fs/cgroup/unified/user.slice/session-1.scope/id",
            "name=systemd": "/sys/fs/cgroup/systemd/init.scope/id",
            "cpu,cpuacct": "/sys/fs/cgroup/cpu,cpuacct/own/id",
            "memory": "/sys/fs/cgroup/memory/process/a:b/id",
        }
    assert absolute.mounts() == [
        ("systemd", "name=systemd", "/sys/fs/cgroup/systemd/a/b"),
        ("cpu,cpuacct", "cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct/a/b"),
        ("memory", "memory", "/sys/fs/cgroup/memory/a/b"),
    ]
    assert absolute.mount_links() == [("cpu", "cpu,cpuacct"), ("cpuacct", "cpu,cpuacct")]


def test_v2_paths_relative_beside_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "own", lambda: {"": "/user.slice/session-1.scope"})
    assert v2.make("/sys/fs/cgroup", "/", "/a/b", "id", rootless=False).path == "/sys/fs/cgroup/a/b"
    assert v2.make("/sys/fs/cgroup", "/", None, "id", rootless=False).path == "/sys/fs/cgroup/user.slice/id"
    monkeypatch.setattr(layout, "own", lambda: {"": "/"})
    assert v2.make("/sys/fs/cgroup", "/", None, "id", rootless=False).path == "/sys/fs/cgroup/id"


def spec(
    *, cgroup: bool = True, options: "list[str] | None" = None, uid: int = 0, user: bool = True
) -> dict[str, object]:
    namespaces = [{"type": "user"}] * user + [{"type": "cgroup"}] * cgroup
    return {
        "mounts": [{"type": "cgroup", "destination": "/sys/fs/cgroup", "options": options or []}],
        "process": {"user": {"uid": uid}},
        "linux": {"namespaces": namespaces, "uidMappings": [{"containerID": 0, "hostID": 100000, "size": 100}]},
    }


@pytest.mark.parametrize(
    ("given", "uid"),
    [
        (spec(), 100000),
        (spec(uid=5), 100005),
        (spec(uid=100), -1),
        (spec(user=False, uid=7), 7),
        (spec(cgroup=False), -1),
        (spec(options=["ro"]), -1),
        ({}, -1),
    ],
)
def test_the_owner_of_a_delegated_cgroup(given: dict[str, object], uid: int) -> None:
    assert owner(given) == uid
