"""What runc or crun can do beyond the specification's plain cases, found with their own test suites."""

import json
import os
import socket
import subprocess
from pathlib import Path

import pytest

from tests.fixtures.leaks import TAG

pytestmark = pytest.mark.root

# Root stays the caller, who alone may reach the test's folders.
MAPPED = [{"containerID": 0, "hostID": 0, "size": 1}, {"containerID": 1, "hostID": 200000, "size": 999}]


def in_user_namespace(config, *, mapped=MAPPED, network=True):
    linux = config["linux"]
    linux["namespaces"].append({"type": "user"})
    if mapped:
        linux["uidMappings"] = linux["gidMappings"] = mapped
    if not network:
        linux["namespaces"] = [entry for entry in linux["namespaces"] if entry["type"] != "network"]


def test_devices_in_a_user_namespace_have_the_owner_and_mode_of_the_spec(ctk, busybox_bundle):
    device = {"path": "/dev/mine", "type": "c", "major": 1, "minor": 5, "fileMode": 0o157, "uid": 10, "gid": 11}
    pipe = {"path": "/dev/pipe", "type": "p", "fileMode": 0o640, "uid": 1, "gid": 2}

    def change(config):
        in_user_namespace(config)
        config["linux"]["devices"] = [device, pipe]

    script = (
        "stat -c '%a %u %g %t %T' /dev/mine; stat -c '%F %a %u %g' /dev/pipe; grep -E '/dev/(null|mine) ' /proc/mounts"
    )
    out = ctk("run", "--bundle", str(busybox_bundle.sh(script).edit(change)), ctk.id()).ok().out.splitlines()
    assert out[:2] == ["157 10 11 1 5", "fifo 640 1 2"]
    assert len(out) == 4
    for line in out[2:]:
        assert {"nosuid", "noexec"} <= set(line.split()[3].split(","))
        assert "nodev" not in line.split()[3].split(",")


def test_a_user_namespace_without_mappings_is_the_callers(ctk, busybox_bundle):
    def change(config):
        in_user_namespace(config, mapped=None)
        config["mounts"] = [entry for entry in config["mounts"] if entry["type"] != "devpts"]  # wants group 5

    busybox_bundle.sh("cat /proc/self/uid_map; id -u").edit(change)
    first, *_rest, user = ctk("run", "--bundle", str(busybox_bundle), ctk.id()).ok().out.splitlines()
    assert first.split() == ["0", "0", "1"]
    assert user == "0"


def test_sysfs_in_a_user_namespace_that_shares_the_network(ctk, busybox_bundle):
    """The kernel refuses a new sysfs there: the host's is shown, read-only and without the cgroups."""
    busybox_bundle.sh(
        "grep ' /sys ' /proc/mounts; ls /sys/class | head -n 1; ls /sys/fs/cgroup; mkdir /sys/fs/cgroup/x"
    )

    def change(config):
        in_user_namespace(config, network=False)
        config["mounts"] = [entry for entry in config["mounts"] if entry["destination"] != "/sys/fs/cgroup"]

    told = ctk("run", "--bundle", str(busybox_bundle.edit(change)), ctk.id())
    lines = told.out.splitlines()
    assert "ro" in lines[0].split()[3].split(",")
    assert len(lines) == 2
    assert "Read-only file system" in told.err


@pytest.mark.parametrize("userns", [False, True])
def test_a_symlink_can_be_mounted_or_copied(ctk, busybox_bundle, tmp_path, userns):
    (tmp_path / "file").write_text("of the file\n")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    (busybox_bundle.rootfs / "place").symlink_to("nowhere")
    source = str(tmp_path / "link")

    def change(config):
        if userns:
            in_user_namespace(config)
        config["mounts"] += [
            {"destination": "/place", "source": source, "options": ["bind", "dest-nofollow", "src-nofollow"]},
            {"destination": "/a/copy", "source": source, "options": ["bind", "copy-symlink"]},
            {"destination": "/followed", "source": source, "options": ["bind"]},
        ]
        config["root"]["readonly"] = False

    busybox_bundle.sh("readlink /place; readlink /a/copy; cat /followed").edit(change)
    out = ctk("run", "--bundle", str(busybox_bundle), ctk.id()).ok().out.splitlines()
    assert out == [str(tmp_path / "file")] * 2 + ["of the file"]


