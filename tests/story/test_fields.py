"""Fields of config.json that no other story shows; of few of them the runc here knows anything."""

import os
import re
import subprocess

import pytest

pytestmark = pytest.mark.root


@pytest.fixture
def run(ctk, busybox_bundle):
    """Changes the bundle, runs a shell script in it, gives what it printed."""

    def go(script, change=None):
        if change is not None:
            busybox_bundle.edit(change)
        return ctk("run", "--bundle", str(busybox_bundle.sh(script)), ctk.id()).ok().out

    return go


def test_scheduler(run):
    def change(config):
        config["process"]["scheduler"] = {"policy": "SCHED_BATCH", "nice": 7}

    # proc(5): field 19 is the nice value, 41 the policy; SCHED_BATCH is 3.
    assert run("cut -d' ' -f19,41 /proc/self/stat", change) == "7 3\n"


def test_io_priority(run):
    def change(config):
        config["process"]["ioPriority"] = {"class": "IOPRIO_CLASS_BE", "priority": 6}

    assert run("ionice -p $$", change) == "best-effort: prio 6\n"


def test_domainname(run):
    assert run("cat /proc/sys/kernel/domainname", lambda config: config.update(domainname="d.example")) == "d.example\n"


def test_memory_policy(run):
    if not os.path.exists("/proc/self/numa_maps"):
        pytest.skip("this kernel has no NUMA policies")

    def change(config):
        config["linux"]["memoryPolicy"] = {"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}

    policies = {line.split()[1] for line in run("cat /proc/self/numa_maps", change).splitlines()}
    assert policies == {"bind=static:0"}


def test_personality(run):
    if os.uname().machine != "x86_64":
        pytest.skip("what LINUX32 makes of another machine's name is not known here")
    assert run("uname -m", lambda config: config["linux"].update(personality={"domain": "LINUX32"})) == "i686\n"


@pytest.mark.parametrize("joined", [False, True])
def test_net_devices(run, joined):
    name = f"ctk{os.getpid() % 100000}a"
    other = subprocess.Popen(["unshare", "--net", "sleep", "1000"])

    def change(config):
        config["linux"]["netDevices"] = {name: {"name": "in0"}}
        for entry in config["linux"]["namespaces"]:
            if joined and entry["type"] == "network":
                entry["path"] = f"/proc/{other.pid}/ns/net"

    def ip(*words):
        subprocess.run(["ip", *words], check=True)

    ip("link", "add", name, "type", "veth", "peer", "name", name[:-1] + "b")
    try:
        ip("link", "set", name, "mtu", "1400", "address", "02:00:00:00:00:07", "up")
        ip("address", "add", "192.0.2.7/24", "broadcast", "+", "dev", name)
        ip("address", "add", "2001:db8::7/64", "dev", name, "nodad")
        ip("address", "add", "169.254.7.7/16", "scope", "link", "dev", name)
        while os.readlink(f"/proc/{other.pid}/ns/net") == os.readlink("/proc/self/ns/net"):
            pass
        told = run("ip address; readlink /proc/self/ns/net", change)
        assert "in0" in told and name not in told
        assert "mtu 1400" in told and "02:00:00:00:00:07" in told
        assert "192.0.2.7/24 brd 192.0.2.255" in told and "2001:db8::7/64" in told
        assert "169.254.7.7" not in told, "an address of the link stays behind"
        assert (os.readlink(f"/proc/{other.pid}/ns/net") in told) == joined
        assert not os.path.exists(f"/sys/class/net/{name}")
    finally:
        other.kill()
        other.wait()
        subprocess.run(["ip", "link", "del", name[:-1] + "b"], check=False, capture_output=True)


def test_intel_rdt_is_refused(ctk, busybox_bundle):
    busybox_bundle.edit(lambda config: config["linux"].update(intelRdt={"closID": "x", "l3CacheSchema": "L3:0=f"}))
    refused = ctk("run", "--bundle", str(busybox_bundle), ctk.id())
    assert refused.rc == 1 and "linux.intelRdt" in refused.err
    assert ctk("features").json()["linux"]["intelRdt"] == {"enabled": False}


@pytest.mark.parametrize("runtime", ["runc", "ctk"])
def test_a_hook_that_takes_too_long(runtime, ctk, busybox_bundle):
    runtime = ctk if runtime == "ctk" else ctk.like(runtime)
    hook = {"path": "/bin/sleep", "args": ["sleep", "50"], "timeout": 1}
    busybox_bundle.edit(lambda config: config.update(hooks={"createRuntime": [hook]}))
    refused = runtime("run", "--bundle", str(busybox_bundle), runtime.id(), timeout=20)
    assert refused.rc == 1 and "hook #0" in refused.err and re.search(r"timeout|1 s", refused.err)


@pytest.mark.parametrize("runtime", ["runc", "ctk"])
def test_a_hook_that_may_take_a_month(runtime, ctk, busybox_bundle):
    """More milliseconds than poll(2) counts."""
    runtime = ctk if runtime == "ctk" else ctk.like(runtime)
    hook = {"path": "/bin/sleep", "args": ["sleep", "0.1"], "timeout": 3_000_000}
    kinds = ("createRuntime", "createContainer", "startContainer")
    busybox_bundle.edit(lambda config: config.update(hooks={kind: [hook] for kind in kinds}))
    runtime("run", "--bundle", str(busybox_bundle), runtime.id()).ok()


def test_names_of_fields_are_written_as_the_spec_has_them(ctk, busybox_bundle):
    """runc reads "Root" for "root", as Go does; crun and ctk do not."""
    busybox_bundle.edit(lambda config: config.update(Root=config.pop("root")))
    refused = ctk("run", "--bundle", str(busybox_bundle), ctk.id())
    assert refused.rc == 1 and "root" in refused.err
    ctk.like("runc")("run", "--bundle", str(busybox_bundle), ctk.id()).ok()
