"""The spec in systemd's words."""

from typing import Any

import pytest

from toolkit.errors import Invalid
from toolkit.runtime.cgroups import units

NONE = 2**64 - 1
MB = 1 << 20


def version() -> int:
    return 252


@pytest.mark.parametrize(
    ("path", "user", "expected"),
    [
        ("system.slice:docker:1234", False, ("system.slice", "docker-1234.scope")),
        (":cri:1234", False, ("system.slice", "cri-1234.scope")),
        ("a-b.slice:x:y", True, ("a-b.slice", "x-y.scope")),
        ("a.slice:x:y.slice", False, ("a.slice", "y.slice")),
        (None, False, ("system.slice", "ctk-id.scope")),
        ("", True, ("user.slice", "ctk-id.scope")),
    ],
)
def test_cgroups_path_names_a_slice_and_a_unit(path: "str | None", user: bool, expected: tuple[str, str]) -> None:
    assert units.parse_path(path, "id", user=user) == expected


@pytest.mark.parametrize("path", ["/a/b", "a:b", "a:b:c:d", "x.slice:a:../b", "x.slice:a:", "../x.slice:a:b", "x:a:b"])
def test_a_cgroups_path_that_is_no_unit_is_refused(path: str) -> None:
    with pytest.raises(Invalid):
        units.parse_path(path, "id", user=False)


@pytest.mark.parametrize(
    ("name", "cgroup"),
    [("-.slice", ""), ("system.slice", "/system.slice"), ("a-b-c.slice", "/a.slice/a-b.slice/a-b-c.slice")],
)
def test_slices_are_expanded(name: str, cgroup: str) -> None:
    assert units.expand_slice(name) == cgroup


@pytest.mark.parametrize("name", [".slice", "a", "a--b.slice", "-a.slice", "a-.slice", "a/b.slice", "-", "slice"])
def test_names_that_are_no_slice_are_refused(name: str) -> None:
    with pytest.raises(Invalid, match="invalid slice name"):
        units.expand_slice(name)


@pytest.mark.parametrize(
    ("resources", "v1", "v2"),
    [
        (
            {"memory": {"limit": 64 * MB, "swap": 96 * MB, "reservation": 5}},
            [("MemoryLimit", ("t", 64 * MB))],
            [("MemoryMax", ("t", 64 * MB)), ("MemoryLow", ("t", 5)), ("MemorySwapMax", ("t", 32 * MB))],
        ),
        (
            # Equal: no swap. Left out, systemd would set it back to no limit at its next reload.
            {"memory": {"limit": 64 * MB, "swap": 64 * MB}},
            [("MemoryLimit", ("t", 64 * MB))],
            [("MemoryMax", ("t", 64 * MB)), ("MemorySwapMax", ("t", 0))],
        ),
        (
            {"memory": {"limit": -1}},
            [("MemoryLimit", ("t", NONE))],
            [("MemoryMax", ("t", NONE)), ("MemorySwapMax", ("t", NONE))],
        ),
        (
            {"cpu": {"shares": 2048, "quota": 20000, "period": 50000, "cpus": "0-2,9", "mems": "0"}},
            [
                ("CPUShares", ("t", 2048)),
                ("CPUQuotaPeriodUSec", ("t", 50000)),
                ("CPUQuotaPerSecUSec", ("t", 400000)),
            ],
            [
                ("CPUWeight", ("t", 174)),
                ("CPUQuotaPeriodUSec", ("t", 50000)),
                ("CPUQuotaPerSecUSec", ("t", 400000)),
                ("AllowedCPUs", ("ay", b"\x07\x02")),
                ("AllowedMemoryNodes", ("ay", b"\x01")),
            ],
        ),
        ({"cpu": {"quota": -1}}, [("CPUQuotaPerSecUSec", ("t", NONE))], [("CPUQuotaPerSecUSec", ("t", NONE))]),
        ({"cpu": {"idle": 1, "shares": 5}}, [("CPUShares", ("t", 5))], [("CPUWeight", ("t", 0))]),
        ({"pids": {"limit": 0}}, [("TasksMax", ("t", 1))], [("TasksMax", ("t", 1))]),
        ({"pids": {"limit": -1}}, [("TasksMax", ("t", NONE))], [("TasksMax", ("t", NONE))]),
        ({"blockIO": {"weight": 500}}, [("BlockIOWeight", ("t", 500))], []),
        (
            {
                "unified": {
                    "memory.high": "max",
                    "memory.min": "4096",
                    "pids.max": "0",
                    "cpu.weight": " 7\n",
                    "cpu.max": "max 50000",
                    "cpuset.cpus": "1",
                    "io.max": "8:0 rbps=1",
                }
            },
            [],
            [
                ("MemoryHigh", ("t", NONE)),
                ("MemoryMin", ("t", 4096)),
                ("TasksMax", ("t", 1)),
                ("CPUWeight", ("t", 7)),
                ("CPUQuotaPeriodUSec", ("t", 50000)),
                ("CPUQuotaPerSecUSec", ("t", NONE)),
                ("AllowedCPUs", ("ay", b"\x02")),
            ],
        ),
    ],
)
def test_limits_become_properties(resources: dict[str, object], v1: list[Any], v2: list[Any]) -> None:
    assert units.limits_as_properties(resources, v2=False, version=version) == (v1, resources)
    assert units.limits_as_properties(resources, v2=True, version=version) == (v2, resources)


