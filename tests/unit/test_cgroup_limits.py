"""linux.resources as writes to cgroup files: v1 and v2 side by side, against runc's figures."""

from typing import Any

import pytest

from toolkit.errors import Invalid
from toolkit.runtime.cgroups.limits import (
    completed_v1,
    completed_v2,
    io_weight_of_blkio,
    plan_v1,
    plan_v2,
    swap_alone,
    weight_of_shares,
)

MB = 1 << 20


def writes(plan: list[tuple[str, str, str, str]]) -> list[str]:
    return [f"{name}={value}" + (f" ({otherwise})" if otherwise else "") for _, name, value, otherwise in plan]


# The figures are runc 1.4's (its cgroups module, utils_test.go): 0 is left to the caller.
@pytest.mark.parametrize(
    ("shares", "weight"), [(1, 1), (2, 1), (1024, 100), (2048, 174), (262144, 10000), (300000, 10000), (512, 59)]
)
def test_cpu_shares_become_weights(shares: int, weight: int) -> None:
    assert weight_of_shares(shares) == weight


@pytest.mark.parametrize(("blkio", "weight"), [(10, 1), (500, 4950), (1000, 10000)])
def test_blkio_weights_become_io_weights(blkio: int, weight: int) -> None:
    assert io_weight_of_blkio(blkio) == weight


@pytest.mark.parametrize(
    ("both", "memory", "swap"),
    [(0, 0, 0), (0, 5, 0), (0, -1, -1), (-1, 0, -1), (-1, 5, -1), (7, -1, 7), (9, 4, 5), (5, 5, 0)],
)
def test_swap_is_counted_alone_on_v2(both: int, memory: int, swap: int) -> None:
    assert swap_alone(both, memory) == swap


