"""Checks of a spec: each rule with the JSON path that it names, and that no document at all makes them stumble."""

import copy

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from toolkit.oci import check, schema
from toolkit.oci.defaults import default_spec


def changed(path, value):
    """The default spec with one part replaced; `path` is a list of keys, missing objects are made."""
    spec = default_spec()
    here = spec
    for key in path[:-1]:
        here = here.setdefault(key, {}) if isinstance(here, dict) else here[key]
    if value is ...:
        del here[path[-1]]
    else:
        here[path[-1]] = value
    return spec


def linux(**fields):
    spec = default_spec()
    for name, value in fields.items():
        spec["linux"][name] = value
    return spec


def process(**fields):
    spec = default_spec()
    spec["process"].update(fields)
    return spec


def with_namespaces(*kinds, **fields):
    return linux(namespaces=[{"type": kind} for kind in kinds], maskedPaths=[], readonlyPaths=[], **fields) | {
        "hostname": ""
    }


HOOK = {"hooks": {"prestart": [{"path": "x"}]}}

MUST_FAIL = [
    (
        linux(resources={"hugepageLimits": [{"pageSize": "2MB"}]}),
        "linux.resources.hugepageLimits[0].limit",
        "is required",
    ),
    (
        linux(resources={"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0}]}}),
        "linux.resources.blockIO.throttleReadBpsDevice[0].rate",
        "is required",
    ),
    (
        linux(resources={"blockIO": {"weightDevice": [{"major": 8, "weight": 10}]}}),
        "linux.resources.blockIO.weightDevice[0].minor",
        "is required",
    ),
    (
        linux(resources={"network": {"priorities": [{"name": "lo"}]}}),
        "linux.resources.network.priorities[0].priority",
        "is required",
    ),
    (changed(["ociVersion"], ...), "ociVersion", "is required"),
    (changed(["ociVersion"], "one"), "ociVersion", "is not a version"),
    (changed(["ociVersion"], "2.0.0"), "ociVersion", "not a version that ctk supports"),
    (changed(["ociVersion"], "0.5"), "ociVersion", "is not a version"),
    (changed(["root"], ...), "root", "is required"),
    (changed(["root"], {}), "root.path", "is required"),
    (process(args=[]), "process.args", "must not be empty"),
    (process(rlimits=[{"type": "RLIMIT_CORE", "hard": 1}]), "process.rlimits[0].soft", "is required"),
    (process(args=None), "process.args", "must not be empty"),
    (process(args="sh"), "process.args", "must be an array, not the string 'sh'"),
    (process(args=["sh", 1]), "process.args[1]", "must be a string, not the number 1"),
    (process(args=["sh", "a\0b"]), "process.args[1]", "contains a NUL character"),
    (process(cwd=""), "process.cwd", "is required"),
    (process(env=["A=1", "PATH"]), "process.env[1]", "'PATH' is not NAME=value"),
    (process(env=["=x=y"]), "process.env[0]", "is not NAME=value"),
    (linux(mountLabel='x",size=1g'), "linux.mountLabel", "is not an SELinux context"),
    (process(cwd="tmp"), "process.cwd", "not an absolute path"),
    (process(user={"uid": -1}), "process.user.uid", "out of range"),
    (process(user={"uid": 4294967296}), "process.user.uid", "out of range"),
    (process(user={"uid": 4294967295}), "process.user.uid", "is not an id"),
    (process(user={"uid": True}), "process.user.uid", "must be an integer, not true"),
    (process(user={"uid": 1.0}), "process.user.uid", "must be an integer"),
    (process(user={"additionalGids": [4294967295]}), "process.user.additionalGids[0]", "is not an id"),
    (process(rlimits=[{"type": "RLIMIT_X"}]), "process.rlimits[0].type", "unknown resource limit"),
    (process(rlimits=[{"type": "RLIMIT_CORE"}] * 2), "process.rlimits[1].type", "given twice"),
    (process(rlimits=[{"type": "RLIMIT_CORE", "soft": 2, "hard": 1}]), "process.rlimits[0].soft", "more than the hard"),
    (process(oomScoreAdj=1001), "process.oomScoreAdj", "out of range"),
    (process(scheduler={}), "process.scheduler.policy", "is required"),
    (process(scheduler={"policy": "SCHED_X"}), "process.scheduler.policy", "is not one of"),
    (process(scheduler={"policy": "SCHED_OTHER", "nice": 20}), "process.scheduler.nice", "out of range"),
    (process(scheduler={"policy": "SCHED_OTHER", "priority": 1}), "process.scheduler.priority", "SCHED_FIFO"),
    (process(scheduler={"policy": "SCHED_RR", "runtime": 1}), "process.scheduler.runtime", "SCHED_DEADLINE"),
    (process(scheduler={"policy": "SCHED_DEADLINE"}), "process.scheduler.runtime", "requires `runtime`"),
    (
        process(scheduler={"policy": "SCHED_DEADLINE", "runtime": 1}),
        "process.scheduler.deadline",
        "requires `deadline`",
    ),
    (
        process(scheduler={"policy": "SCHED_DEADLINE", "runtime": 1, "deadline": 2}),
        "process.scheduler.runtime",
        "between 1024",
    ),
    (
        process(scheduler={"policy": "SCHED_DEADLINE", "runtime": 3000, "deadline": 2000}),
        "process.scheduler.runtime",
        "<= deadline",
    ),
    (
        process(scheduler={"policy": "SCHED_DEADLINE", "runtime": 2000, "deadline": 3000, "period": 2500}),
        "process.scheduler.deadline",
        "<= period",
    ),
    (
        default_spec() | {"domainname": "a"} | {"linux": linux(sysctl={"kernel.domainname": "b"})["linux"]},
        "linux.sysctl['kernel.domainname']",
        "`domainname`",
    ),
    (process(scheduler={"policy": "SCHED_RR", "flags": ["X"]}), "process.scheduler.flags[0]", "unknown flag"),
    (process(ioPriority={"class": "X"}), "process.ioPriority.class", "is not one of"),
    (process(ioPriority={"class": "IOPRIO_CLASS_BE", "priority": 8}), "process.ioPriority.priority", "out of range"),
    (process(execCPUAffinity={"initial": "1-"}), "process.execCPUAffinity.initial", "not a list of cpus"),
    (changed(["mounts", 0, "destination"], ""), "mounts[0].destination", "is required"),
    (changed(["mounts", 0], {"destination": "/x", "type": "bind"}), "mounts[0].source", "is required"),
    (changed(["mounts", 0, "uidMappings"], [{"size": 1}]), "mounts[0].gidMappings", "go together"),
    (changed(["mounts", 0, "options"], ["idmap"]), "mounts[0].options", "idmap needs"),
    (changed(["hostname"], "x" * 65), "hostname", "longer than 64 bytes"),
    (with_namespaces("pid") | {"hostname": "x"}, "hostname", "no uts namespace"),
    (with_namespaces("pid") | {"domainname": "x"}, "domainname", "no uts namespace"),
    (default_spec() | HOOK, "hooks.prestart[0].path", "not an absolute path"),
    (default_spec() | {"hooks": {"poststop": [{}]}}, "hooks.poststop[0].path", "is required"),
    (default_spec() | {"hooks": {"poststop": [{"path": "/x", "timeout": 0}]}}, "hooks.poststop[0].timeout", "above 0"),
    (default_spec() | {"annotations": {"": "x"}}, "annotations", "empty key"),
    (default_spec() | {"annotations": {"a": 1}}, "annotations['a']", "must be a string"),
    (linux(namespaces=[{"type": "mnt"}]), "linux.namespaces[0].type", "is not one of"),
    (linux(namespaces=[{}]), "linux.namespaces[0].type", "is required"),
    (linux(namespaces=[{"type": "pid"}] * 2), "linux.namespaces[1].type", "given twice"),
    (linux(namespaces=[{"type": "pid", "path": "proc"}]), "linux.namespaces[0].path", "not an absolute path"),
    (linux(uidMappings=[{"size": 1}]), "linux.uidMappings", "needs a user namespace"),
    (with_namespaces("user", uidMappings=[{"size": 0}]), "linux.uidMappings[0].size", "more than 0"),
    (
        with_namespaces("user", uidMappings=[{"hostID": 4294967295, "size": 2}]),
        "linux.uidMappings[0].hostID",
        "above 4294967295",
    ),
    (linux(timeOffsets={"boottime": {"secs": 1}}), "linux.timeOffsets", "needs a time namespace"),
    (with_namespaces("time", timeOffsets={"realtime": {}}), "linux.timeOffsets", "neither monotonic nor boottime"),
    (linux(devices=[{"path": "/dev/x", "type": "x"}]), "linux.devices[0].type", "is not one of"),
    (linux(devices=[{"path": "dev/x", "type": "c"}]), "linux.devices[0].path", "not an absolute path"),
    (linux(devices=[{"path": "/d", "type": "c", "major": 5000}]), "linux.devices[0].major", "out of range"),
    (linux(cgroupsPath="/a/../../b"), "linux.cgroupsPath", "`..`"),
    (linux(sysctl={"kernel.core_pattern": "|/x"}), "linux.sysctl['kernel.core_pattern']", "separate kernel namespace"),
    (linux(sysctl={"kernel/core_pattern": "|/x"}), "linux.sysctl['kernel/core_pattern']", "separate kernel namespace"),
    (linux(sysctl={"net/../kernel/core_pattern": "x"}), "linux.sysctl['net/../kernel/core_pattern']", "not the name"),
    (linux(sysctl={"net..x": "x"}), "linux.sysctl['net..x']", "not the name"),
    (linux(sysctl={"kernel.hostname": "x"}), "linux.sysctl['kernel.hostname']", "`hostname`"),
    (with_namespaces("pid", sysctl={"net.core.somaxconn": "1"}), "linux.sysctl['net.core.somaxconn']", "network"),
    (with_namespaces("pid", sysctl={"fs.mqueue.msg_max": "1"}), "linux.sysctl['fs.mqueue.msg_max']", "ipc"),
    (
        with_namespaces("pid", sysctl={"user.max_net_namespaces": "1"}),
        "linux.sysctl['user.max_net_namespaces']",
        "user",
    ),
    (linux(maskedPaths=["proc/kcore"]), "linux.maskedPaths[0]", "not an absolute path"),
    (linux(namespaces=[{"type": "uts"}]), "linux.maskedPaths", "needs a mount namespace"),
    (linux(rootfsPropagation="both"), "linux.rootfsPropagation", "is not one of"),
    (linux(personality={"domain": "BSD"}), "linux.personality.domain", "neither LINUX nor LINUX32"),
    (linux(personality={"domain": "LINUX", "flags": ["x"]}), "linux.personality.flags", "no flags"),
    (linux(memoryPolicy={"mode": "MPOL_BIND"}), "linux.memoryPolicy.nodes", "needs nodes"),
    (
        linux(memoryPolicy={"mode": "MPOL_LOCAL", "nodes": "0"}),
        "linux.memoryPolicy.nodes",
        "requires 0 nodes but got 1",
    ),
    (linux(memoryPolicy={"mode": "MPOL_X"}), "linux.memoryPolicy.mode", "invalid memory policy mode"),
    (
        linux(memoryPolicy={"mode": "MPOL_BIND", "nodes": "x"}),
        "linux.memoryPolicy.nodes",
        "invalid memory policy nodes",
    ),
    (linux(intelRdt={"closID": "../x"}), "linux.intelRdt.closID", "is not a name"),
    (linux(netDevices={"a/b": {}}), "linux.netDevices['a/b']", "not the name of a network interface"),
    (with_namespaces("pid", netDevices={"eth0": {}}), "linux.netDevices", "needs a network namespace"),
    (linux(resources={"unified": {"../x": "1"}}), "linux.resources.unified['../x']", "not the name of a file"),
    (linux(resources={"memory": {"limit": 2, "swap": 1}}), "linux.resources.memory.swap", "less than the memory limit"),
    (linux(resources={"memory": {"swappiness": 101}}), "linux.resources.memory.swappiness", "out of range"),
    (linux(resources={"cpu": {"cpus": "a"}}), "linux.resources.cpu.cpus", "not a list of numbers"),
    (linux(resources={"blockIO": {"weight": 5}}), "linux.resources.blockIO.weight", "out of range (10 to 1000)"),
    (
        linux(resources={"hugepageLimits": [{"pageSize": "2M"}]}),
        "linux.resources.hugepageLimits[0].pageSize",
        "not a page size",
    ),
    (linux(resources={"devices": [{"type": "x"}]}), "linux.resources.devices[0].type", "is not one of"),
    (linux(seccomp={}), "linux.seccomp.defaultAction", "is required"),
    (linux(seccomp={"defaultAction": "SCMP_ACT_X"}), "linux.seccomp.defaultAction", "is not one of"),
    (
        linux(seccomp={"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["x86"]}),
        "linux.seccomp.architectures[0]",
        "unknown architecture",
    ),
    (
        linux(seccomp={"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": [], "action": "SCMP_ACT_LOG"}]}),
        "linux.seccomp.syscalls[0].names",
        "must not be empty",
    ),
    (
        linux(
            seccomp={
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": ["x"], "action": "SCMP_ACT_LOG", "args": [{"index": 6, "op": "SCMP_CMP_EQ"}]}],
            }
        ),
        "linux.seccomp.syscalls[0].args[0].index",
        "out of range (0 to 5)",
    ),
    (
        linux(seccomp={"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1}),
        "linux.seccomp.defaultErrnoRet",
        "returns no errno",
    ),
]


@pytest.mark.parametrize("version", ["0.3.0", "0.5.0-dev", "1.0.0-rc5", "1.3.0+x"])
def test_a_version_before_the_first_is_taken(version):
    assert check.errors(changed(["ociVersion"], version)) == []


@pytest.mark.parametrize(("spec", "path", "said"), MUST_FAIL, ids=[f"{p}: {s}" for _, p, s in MUST_FAIL])
def test_what_must_fail_fails_and_names_its_place(spec, path, said):
    found = check.errors(spec)
    assert [f for f in found if f.path == path and said in f.message], found


MAY_PASS = [
    (process(capabilities={"bounding": ["CAP_NEW"]}), "process.capabilities.bounding[0]"),
    (changed(["mounts", 0, "destination"], "proc"), "mounts[0].destination"),
    (linux(resources={"devices": [{"access": "rx"}]}), "linux.resources.devices[0].access"),
    (changed(["process"], ...), "process"),
    (with_namespaces("user"), "linux.uidMappings"),
]


@pytest.mark.parametrize(("spec", "path"), MAY_PASS)
def test_what_should_be_told_is_a_warning(spec, path):
    assert check.errors(spec) == []
    assert [f.path for f in check.findings(spec)] == [path]


GOOD = [
    process(scheduler={"policy": "SCHED_DEADLINE", "runtime": 2000, "deadline": 3000, "period": 3000}),
    process(user={"uid": 4294967294, "umask": 0o22}),
    process(execCPUAffinity={"initial": "0-3,7", "final": ""}),
    linux(sysctl={"net.ipv4.conf.eth0/1.forwarding": "1", "net/ipv4/conf/eth0.1/forwarding": "1", "kernel.sem": "1"}),
    linux(resources={"memory": {"limit": -1, "swap": -1}, "blockIO": {"weight": 0}, "cpu": {"cpus": "0-1"}}),
    with_namespaces("time", timeOffsets={"boottime": {"secs": -3}}),
    with_namespaces("user", uidMappings=[{"containerID": 0, "hostID": 1, "size": 4294967295}]),
    linux(seccomp={"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "syscalls": None}),
    linux(netDevices={"eth1": {"name": "eth0"}, "eth2": None}),
    default_spec() | {"unknown": 1, "windows": {}, "hooks": None},
]


@pytest.mark.parametrize("spec", GOOD, ids=range(len(GOOD)))
def test_what_is_right_passes(spec):
    assert check.findings(spec) == []


def test_a_process_by_itself():
    assert check.errors({"args": ["ls"], "cwd": "/"}, exec=True) == []
    assert [f.path for f in check.errors({"args": [], "cwd": "x"}, exec=True)] == ["args", "cwd"]
    assert [f.path for f in check.errors([], exec=True)] == [""]


def test_resources_by_themselves():
    assert check.resource_errors({"memory": {"limit": 1}}) == []
    assert [f.path for f in check.resource_errors({"memory": {"limit": "1"}})] == ["memory.limit"]
    assert [f.path for f in check.resource_errors({"cpu": {"cpus": "x"}})] == ["cpu.cpus"]


def test_require_names_the_first_and_counts_the_rest():
    with pytest.raises(Exception, match=r"config.json: ociVersion: is required \(and 1 more: root\)"):
        check.require({})


def test_unknown_fields_are_found_by_path():
    spec = default_spec() | {"proces": {}, "windows": {}}
    spec["linux"]["namespaces"][0]["kind"] = "x"
    spec["linux"]["sysctl"] = {"any.name": "x"}
    assert check.unknown_fields(spec) == ["linux.namespaces[0].kind", "proces"]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**65), 2**65)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["/", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def values_of(want):
    """Mostly right values of a schema's type, sometimes any JSON."""
    if isinstance(want, dict):
        right = st.fixed_dictionaries({}, optional={key: values_of(inner) for key, inner in want.items()})
    elif isinstance(want, list):
        right = st.lists(values_of(want[0]), max_size=2)
    elif isinstance(want, tuple):
        right = st.dictionaries(
            st.sampled_from(["net.a", "..", "", "kernel/sem", "eth0"]), values_of(want[0]), max_size=2
        )
    elif want == "bool":
        right = st.booleans()
    elif want == "str":
        right = st.sampled_from(
            ["", "/", "x", "SCMP_ACT_ERRNO", "user", "time", "1-2", "a" * 70, "2MB", "SCHED_RR", "é/.."]
        )
    else:
        right = st.integers(-2, 5) | st.integers(-(2**64), 2**64)
    return right if isinstance(want, dict) else st.one_of(right, right, right, JSON)


@settings(suppress_health_check=list(HealthCheck), max_examples=settings.default.max_examples // 3)  # 50 ms each
@given(values_of(schema.SPEC))
def test_no_document_makes_the_checks_stumble(spec):
    before = copy.deepcopy(spec)
    for finding in check.findings(spec):
        assert isinstance(finding.path, str) and finding.message
        str(finding.as_error())
    assert repr(spec) == repr(before)  # repr: NaN is not equal to itself


@given(JSON)
def test_nor_does_any_json(value):
    check.findings(value)
    check.findings(value, exec=True)
    check.resource_errors(value)
    check.unknown_fields(value)


@settings(suppress_health_check=list(HealthCheck))
@given(st.data())
def test_one_changed_place_in_a_good_spec_is_survived(data):
    spec = default_spec()
    here = spec
    while True:
        keys = list(here) if isinstance(here, dict) else list(range(len(here)))
        key = data.draw(st.sampled_from(keys))
        if isinstance(here[key], (dict, list)) and here[key] and data.draw(st.booleans()):
            here = here[key]
            continue
        here[key] = data.draw(JSON)
        break
    check.findings(spec)
