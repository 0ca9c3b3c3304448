"""The launch plan of a spec: which namespaces, which steps, in which order; nothing is touched."""

import copy
from typing import Any

import pytest

from toolkit.errors import Invalid
from toolkit.kernel import mounts as m
from toolkit.kernel import namespaces as ns
from toolkit.oci.defaults import default_spec
from toolkit.runtime import mount_options, plan
from toolkit.runtime.mounting import Mount


def spec(**linux: Any) -> dict[str, Any]:
    result: dict[str, Any] = copy.deepcopy(default_spec())
    result["linux"].update(linux)
    return result


def names(result: plan.LaunchPlan) -> list[str]:
    return [type(step).__name__ for step in result.steps]


def test_the_default_spec() -> None:
    result = plan.plan(spec(), "/b", "/b/rootfs")
    assert names(result) == [
        "PrepareRoot",
        *["Mount"] * 6,
        "JoinCgroup",
        "MountCgroup",
        "MakeDevices",
        "LinkDevices",
        "SetNames",
        "MakeReadOnly",
        "Mask",
        "EnterRoot",
        "MakeRootReadOnly",
    ]
    wanted = ns.CLONE_NEWPID | ns.CLONE_NEWNET | ns.CLONE_NEWIPC | ns.CLONE_NEWUTS | ns.CLONE_NEWNS
    assert result.clone_flags == wanted
    assert result.joins == []


def test_every_step_says_who_asked_what_it_does_and_how_a_shell_would() -> None:
    document = spec(sysctl={"net.ipv4.ip_forward": "1"}, rootfsPropagation="rshared")
    document["process"]["cwd"] = "/work"
    document["hooks"] = {"createRuntime": [{"path": "/bin/true"}]}
    document["mounts"].append({"destination": "/t", "type": "tmpfs", "source": "tmpfs", "options": ["ro", "size=1m"]})
    for step in plan.plan(document, "/b", "/b/rootfs").steps:
        sentence, call, _ = step.describe()
        assert sentence and sentence[0].islower()
        assert call.count("(") == call.count(")")
        if type(step).__name__ not in ("LinkDevices", "PrepareRoot"):
            assert step.field


def test_a_private_cgroup_namespace_is_made_after_the_cgroup_is_joined() -> None:
    document = spec()
    document["linux"]["namespaces"].append({"type": "cgroup"})
    result = plan.plan(document, "/b", "/b/rootfs")
    assert not result.clone_flags & ns.CLONE_NEWCGROUP
    join = next(step for step in result.steps if isinstance(step, plan.JoinCgroup))
    assert join.unshare


def test_joins_come_user_first_and_mount_last() -> None:
    document = spec()
    document["linux"]["namespaces"] = [
        {"type": "mount", "path": "/m"},
        {"type": "network", "path": "/n"},
        {"type": "user", "path": "/u"},
        {"type": "pid"},
    ]
    result = plan.plan(document, "/b", "/b/rootfs")
    assert [kind for kind, _ in result.joins] == ["user", "network", "mount"]
    assert result.clone_flags == ns.CLONE_NEWPID


def test_nothing_is_made_in_the_dev_of_somebody_else() -> None:
    document = spec()
    document["mounts"].append({"destination": "/dev", "type": "bind", "source": "/dev", "options": ["rbind"]})
    assert "MakeDevices" not in names(plan.plan(document, "/b", "/b/rootfs"))


def test_bind_sources_are_relative_to_the_bundle() -> None:
    document = spec()
    document["mounts"] = [{"destination": "/d", "source": "data", "options": ["bind"]}]
    step = next(step for step in plan.plan(document, "/b", "/b/rootfs").steps if isinstance(step, Mount))
    assert step.source == "/b/data" and step.is_bind and step.field == "mounts[0]"


@pytest.mark.parametrize("field", ["maskedPaths", "readonlyPaths"])
def test_without_a_mount_namespace_nothing_of_the_host_is_hidden(field: str) -> None:
    document = spec(namespaces=[{"type": "pid"}])
    document["linux"].pop({"maskedPaths": "readonlyPaths", "readonlyPaths": "maskedPaths"}[field])
    with pytest.raises(Invalid) as error:
        plan.plan(document, "/b", "/b/rootfs")
    assert error.value.path == f"linux.{field}"


def test_without_a_mount_namespace_nothing_is_mounted() -> None:
    document = spec(namespaces=[{"type": "pid"}], maskedPaths=[], readonlyPaths=[])
    assert names(plan.plan(document, "/b", "/b/rootfs")) == ["OpenRoot", "JoinCgroup", "SetNames", "EnterRoot"]


def test_a_read_only_tmpfs_becomes_so_at_the_end() -> None:
    document = spec()
    document["mounts"].append({"destination": "/t", "type": "tmpfs", "source": "tmpfs", "options": ["ro"]})
    order = names(plan.plan(document, "/b", "/b/rootfs"))
    assert order.index("FinishReadOnly") > order.index("MakeDevices")


def test_the_later_option_wins() -> None:
    options = mount_options.parse(["ro", "nosuid", "rw", "suid", "noexec"])
    assert options.flags == m.MS_NOEXEC
    assert options.cleared == m.MS_RDONLY | m.MS_NOSUID
    assert options.attributes() == (m.MOUNT_ATTR_NOEXEC, m.MOUNT_ATTR_RDONLY | m.MOUNT_ATTR_NOSUID)


def test_access_times_are_one_field() -> None:
    assert mount_options.parse(["noatime"]).attributes() == (m.MOUNT_ATTR_NOATIME, m.MOUNT_ATTR__ATIME)
    assert mount_options.parse(["strictatime"]).attributes() == (m.MOUNT_ATTR_STRICTATIME, m.MOUNT_ATTR__ATIME)


def test_options_go_where_they_belong() -> None:
    options = mount_options.parse(["rbind", "rslave", "rro", "rnosuid", "tmpcopyup", "size=1m", "mode=755"])
    assert options.flags == m.MS_BIND | m.MS_REC
    assert options.propagation == [m.MS_SLAVE | m.MS_REC]
    assert options.recursive_set == m.MOUNT_ATTR_RDONLY | m.MOUNT_ATTR_NOSUID
    assert options.extensions == ["tmpcopyup"]
    assert options.data == ["size=1m", "mode=755"]


def test_a_mount_label_goes_to_new_file_systems_only() -> None:
    given = spec()
    given["mounts"] += [
        {"destination": "/t", "type": "tmpfs", "source": "tmpfs", "options": ["size=1m", "tmpcopyup"]},
        {"destination": "/b", "source": "/b", "options": ["bind"]},
    ]
    label = "system_u:object_r:container_file_t:s0:c1,c2"
    result = plan.plan(given, "/b", "/b/rootfs", mount_label=label)
    labelled = [s.destination for s in result.steps if isinstance(s, Mount) and f'context="{label}"' in s.options.data]
    assert labelled == ["/dev", "/dev/pts", "/dev/shm", "/t"]
    assert not any("context" in word for s in plan.plan(given, "/b", "/b/rootfs").steps if isinstance(s, Mount)
                   for word in s.options.data)  # fmt: skip


def test_an_option_with_commas_in_quotes_is_one_option() -> None:
    data = 'size=1m,context="system_u:object_r:container_file_t:s0:c1,c2",mode=755,huge'
    assert mount_options.settings(data) == {
        "size": "1m",
        "context": "system_u:object_r:container_file_t:s0:c1,c2",
        "mode": "755",
        "huge": "",
    }