def test_a_quota_is_rounded_up_as_systemd_does_and_written_so() -> None:
    properties, written = units.limits_as_properties(
        {"cpu": {"quota": 15050, "period": 100000, "cpus": "0"}}, v2=True, version=version
    )
    assert ("CPUQuotaPerSecUSec", ("t", 160000)) in properties
    assert written == {"cpu": {"quota": 16000, "period": 100000, "cpus": "0"}}


@pytest.mark.parametrize(("name", "value"), [("memory.max", "many"), ("cpu.max", ""), ("cpuset.cpus", "1-x")])
def test_a_unified_value_that_is_none_is_refused(name: str, value: str) -> None:
    with pytest.raises(Invalid) as caught:
        units.limits_as_properties({"unified": {name: value}}, v2=True, version=version)
    assert caught.value.path == f"linux.resources.unified[{name!r}]"


def test_device_rules_that_systemd_knows() -> None:
    exceptions = {("c", -1, -1): 1, ("b", 8, -1): 6, ("c", 1, 3): 7, ("c", -1, 5): 7}
    assert units.device_properties(False, exceptions) == [
        ("DeviceAllow", ("a(ss)", [])),
        ("DevicePolicy", ("s", "strict")),
        ("DeviceAllow", ("a(ss)", [("char-*", "m"), ("block-8", "rw"), ("/dev/char/1:3", "rwm")])),
    ]
    assert units.device_properties(True, {})[1] == ("DevicePolicy", ("s", "auto"))
    assert units.device_properties(True, {("c", 1, 3): 7})[1] == ("DevicePolicy", ("s", "strict"))


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("TimeoutStopUSec", "uint64 123456789", ("TimeoutStopUSec", ("t", 123456789))),
        ("CollectMode", "'inactive-or-failed'", ("CollectMode", ("s", "inactive-or-failed"))),
        ("Description", '"a \\"b\\""', ("Description", ("s", 'a "b"'))),
        ("SendSIGHUP", "true", ("SendSIGHUP", ("b", True))),
        ("After", "['a.service', 'b.service']", ("After", ("as", ["a.service", "b.service"]))),
        ("Wants", "@as []", ("Wants", ("as", []))),
        ("Nice", "5", ("Nice", ("i", 5))),
        ("TimeoutStopSec", "1.5", ("TimeoutStopUSec", ("t", 1500000))),
        ("TimeoutStopSec", "uint64 2", ("TimeoutStopUSec", ("t", 2000000))),
    ],
)
def test_annotations_become_properties(name: str, text: str, expected: Any) -> None:
    assert units.annotated_properties({"org.systemd.property." + name: text, "other": "1"}) == [expected]


@pytest.mark.parametrize(
    ("name", "text"), [("No", "true"), ("Bad-Name", "true"), ("Name", "'open"), ("Name", "uint9 5"), ("Name", "")]
)
def test_annotations_that_make_no_sense_are_refused(name: str, text: str) -> None:
    with pytest.raises(Invalid) as caught:
        units.annotated_properties({"org.systemd.property." + name: text})
    assert caught.value.path == f"annotations['org.systemd.property.{name}']"
