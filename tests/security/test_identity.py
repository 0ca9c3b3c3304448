"""Who the process is, to the bit (S27, S36, S48, E16)."""

import os
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.command import Bundle, Command
from tests.fixtures.waiting import text_of, until
from tests.security.conftest import run, running

pytestmark = pytest.mark.root

GREP = ("/bin/grep", "-E", "^(Cap|Uid|Gid|NoNewPrivs)", "/proc/self/status")
KILL, NET_BIND, AUDIT_WRITE, CHOWN, NET_RAW = 1 << 5, 1 << 10, 1 << 29, 1 << 0, 1 << 13
DEFAULT = KILL | NET_BIND | AUDIT_WRITE


def status(text: str) -> dict[str, int]:
    """CapInh … CapAmb as masks, Uid and Gid as the effective id."""
    found = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        found[key] = int(value, 16) if key.startswith("Cap") else int(value.split()[-1])
    return found


def capabilities(bundle: Bundle, **sets: "list[str]") -> Bundle:
    return bundle.edit(lambda config: config["process"].update(capabilities=sets))


def test_s27_root_has_what_the_spec_says(bundle: Bundle, ctk: Command) -> None:
    names = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
    capabilities(bundle, bounding=names, effective=names, permitted=names, ambient=names)
    found = status(run(ctk, bundle.args(*GREP)).ok().out)
    assert found["CapInh"] == 0 and found["CapAmb"] == 0
    assert found["CapPrm"] == found["CapEff"] == found["CapBnd"] == DEFAULT


@pytest.mark.parametrize("verb", ["run", "exec"])
def test_s27_a_user_without_ambient_has_none(verb: str, bundle: Bundle, ctk: Command) -> None:
    """CVE-2022-29162, CVE-2022-24769: inheritable capabilities came back through files' own."""
    names = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
    capabilities(bundle, bounding=names, effective=names, permitted=names)
    if verb == "run":
        bundle.edit(lambda config: config["process"].update(user={"uid": 1000, "gid": 1000}))
        found = status(run(ctk, bundle.args(*GREP)).ok().out)
    else:
        with running(ctk, bundle.sh("sleep 1000")) as name:
            found = status(ctk("exec", "--user", "1000:1000", name, *GREP).ok().out)
    assert found["Uid"] == found["Gid"] == 1000
    assert [found[key] for key in ("CapInh", "CapPrm", "CapEff", "CapAmb")] == [0] * 4
    assert found["CapBnd"] == DEFAULT


def test_s27_ambient_exactly_as_asked(bundle: Bundle, ctk: Command) -> None:
    names = ["CAP_NET_BIND_SERVICE"]
    capabilities(
        bundle, bounding=["CAP_KILL", *names], effective=names, permitted=names, inheritable=names, ambient=names
    )
    bundle.edit(lambda config: config["process"].update(user={"uid": 1000, "gid": 1000}))
    found = status(run(ctk, bundle.args(*GREP)).ok().out)
    assert found["CapAmb"] == found["CapEff"] == found["CapPrm"] == found["CapInh"] == NET_BIND


def test_s27_exec_adds_only_what_is_asked(bundle: Bundle, ctk: Command) -> None:
    names = ["CAP_KILL"]
    capabilities(bundle, bounding=names, effective=names, permitted=names)
    with running(ctk, bundle.sh("sleep 1000")) as name:
        found = status(ctk("exec", "--cap", "CAP_NET_RAW", name, *GREP).ok().out)
        assert found["CapInh"] == found["CapAmb"] == 0 and found["CapEff"] == found["CapBnd"] == KILL | NET_RAW
        found = status(ctk("exec", "--cap", "CAP_NET_RAW", "--user", "1000", name, *GREP).ok().out)
        assert found["CapInh"] == found["CapAmb"] == found["CapEff"] == 0
        for wrong in ("CAP_NOSUCH", "NOSUCH", "CAP_", ""):
            result = ctk("exec", "--cap", wrong, name, *GREP)
            assert result.rc != 0 and result.out == "", wrong


