"""Strings from outside that become paths, ids and numbers (S7, S11, S34, S35, S38, E10)."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.command import Bundle, Command
from tests.security.conftest import Canary, facts, pid_of, run, running

pytestmark = pytest.mark.root

IDS = ["", ".", "..", "../x", "../../x", "a/b", "/abs", "x\n", "\nx", "é", ".x", "a" * 4096, "--help", "-r", "a b",
       "a\tb", "*", "x;y", "x\x7f", "１"]  # fmt: skip


@pytest.mark.parametrize("verb", ["create", "run", "state", "start", "kill", "delete", "exec", "ps", "pause", "update"])
def test_s7_ids(verb: str, bundle: Bundle, ctk: Command, canary: Canary, tmp_path: Path) -> None:
    """One folder for all ids, as it takes longer to make and to look at than the command."""
    root = Path(ctk.root)
    root.mkdir(mode=0o700)
    (root.parent / "x").mkdir()
    (root.parent / "x" / "state.json").write_text("{}")
    before = facts(tmp_path)
    more = ["--bundle", str(bundle)] if verb in ("create", "run") else []
    after = ["/bin/true"] if verb == "exec" else ["--pids-limit", "5"] if verb == "update" else []
    before_id = ["--force"] if verb == "delete" else []
    for name in IDS:
        result = ctk(verb, *more, *before_id, name, *after)
        if name in ("--help", "-r"):
            assert result.rc != 0 or "usage" in (result.out + result.err).lower(), result
        else:
            assert result.rc != 0 or verb == "delete", result  # delete --force of what cannot exist is done
        assert "Traceback" not in result.err, result
        assert sorted(os.listdir(root)) == [], result
    assert facts(tmp_path) == before


def test_s7_positive_control_good_ids_are_taken(bundle: Bundle, ctk: Command) -> None:
    for tail in ("a", "A-b_c+d.e", "0", "x" * 100):
        name = f"{ctk.id()}-{tail}"
        ctk("run", "--bundle", str(bundle), name).ok()


def cgroups() -> set[str]:
    return {folder for folder, _, _ in os.walk("/sys/fs/cgroup")}


@pytest.mark.parametrize("path", ["/../../ctkevil", "../../ctkevil", "/a/../../ctkevil", "a/../../../ctkevil/b"])
def test_s7_cgroups_path_stays_below_the_hierarchy(path: str, bundle: Bundle, ctk: Command) -> None:
    before = {folder for folder in os.listdir("/sys/fs/cgroup") if "ctkevil" in folder}
    run(ctk, bundle.edit(lambda config: config["linux"].update(cgroupsPath=path)).sh("sleep 0.1"))
    assert {folder for folder in os.listdir("/sys/fs/cgroup") if "ctkevil" in folder} == before
    assert not [folder for folder in cgroups() if folder.endswith("ctkevil")]
    assert not Path("/sys/ctkevil").exists() and not Path("/sys/fs/ctkevil").exists()


@pytest.mark.parametrize("sub", ["../..", "../../x", "/", "/../..", "a/../../.."])
def test_s7_exec_cannot_leave_the_containers_cgroup(sub: str, bundle: Bundle, ctk: Command) -> None:
    with running(ctk, bundle.sh("sleep 1000")) as name:
        home = Path(f"/proc/{pid_of(ctk, name)}/cgroup").read_text()
        result = ctk("exec", "--cgroup", sub, name, "cat", "/proc/self/cgroup")
    if result.rc == 0:
        # "/" and what normalizes to it mean the container's own.
        inside = {line.split(":", 2)[2] for line in result.out.splitlines()}
        own = {line.split(":", 2)[2] for line in home.splitlines()}
        assert all(any(path.startswith(mine) or path == "/" for mine in own) for path in inside)
        assert sub == "/", f"{sub!r} was accepted"


USERS_WRONG = ["4294967295", "4294967296", "99999999999999999999", "-1", "+1", "1_0", "１", " 1", "1 ", "1:", ":1",
               "1:2:3", "0x0", "", "root", "1:root", "1:-1", "1:4294967296", "1e3", "0b1"]  # fmt: skip


def test_s11_users_that_are_no_numbers(bundle: Bundle, ctk: Command) -> None:
    # The image has the words as names of root's: falling back to names would make root of them.
    with open(bundle.rootfs / "etc/passwd", "a") as file:
        file.writelines(f"{user}:x:0:0::/:/bin/sh\n" for user in USERS_WRONG)
    with running(ctk, bundle.sh("sleep 1000").edit(_user(1000))) as name:
        for user in USERS_WRONG:
            result = ctk("exec", "--user", user, name, "id", "-u")
            if user == "":
                assert (result.rc, result.out) == (0, "1000\n"), result  # an option that says nothing changes nothing
            else:
                assert result.rc != 0 and result.out == "", result


def _user(uid: int) -> Any:
    return lambda config: config["process"].update(user={"uid": uid, "gid": uid})


@pytest.mark.parametrize(
    ("user", "want"), [("1", "1 1000"), ("1:2", "1 2"), ("0", "0 1000"), ("4294967294:7", "4294967294 7")]
)
def test_s11_a_number_is_never_a_name(user: str, want: str, bundle: Bundle, ctk: Command) -> None:
    with open(bundle.rootfs / "etc/passwd", "a") as file:
        file.write("1:x:0:0::/:/bin/sh\n4294967294:x:0:0::/:/bin/sh\n")
    with running(ctk, bundle.sh("sleep 1000").edit(_user(1000))) as name:
        result = ctk("exec", "--user", user, name, "sh", "-c", "echo $(id -u) $(id -g)")
    assert result.ok().out.strip() == want


@pytest.mark.parametrize("uid", [-1, 4294967295, 4294967296, 1.5, True, "0", [0]])
def test_s11_user_of_the_spec(uid: Any, bundle: Bundle, ctk: Command) -> None:
    for key in ("uid", "gid"):
        result = run(
            ctk, bundle.edit(lambda config, key=key: config["process"].update(user={"uid": 7, "gid": 7, key: uid}))
        )
        assert result.rc == 1 and "process.user" in result.err and "Traceback" not in result.err


def test_s34_groups_are_exactly_the_specs(bundle: Bundle, ctk: Command) -> None:
    groups = "grep Groups: /proc/self/status"
    script = bundle.sh(groups)
    assert run(ctk, script, extra_groups=[5, 6, 44]).ok().out.split()[1:] == []
    script.edit(lambda config: config["process"].update(user={"uid": 1000, "gid": 50, "additionalGids": [7, 8]}))
    assert run(ctk, script, extra_groups=[5, 6, 44]).ok().out.split()[1:] == ["7", "8"]
    with running(ctk, bundle.sh("sleep 1000")) as name:
        shell = ("sh", "-c", groups)
        assert ctk("exec", name, *shell, extra_groups=[44]).ok().out.split()[1:] == ["7", "8"]
        assert ctk("exec", "--user", "3:3", "-g", "9", name, *shell, extra_groups=[44]).ok().out.split()[1:] == [
            "7",
            "8",
            "9",
        ]


SYSCTLS = [
    {"kernel.core_pattern": "|/x"},
    {"kernel/core_pattern": "|/x"},
    {"net/../kernel/core_pattern": "|/x"},
    {"net.ipv4/../../kernel/core_pattern": "|/x"},
    {"kernel.shm_rmid_forced": "1+kernel.core_pattern=|/x"},
    {"kernel.shm_rmid_forced": "1\nkernel.core_pattern=|/x"},
    {"kernel.hostname": "x"},
    {"vm.overcommit_memory": "1"},
    {"fs.suid_dumpable": "2"},
    {"../sysrq-trigger": "h"},
    {"net.ipv4.ip_forward\0": "1"},
]


def sysctls() -> dict[str, str]:
    names = ("kernel/core_pattern", "vm/overcommit_memory", "fs/suid_dumpable", "net/ipv4/ip_forward")
    return {name: Path(f"/proc/sys/{name}").read_text() for name in names}


@pytest.mark.parametrize("values", SYSCTLS, ids=[repr(next(iter(values)))[:40] for values in SYSCTLS])
def test_s35_sysctls_of_the_host_are_out_of_reach(values: dict[str, str], bundle: Bundle, ctk: Command) -> None:
    before = sysctls()
    bundle.edit(lambda config: config["linux"].update(sysctl=values))
    result = run(ctk, bundle.sh("echo started"))
    assert sysctls() == before
    if "\n" not in next(iter(values.values())):  # the kernel reads the first line and leaves the rest alone
        assert result.rc != 0 and "started" not in result.out and "sysctl" in result.err


def test_s35_network_sysctl_needs_a_network_namespace(bundle: Bundle, ctk: Command) -> None:
    def host_network(config: dict[str, Any]) -> None:
        linux = config["linux"]
        linux["namespaces"] = [kind for kind in linux["namespaces"] if kind["type"] != "network"]
        linux["sysctl"] = {"net.ipv4.ip_forward": "1" if sysctls()["net/ipv4/ip_forward"].strip() == "0" else "0"}

    before = sysctls()
    assert run(ctk, bundle.edit(host_network)).rc != 0
    assert sysctls() == before


@pytest.mark.parametrize("name", ["runc", "ctk"])
@pytest.mark.parametrize(
    ("kind", "entry", "key"),
    [("network", "net", "net/ipv4/ip_forward"), ("ipc", "ipc", "kernel/msgmax"), ("uts", "uts", "kernel/domainname")],
)
def test_s35_a_namespace_that_is_joined_may_be_the_hosts(
    name: str, kind: str, entry: str, key: str, bundle: Bundle, ctk: Command
) -> None:
    if name == "runc" and kind != "network":
        pytest.skip("runc looks at the network namespace only")

    def join(config: dict[str, Any]) -> None:
        for namespace in config["linux"]["namespaces"]:
            if namespace["type"] == kind:
                namespace["path"] = f"/proc/self/ns/{entry}"
        config["linux"]["sysctl"] = {key.replace("/", "."): Path("/proc/sys", key).read_text().strip()}
        if kind == "uts":
            config.pop("hostname")

    result = run(ctk if name == "ctk" else ctk.like(name), bundle.sh("echo started").edit(join))
    assert result.rc == 1 and "started" not in result.out
    assert "sysctl" in result.err and "host" in result.err


def test_s38_fields_of_any_size(bundle: Bundle, ctk: Command) -> None:
    """What is large goes through, or is refused in words; nothing wraps."""
    bundle.edit(lambda config: config.update(annotations={"big": "x" * (10 << 20)}))
    with running(ctk, bundle.sh("sleep 1000")) as name:
        assert len(ctk("state", name).json()["annotations"]["big"]) == 10 << 20
    bundle.edit(lambda config: config.update(annotations={}))
    long = bundle.edit(lambda config: config["process"].update(cwd="/" + "x" * 5000))
    result = run(ctk, long)
    assert result.rc != 0 and "file name too long" in result.err.lower()
    many = [{"containerID": n, "hostID": 100000 + n, "size": 1} for n in range(50000)]

    def mapped(config: dict[str, Any]) -> None:
        config["process"]["cwd"] = "/"
        config["linux"]["namespaces"].append({"type": "user"})
        config["linux"]["uidMappings"] = config["linux"]["gidMappings"] = many

    result = run(ctk, bundle.edit(mapped))
    assert result.rc != 0 and "Traceback" not in result.err and len(result.err) < 4000


def texts() -> dict[str, str]:
    spec = (
        '"ociVersion": "1.0.2", "root": {"path": "rootfs"}, "process": {"cwd": "/", "args": ["/bin/true"], "user": %s}'
    )
    good = '{"uid": 0, "gid": 0}'
    return {
        "deep": "[" * 200000,
        "deep object": '{"annotations": ' * 100000,
        "nan": "{" + spec % '{"uid": NaN}' + "}",
        "infinity": "{" + spec % '{"uid": 1e999}' + "}",
        "digits": "{" + spec % ('{"uid": ' + "9" * 5000 + "}") + "}",
        "underscore": "{" + spec % '{"uid": 1_0}' + "}",
        "unicode digit": "{" + spec % '{"uid": １}' + "}",
        "true": "{" + spec % '{"uid": true}' + "}",
        "two documents": "{" + spec % good + "}{}",
        "surrogate": "{" + spec.replace("/bin/true", "\\ud800") % good + "}",
        "nul": "{" + spec.replace("/bin/true", "/bin/true\\u0000x") % good + "}",
        "cut": "{" + spec % good,
        "list": "[]",
        "null": "null",
        "empty": "",
    }


@pytest.mark.parametrize("case", list(texts()))
def test_e10_json_that_python_would_take(case: str, bundle: Bundle, ctk: Command) -> None:
    (bundle.path / "config.json").write_text(texts()[case])
    result = run(ctk, bundle)
    assert result.rc == 1
    assert "Traceback" not in result.err and "internal error" not in result.err, result.err[:2000]


def test_e10_positive_control_the_same_frame_with_good_values_runs(bundle: Bundle, ctk: Command) -> None:
    document = json.loads(texts()["cut"] + "}")
    document["linux"] = {"namespaces": [{"type": "mount"}, {"type": "pid"}]}
    (bundle.path / "config.json").write_text(json.dumps(document))
    run(ctk, bundle).ok()