@pytest.mark.parametrize(("both", "memory", "words"), [(5, 0, "without memory limit"), (4, 5, ">= memory limit")])
def test_swap_that_makes_no_sense_is_refused(both: int, memory: int, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        swap_alone(both, memory)


@pytest.mark.parametrize(
    ("resources", "v1", "v2"),
    [
        ({}, [], []),
        ({"pids": {"limit": 5}}, ["pids.max=5"], ["pids.max=5"]),
        ({"pids": {"limit": -1}}, ["pids.max=max"], ["pids.max=max"]),
        ({"pids": {"limit": 0}}, ["pids.max=1"], ["pids.max=1"]),
        ({"pids": {}}, [], []),
        (
            {"memory": {"limit": 64 * MB, "swap": 96 * MB, "reservation": 32 * MB}},
            [
                "memory.limit_in_bytes=67108864 (later)",
                "memory.memsw.limit_in_bytes=100663296",
                "memory.soft_limit_in_bytes=33554432",
            ],
            ["memory.swap.max=33554432", "memory.max=67108864", "memory.low=33554432"],
        ),
        (
            {"memory": {"limit": 64 * MB, "swap": 64 * MB}},
            ["memory.limit_in_bytes=67108864 (later)", "memory.memsw.limit_in_bytes=67108864"],
            ["memory.swap.max=0 (skip)", "memory.max=67108864"],
        ),
        (
            {"memory": {"limit": -1}},
            ["memory.limit_in_bytes=-1 (later)", "memory.memsw.limit_in_bytes=-1 (skip)"],
            ["memory.swap.max=max (skip)", "memory.max=max"],
        ),
        (
            {"memory": {"swappiness": 20, "disableOOMKiller": True, "kernelTCP": 4096}},
            ["memory.kmem.tcp.limit_in_bytes=4096 (skip)", "memory.oom_control=1", "memory.swappiness=20"],
            [],
        ),
        ({"memory": {"swappiness": 2**64 - 1, "disableOOMKiller": False}}, [], []),
        (
            {"cpu": {"shares": 512, "quota": 20000, "period": 50000, "cpus": "0-1", "mems": "0"}},
            [
                "cpuset.cpus=0-1",
                "cpuset.mems=0",
                "cpu.shares=512",
                "cpu.cfs_period_us=50000 (later)",
                "cpu.cfs_quota_us=20000",
            ],
            ["cpu.weight=59", "cpu.max=20000 50000", "cpuset.cpus=0-1", "cpuset.mems=0"],
        ),
        ({"cpu": {"shares": 512, "idle": 1}}, ["cpu.shares=512", "cpu.idle=1"], ["cpu.idle=1"]),
        ({"cpu": {"period": 50000}}, ["cpu.cfs_period_us=50000"], ["cpu.max=max 50000"]),
        ({"cpu": {"quota": -1}}, ["cpu.cfs_quota_us=-1"], ["cpu.max=max 100000"]),
        (
            {"cpu": {"burst": 1000, "quota": 20000, "idle": 1}},
            ["cpu.cfs_burst_us=1000 (later)", "cpu.cfs_quota_us=20000", "cpu.idle=1"],
            ["cpu.idle=1", "cpu.max.burst=1000 (later)", "cpu.max=20000 100000"],
        ),
        (
            {"cpu": {"realtimePeriod": 1000000, "realtimeRuntime": 950000}},
            ["cpu.rt_period_us=1000000 (later)", "cpu.rt_runtime_us=950000"],
            [],
        ),
        (
            {
                "blockIO": {
                    "weight": 500,
                    "leafWeight": 300,
                    "weightDevice": [{"major": 8, "minor": 0, "weight": 10, "leafWeight": 20}],
                    "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 100}],
                    "throttleWriteIOPSDevice": [{"major": 8, "minor": 16, "rate": 7}],
                }
            },
            [
                "blkio.weight=500",
                "blkio.leaf_weight=300",
                "blkio.weight_device=8:0 10",
                "blkio.leaf_weight_device=8:0 20",
                "blkio.throttle.read_bps_device=8:0 100",
                "blkio.throttle.write_iops_device=8:16 7",
            ],
            ["io.weight=4950", "io.weight=8:0 1", "io.max=8:0 rbps=100", "io.max=8:16 wiops=7"],
        ),
        (
            {"hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}]},
            ["hugetlb.2MB.limit_in_bytes=4194304", "hugetlb.2MB.rsvd.limit_in_bytes=4194304 (skip)"],
            ["hugetlb.2MB.max=4194304", "hugetlb.2MB.rsvd.max=4194304 (skip)"],
        ),
        (
            {"rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10000}, "mlx4_0": {"hcaObjects": 0}}},
            ["rdma.max=mlx5_1 hca_handle=3 hca_object=10000", "rdma.max=mlx4_0 hca_object=0"],
            ["rdma.max=mlx5_1 hca_handle=3 hca_object=10000", "rdma.max=mlx4_0 hca_object=0"],
        ),
        (
            {"network": {"classID": 1048577, "priorities": [{"name": "eth0", "priority": 5}]}},
            ["net_cls.classid=1048577", "net_prio.ifpriomap=eth0 5"],
            [],
        ),
    ],
)
def test_resources_become_writes(resources: dict[str, object], v1: list[str], v2: list[str]) -> None:
    assert writes(plan_v1(resources)) == v1
    assert writes(plan_v2(resources)) == v2


def test_unified_is_passed_through_line_by_line_on_v2() -> None:
    plan = plan_v2({"unified": {"io.max": "8:0 rbps=1\n8:16 wbps=2", "memory.high": "max"}})
    assert plan == [
        ("io", "io.max", "8:0 rbps=1\n", ""),
        ("io", "io.max", "8:16 wbps=2", ""),
        ("memory", "memory.high", "max", ""),
    ]


def test_an_idle_cgroup_gets_no_weight() -> None:
    assert writes(plan_v2({"unified": {"cpu.weight": "8", "cpu.idle": "1"}})) == ["cpu.idle=1"]
    assert writes(plan_v2({"unified": {"cpu.weight": "8", "cpu.idle": "0"}})) == ["cpu.weight=8", "cpu.idle=0"]


def test_bfq_has_files_of_its_own() -> None:
    block = {"blockIO": {"weight": 500, "weightDevice": [{"major": 8, "minor": 0, "weight": 10}]}}
    assert writes(plan_v1(block, bfq=True)) == ["blkio.bfq.weight=500", "blkio.bfq.weight_device=8:0 10"]
    assert writes(plan_v2(block, bfq=True)) == ["io.bfq.weight=500", "io.bfq.weight=8:0 10"]


@pytest.mark.parametrize(
    ("resources", "path"),
    [
        ({"unified": {"../memory.max": "1"}}, "linux.resources.unified['../memory.max']"),
        ({"unified": {"memory": "1"}}, "linux.resources.unified['memory']"),
        ({"unified": {"memory.\0": "1"}}, "linux.resources.unified['memory.\\x00']"),
        ({"hugepageLimits": [{"pageSize": "../2MB", "limit": 1}]}, "linux.resources.hugepageLimits[0].pageSize"),
    ],
)
def test_names_that_lead_elsewhere_are_refused_on_v2(resources: dict[str, object], path: str) -> None:
    with pytest.raises(Invalid) as caught:
        plan_v2(resources)
    assert caught.value.path == path


@pytest.mark.parametrize(
    ("resources", "path"),
    [
        ({"unified": {"memory.max": "1"}}, "linux.resources.unified"),
        ({"cpu": {"shares": 1}}, "linux.resources.cpu.shares"),
        ({"cpu": {"shares": 262145}}, "linux.resources.cpu.shares"),
        ({"memory": {"swappiness": 101}}, "linux.resources.memory.swappiness"),
        ({"hugepageLimits": [{"pageSize": "a/b", "limit": 1}]}, "linux.resources.hugepageLimits[0].pageSize"),
    ],
)
def test_what_v1_cannot_have_is_refused(resources: dict[str, object], path: str) -> None:
    with pytest.raises(Invalid) as caught:
        plan_v1(resources)
    assert caught.value.path == path


@pytest.mark.parametrize(
    ("given", "files", "complete"),
    [
        ({"cpu": {"quota": 5}}, {"cpu.max": "max 70000"}, {"cpu": {"quota": 5, "period": 70000}}),
        ({"cpu": {"period": 5}}, {"cpu.max": "300 70000"}, {"cpu": {"quota": 300, "period": 5}}),
        ({"cpu": {"period": 5}}, {"cpu.max": "max 70000"}, {"cpu": {"period": 5}}),
        ({"cpu": {"period": 5, "quota": 6}}, {}, {"cpu": {"period": 5, "quota": 6}}),
        # The spec's swap counts the memory in: alone, it is measured against the limit that holds.
        ({"memory": {"swap": 9}}, {"memory.max": "4"}, {"memory": {"limit": 4, "swap": 9}}),
        ({"memory": {"swap": 9}}, {"memory.max": "max"}, {"memory": {"limit": -1, "swap": 9}}),
        ({"memory": {"swap": -1}}, {"memory.max": "4"}, {"memory": {"swap": -1}}),
        # A new limit alone leaves the sum as it was.
        ({"memory": {"limit": 6}}, {"memory.max": "4", "memory.swap.max": "5"}, {"memory": {"limit": 6, "swap": 9}}),
        ({"memory": {"limit": 6}}, {"memory.max": "4", "memory.swap.max": "max"}, {"memory": {"limit": 6}}),
        ({"memory": {"limit": -1}}, {"memory.max": "4", "memory.swap.max": "5"}, {"memory": {"limit": -1}}),
        ({"pids": {"limit": 5}}, {}, {"pids": {"limit": 5}}),
    ],
)
def test_an_update_keeps_the_half_that_it_does_not_name(given: Any, files: dict[str, str], complete: Any) -> None:
    assert completed_v2(given, lambda name: files.get(name, "")) == complete


def test_an_update_on_v1_names_quota_and_period_for_systemd() -> None:
    files = {"cpu.cfs_period_us": "50000", "cpu.cfs_quota_us": "-1"}
    assert completed_v1({"cpu": {"quota": 7}}, files.__getitem__) == {"cpu": {"quota": 7, "period": 50000}}
    assert completed_v1({"cpu": {"period": 7}}, files.__getitem__) == {"cpu": {"quota": -1, "period": 7}}
    assert completed_v1({"cpu": {"shares": 7}}, files.__getitem__) == {"cpu": {"shares": 7}}