def test_s27_unknown_capability_in_the_spec(bundle: Bundle, ctk: Command) -> None:
    """Newer ones than the kernel knows are warned about, as the spec wants; none is ever given in their place."""
    capabilities(bundle, bounding=["CAP_KILL", "CAP_NOSUCH"], effective=["CAP_NOSUCH"], permitted=["CAP_NOSUCH"])
    result = run(ctk, bundle.args(*GREP))
    if result.rc == 0:
        found = status(result.out)
        assert found["CapBnd"] == KILL and found["CapEff"] == found["CapPrm"] == 0
        assert "CAP_NOSUCH" in result.err
    else:
        assert "CAP_NOSUCH" in result.err


def test_s27_no_capabilities_at_all(bundle: Bundle, ctk: Command) -> None:
    bundle.edit(lambda config: config["process"].pop("capabilities"))
    found = status(run(ctk, bundle.args(*GREP)).ok().out)
    assert [found[key] for key in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")] == [0] * 5


def test_no_new_privileges(bundle: Bundle, ctk: Command) -> None:
    for wanted in (True, False):
        bundle.edit(lambda config, wanted=wanted: config["process"].update(noNewPrivileges=wanted))
        with running(ctk, bundle.sh("sleep 1000")) as name:
            assert status(ctk("exec", name, *GREP).ok().out)["NoNewPrivs"] == wanted
        assert status(run(ctk, bundle.args(*GREP)).ok().out)["NoNewPrivs"] == wanted


def test_s27_a_setuid_program_of_the_image_gains_nothing(bundle: Bundle, ctk: Command) -> None:
    (bundle.rootfs / "setuid").mkdir()
    busybox = bundle.rootfs / "setuid/busybox"
    busybox.write_bytes((bundle.rootfs / "bin/busybox").read_bytes())
    busybox.chmod(0o4755)

    def unprivileged(config: dict[str, Any]) -> None:
        config["process"]["user"] = {"uid": 1000, "gid": 1000}
        config["process"]["noNewPrivileges"] = True

    result = run(ctk, bundle.edit(unprivileged).args("/setuid/busybox", "id", "-u"))
    assert result.ok().out == "1000\n"


def test_e16_ids_of_32_bits(bundle: Bundle, ctk: Command) -> None:
    big = 4294967294
    user = {"uid": big, "gid": big - 1, "additionalGids": [big - 2, 2147483648]}
    bundle.edit(lambda config: config["process"].update(user=user, rlimits=[]))
    result = run(ctk, bundle.args("/bin/grep", "-E", "^(Uid|Gid|Groups)", "/proc/self/status")).ok().out
    words = [line.split(":")[1].split() for line in result.splitlines()]
    assert words == [[str(big)] * 4, [str(big - 1)] * 4, ["2147483648", str(big - 2)]]


def test_e16_errno_of_the_call_that_failed(bundle: Bundle, ctk: Command) -> None:
    def change(config: dict[str, Any]) -> None:
        config["mounts"].append({"destination": "/x", "type": "nosuchfs", "source": "x"})

    result = run(ctk, bundle.edit(change))
    assert result.rc == 1 and "no such device" in result.err and "nosuchfs" in result.err


def test_e16_limits_beyond_32_bits(bundle: Bundle, ctk: Command) -> None:
    limits = [{"type": "RLIMIT_FSIZE", "soft": 1 << 40, "hard": (1 << 40) + 5}]
    bundle.edit(lambda config: config["process"].update(rlimits=limits))
    words = run(ctk, bundle.args("/bin/grep", "file size", "/proc/self/limits")).ok().out.split()
    assert words[3:5] == [str(1 << 40), str((1 << 40) + 5)]


def test_s48_groups_of_a_user_namespace(bundle: Bundle, ctk: Command) -> None:
    """setgroups(2) is denied only in a user namespace made without privilege; root's keeps it (apt needs it)."""

    def mapped(config: dict[str, Any]) -> None:
        config["linux"]["namespaces"].append({"type": "user"})
        mapping = [{"containerID": 0, "hostID": 100000, "size": 65536}]
        config["linux"]["uidMappings"] = config["linux"]["gidMappings"] = mapping
        config["process"]["user"] = {"uid": 0, "gid": 0, "additionalGids": [5]}
        config["process"]["capabilities"] = {}

    for path in (bundle.rootfs, *bundle.rootfs.parents):
        if path.is_relative_to("/tmp") and path != Path("/tmp"):
            path.chmod(0o755)  # root of the user namespace is nobody to the host
    shell = bundle.edit(mapped).sh("cat /proc/self/setgroups; grep Groups /proc/self/status; cat /proc/self/uid_map")
    words = run(ctk, shell).ok().out.split()
    assert words == ["allow", "Groups:", "5", "0", "100000", "65536"]


@pytest.mark.parametrize("verb", ["create", "run"])
@pytest.mark.parametrize("uid", [0, 1000])
def test_s24_hooks_inside_get_no_more_than_the_process(verb: str, uid: int, bundle: Bundle, ctk: Command) -> None:
    """A startContainer hook is a program of the image: with the runtime's rights it would be the host's root."""
    script = """
        cd /; exec > /told 2>&1
        grep -E '^(Cap|Uid|NoNewPrivs|Seccomp:)' /proc/self/status; sed 's/^/cgroup /' /proc/self/cgroup
        for f in /proc/self/fd/*; do echo fd ${f##*/} $(readlink $f); done; env | sed 's/^/env /'; cat > /dev/null
    """
    hook = {"path": "/bin/sh", "args": ["sh", "-c", script]}
    names = ["CAP_KILL"]

    def change(config: dict[str, Any]) -> None:
        process = config["process"]
        process["user"] = {"uid": uid, "gid": uid}
        process["noNewPrivileges"] = False
        process["capabilities"] = {"bounding": names, "effective": names, "permitted": names}
        config["hooks"] = {"startContainer": [hook]}
        config["linux"]["seccomp"] = {
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["swapon"], "action": "SCMP_ACT_ERRNO"}],
        }

    (bundle.rootfs / "told").write_text("")
    (bundle.rootfs / "told").chmod(0o666)
    bundle.edit(change).sh("cat /proc/self/cgroup > /own; sleep 1000")
    bundle.rootfs.chmod(0o777)

    def leak() -> None:
        for number in (7, 8, 9):
            os.dup2(os.open("/", os.O_RDONLY), number, inheritable=True)

    secret = {"SECRET_OF_THE_HOST": "1"}
    name = ctk.id()
    try:
        keywords: dict[str, Any] = {"env": secret, "preexec_fn": leak, "close_fds": False}
        if verb == "create":
            ctk("create", "--bundle", str(bundle), name, **keywords).ok()
            ctk("start", name, **keywords).ok()
        else:
            ctk("run", "-d", "--bundle", str(bundle), name, **keywords).ok()
        own = until(lambda: text_of(bundle.rootfs / "own"), "its cgroups").splitlines()
    finally:
        ctk("delete", "--force", name)
    lines = (bundle.rootfs / "told").read_text().splitlines()
    found = status("\n".join(line for line in lines if ":\t" in line))
    assert found["Uid"] == uid and found["Seccomp"] == 2 and found["NoNewPrivs"] == 0
    assert found["CapBnd"] == KILL and found["CapInh"] == found["CapAmb"] == 0
    assert found["CapEff"] == found["CapPrm"] == (KILL if uid == 0 else 0)
    assert sorted(line.removeprefix("cgroup ") for line in lines if line.startswith("cgroup ")) == sorted(own)
    assert not [line for line in lines if line.startswith("env ") and "SECRET" in line]
    targets = {line.split(" ", 2)[2] for line in lines if line.startswith("fd ") and line.count(" ") > 1}
    assert "/" not in targets, targets