def test_two_mounts_of_one_mqueue_on_one_place(ctk, busybox_bundle):
    extra = {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec"]}
    busybox_bundle.sh("grep -c ' /dev/mqueue ' /proc/mounts").edit(lambda config: config["mounts"].append(extra))
    assert ctk("run", "--bundle", str(busybox_bundle), ctk.id()).ok().out == "2\n"


def test_devices_are_not_made_behind_a_symlink(ctk, busybox_bundle, tmp_path):
    """Where nothing is mounted on /dev, the image's own is written to: it must be the image's."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (busybox_bundle.rootfs / "dev").rmdir()
    (busybox_bundle.rootfs / "dev").symlink_to(outside)

    def change(config):
        config["mounts"] = [entry for entry in config["mounts"] if not entry["destination"].startswith("/dev")]

    told = ctk("run", "--bundle", str(busybox_bundle.edit(change)), ctk.id())
    assert (told.rc, list(outside.iterdir())) == (1, [])
    assert "'/dev'" in told.err
    assert "symbolic link" in told.err


def test_a_container_without_process_is_created_but_not_started(ctk, busybox_bundle):
    busybox_bundle.edit(lambda config: config.pop("process"))
    assert "process: is required" in ctk("run", "--bundle", str(busybox_bundle), ctk.id()).err
    name = ctk.id()
    ctk("create", "--bundle", str(busybox_bundle), name).ok()
    assert ctk("state", name).json()["status"] == "created"
    assert "process: is required" in ctk("start", name).err
    for _ in range(100):
        if ctk("state", name).json()["status"] == "stopped":
            break
    assert ctk("state", name).json()["status"] == "stopped"
    ctk("delete", name).ok()


def test_without_a_mount_namespace_nothing_is_mounted(ctk, busybox_bundle):
    before = Path("/proc/self/mountinfo").read_text()

    def change(config):
        linux = config["linux"]
        linux["namespaces"] = [entry for entry in linux["namespaces"] if entry["type"] not in ("mount", "cgroup")]
        linux["maskedPaths"] = linux["readonlyPaths"] = []
        config["root"]["readonly"] = False

    busybox_bundle.sh("ls /proc; ls /dev; pwd; ls -d /bin/busybox").edit(change)
    told = ctk("run", "--bundle", str(busybox_bundle), ctk.id()).ok()
    assert told.out.split() == ["/", "/bin/busybox"]
    assert "mounts are left out" in told.err
    assert Path("/proc/self/mountinfo").read_text() == before
    busybox_bundle.edit(lambda config: config["linux"].update(maskedPaths=["/etc"]))
    assert "linux.maskedPaths" in ctk("run", "--bundle", str(busybox_bundle), ctk.id()).err


def test_an_unbindable_root(ctk, busybox_bundle):
    def change(config):
        config["linux"]["rootfsPropagation"] = "unbindable"
        config["root"]["readonly"] = False
        for kind in ("bounding", "effective", "permitted"):
            config["process"]["capabilities"][kind].append("CAP_SYS_ADMIN")

    busybox_bundle.sh("mkdir /x; mount -o bind / /x").edit(change)
    assert "Invalid argument" in ctk("run", "--bundle", str(busybox_bundle), ctk.id()).err


@pytest.mark.parametrize(
    "call", ["getcwd", "close_range", "execveat", "memfd_create", "faccessat2", "openat2", "statx"]
)
@pytest.mark.parametrize("no_new_privileges", [False, True])
def test_a_filter_may_refuse_what_ctk_uses_itself(ctk, busybox_bundle, call, no_new_privileges):
    """A profile is written for the program, not for the runtime: what it forbids, ctk must have done before."""

    def change(config):
        config["process"]["noNewPrivileges"] = no_new_privileges
        rule = {"names": [call], "action": "SCMP_ACT_ERRNO"}
        config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}

    busybox_bundle.sh("grep Seccomp: /proc/self/status").edit(change)
    assert ctk("run", "--bundle", str(busybox_bundle), ctk.id()).ok().out.split() == ["Seccomp:", "2"]


def test_unknown_names_in_a_filter_can_be_refused(ctk, busybox_bundle):
    def change(config):
        rule = {"names": ["not_a_call"], "action": "SCMP_ACT_ERRNO"}
        config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}

    ctk("run", "--bundle", str(busybox_bundle.edit(change)), ctk.id()).ok()
    busybox_bundle.edit(lambda config: config.update(annotations={"run.oci.seccomp_fail_unknown_syscall": "1"}))
    assert "linux.seccomp.syscalls[0].names[0]" in ctk("run", "--bundle", str(busybox_bundle), ctk.id()).err


def test_a_seccomp_agent_is_told_who_is_filtered(ctk, busybox_bundle, tmp_path):
    path = str(tmp_path / "agent")
    agent = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    agent.bind(path)
    agent.listen(1)

    def change(config):
        config["linux"]["seccomp"] = {
            "defaultAction": "SCMP_ACT_ALLOW",
            "listenerPath": path,
            "listenerMetadata": "of mine",
        }

    name = ctk.id()
    ctk("run", "--bundle", str(busybox_bundle.edit(change)), name).ok()
    with agent, agent.accept()[0] as end:
        text, fds, _, _ = socket.recv_fds(end, 65536, 4)
    for fd in fds:
        os.close(fd)
    said = json.loads(text)
    assert (len(fds), said["fds"], said["metadata"]) == (1, ["seccompFd"], "of mine")
    assert (said["state"]["id"], said["state"]["status"]) == (name, "creating")


def test_delete_by_a_regular_expression(ctk, busybox_bundle):
    busybox_bundle.args("/bin/sleep", "1000")
    names = [f"{TAG}-{word}" for word in ("one1", "one2", "two")]
    for name in names:
        ctk("run", "-d", "--bundle", str(busybox_bundle), name).ok()
    assert ctk("delete", "--regex", "one[0-9]").rc == 1  # they run
    ctk("delete", "--force", "--regex", "one[0-9]$").ok()
    assert ctk("list", "--quiet").ok().out.split() == names[2:]
    assert "regular expression" in ctk("delete", "--regex", "(").err
    ctk("delete", "--force", names[2]).ok()


@pytest.mark.parametrize("runtime", ["runc", "ctk"])
def test_a_bind_source_inside_the_root_is_what_is_mounted_there(runtime, ctk, busybox_bundle, tmp_path):
    """In the order of the list, whatever was at the place before; a destination may be written as the host sees it."""
    runtime = ctk if runtime == "ctk" else ctk.like(runtime)
    (tmp_path / "outer/inner").mkdir(parents=True)
    (tmp_path / "outer/inner/file").write_text("found\n")
    root = busybox_bundle.rootfs
    (root / "mnt").mkdir()
    (root / "again").mkdir()

    def change(config):
        config["mounts"] += [
            {"destination": "/mnt", "type": "bind", "source": str(tmp_path / "outer"), "options": ["bind"]},
            {"destination": f"{root}/again", "type": "bind", "source": f"{root}/mnt/inner", "options": ["rbind"]},
        ]
        config["root"]["readonly"] = False

    busybox_bundle.sh("cat /again/file").edit(change)
    assert runtime("run", "--bundle", str(busybox_bundle), runtime.id()).ok().out == "found\n"
    busybox_bundle.edit(in_user_namespace)
    if runtime is ctk:  # runc of 1.1 opens the source before anything is mounted
        assert ctk("run", "--bundle", str(busybox_bundle), ctk.id()).ok().out == "found\n"


@pytest.mark.parametrize("userns", [False, True])
def test_an_idmapped_bind_source_inside_the_root(ctk, busybox_bundle, tmp_path, userns):
    (tmp_path / "owned").mkdir()
    os.chown(tmp_path / "owned", 7, 7)
    maps = [{"containerID": 0, "hostID": 100000, "size": 65536}]

    def change(config):
        config["mounts"] += [
            {"destination": "/mnt", "type": "bind", "source": str(tmp_path / "owned"), "options": ["bind"]},
            {
                "destination": "/again", "type": "bind", "source": f"{busybox_bundle.rootfs}/mnt", "options": ["bind"],
                "uidMappings": maps, "gidMappings": maps,
            },
        ]  # fmt: skip
        config["root"]["readonly"] = False
        if userns:
            in_user_namespace(config, mapped=[{"containerID": 0, "hostID": 0, "size": 200000}])

    busybox_bundle.sh("stat -c %u:%g /mnt /again").edit(change)
    assert ctk("run", "--bundle", str(busybox_bundle), ctk.id()).ok().out.split() == ["7:7", "100007:100007"]


@pytest.mark.parametrize("option", ["bind", "rbind"])
def test_a_folder_with_mounts_below_in_a_user_namespace(ctk, busybox_bundle, tmp_path, option):
    """Without those, if so asked: the kernel lets only the host's root show what they cover."""
    (tmp_path / "outer/below").mkdir(parents=True)
    (tmp_path / "outer/below/covered").touch()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", tmp_path / "outer/below"], check=True)
    try:
        mount = {"destination": "/mnt", "type": "bind", "source": str(tmp_path / "outer"), "options": [option]}

        def change(config):
            config["mounts"].append(mount)
            in_user_namespace(config, mapped=[{"containerID": 0, "hostID": 0, "size": 65536}])

        busybox_bundle.args("/bin/ls", "/mnt/below").edit(change)
        seen = ctk("run", "--bundle", str(busybox_bundle), ctk.id()).ok().out
        assert seen == ("covered\n" if option == "bind" else "")
    finally:
        subprocess.run(["umount", tmp_path / "outer/below"], check=True)


def test_idmap_takes_the_mapping_of_a_user_namespace_that_is_joined(ctk, new_bundle, tmp_path):
    """And a network namespace that the user namespace does not own is joined before it."""
    (tmp_path / "owned").mkdir()
    os.chown(tmp_path / "owned", 7, 7)
    first, second = new_bundle("first"), new_bundle("second")
    first.args("/bin/sleep", "1000").edit(in_user_namespace)
    name = ctk.id()
    ctk("run", "-d", "--bundle", str(first), name).ok()
    pid = ctk("state", name).json()["pid"]
    network = subprocess.Popen(["unshare", "--net", "sleep", "1000"])

    def change(config):
        in_user_namespace(config)
        linux = config["linux"]
        linux.pop("uidMappings"), linux.pop("gidMappings")
        for entry in linux["namespaces"]:
            if entry["type"] == "user":
                entry["path"] = f"/proc/{pid}/ns/user"
            if entry["type"] == "network":
                entry["path"] = f"/proc/{network.pid}/ns/net"
        config["mounts"] = [entry for entry in config["mounts"] if not entry["destination"].startswith("/sys")]
        linux["maskedPaths"] = linux["readonlyPaths"] = []
        config["root"]["readonly"] = False
        config["mounts"].append({"destination": "/m", "source": str(tmp_path / "owned"), "options": ["bind", "idmap"]})

    try:
        while os.readlink(f"/proc/{network.pid}/ns/net") == os.readlink("/proc/self/ns/net"):
            pass
        second.sh("stat -c %u:%g /m; readlink /proc/self/ns/net; readlink /proc/self/ns/user").edit(change)
        out = ctk("run", "--bundle", str(second), ctk.id()).ok().out.split()
        assert out == ["7:7", os.readlink(f"/proc/{network.pid}/ns/net"), os.readlink(f"/proc/{pid}/ns/user")]
    finally:
        network.kill()
        network.wait()
        ctk("delete", "--force", name).ok()


@pytest.mark.parametrize(("runtime", "folder"), [("runc", "rootfs"), ("ctk", "."), ("ctk called runc", "rootfs")])
def test_hooks_of_create_start_in_the_bundle(runtime, folder, ctk, busybox_bundle, tmp_path):
    """Those of createContainer in the root with runc, in the bundle with crun (which does not run on a hybrid host)."""
    if runtime == "ctk called runc":
        (tmp_path / "runc").symlink_to(ctk.program)
        command = type(ctk)(str(tmp_path / "runc"), ctk.root, ctk.environment, ("--root", ctk.root))
    else:
        command = ctk if runtime == "ctk" else ctk.like(runtime)
    told = tmp_path / "told"

    def hook(kind):
        return {kind: [{"path": "/bin/sh", "args": ["sh", "-c", f"echo {kind} $(pwd -P) >> {told}"]}]}

    busybox_bundle.edit(lambda config: config.update(hooks=hook("createRuntime") | hook("createContainer")))
    name = ctk.id()
    command("run", "--pid-file", "pid", "--bundle", str(busybox_bundle), name, cwd=tmp_path).ok()
    at = os.path.normpath(busybox_bundle.path / folder)
    assert told.read_text().splitlines() == [f"createRuntime {busybox_bundle}", f"createContainer {at}"]
    assert (tmp_path / "pid").read_text().isdigit()


@pytest.mark.parametrize("runtime", ["runc", "ctk"])
def test_a_hook_that_a_signal_ended_is_told_in_words(runtime, ctk, busybox_bundle):
    runtime = ctk if runtime == "ctk" else ctk.like(runtime)
    hook = {"path": "/bin/sh", "args": ["sh", "-c", "kill -SYS $$"]}
    busybox_bundle.edit(lambda config: config.update(hooks={"createRuntime": [hook]}))
    assert "signal: bad system call" in runtime("run", "--bundle", str(busybox_bundle), runtime.id()).err


def test_a_mount_label_without_selinux_is_told_and_has_no_effect(ctk, busybox_bundle):
    if os.path.exists("/sys/fs/selinux/enforce"):
        pytest.skip("this host has SELinux")
    busybox_bundle.edit(lambda config: config["linux"].update(mountLabel="system_u:object_r:container_file_t:s0"))
    assert "linux.mountLabel has no effect" in ctk("run", "--bundle", str(busybox_bundle), ctk.id()).ok().err


def test_an_ambient_capability_that_cannot_be_is_told(ctk, busybox_bundle):
    busybox_bundle.edit(lambda config: config["process"]["capabilities"].update(ambient=["CAP_CHOWN"]))
    told = ctk("run", "--bundle", str(busybox_bundle), ctk.id()).ok().err
    assert "level=warning" in told and "can't raise ambient capability CAP_CHOWN: " in told
    busybox_bundle.edit(lambda config: config["process"]["capabilities"].update(ambient=[]))
    assert ctk("run", "--bundle", str(busybox_bundle), ctk.id()).ok().err == ""


@pytest.mark.parametrize("runtime", ["runc", "ctk"])
@pytest.mark.parametrize("userns", [False, True])
def test_a_mount_travels_as_it_was_asked_to(runtime, userns, ctk, busybox_bundle, tmp_path):
    runtime = ctk if runtime == "ctk" else ctk.like(runtime)
    kinds = ("shared", "private", "rshared", "unbindable")
    (tmp_path / "source").mkdir()

    def change(config):
        if userns:
            in_user_namespace(config)
        config["root"]["readonly"] = False
        config["mounts"] += [
            {"destination": f"/m/{kind}", "type": "bind", "source": str(tmp_path / "source"), "options": ["bind", kind]}
            for kind in kinds
        ]

    busybox_bundle.sh("grep ' /m/' /proc/self/mountinfo | cut -d' ' -f5,7").edit(change)
    told = runtime("run", "--bundle", str(busybox_bundle), runtime.id()).ok().out
    rows = dict(line.split() for line in told.splitlines())
    assert {place: word.partition(":")[0] for place, word in rows.items()} == {
        "/m/shared": "shared",
        "/m/private": "-",
        "/m/rshared": "shared",
        "/m/unbindable": "unbindable",
    }
