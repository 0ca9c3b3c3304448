"""`ctk check`: the whole list with codes, what to write instead, and what only this host or this root can tell."""

import ast
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from toolkit.explain import check, host
from toolkit.explain.codes import CODES
from toolkit.explain.finding import Found
from toolkit.explain.inside import Inside
from toolkit.kernel.host import HostFacts
from toolkit.oci.defaults import default_spec

TOP = Path(__file__).parents[2]


def spec(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    result = default_spec()
    change(result)
    return result


def of(found: list[Found], code: str) -> list[Found]:
    return [finding for finding in found if finding.code == code]


# -- codes


def test_every_finding_of_the_spec_checks_has_a_code_of_its_kind() -> None:
    seen = 0
    for path in (TOP / "toolkit/oci").glob("check*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "report":
                words = {keyword.arg: keyword.value for keyword in node.keywords}
                code = words["code"]
                assert isinstance(code, ast.Constant), f"{path.name}:{node.lineno}"
                assert code.value in CODES
                assert (code.value[0] == "W") == ("warning" in words), f"{path.name}:{node.lineno}"
                seen += 1
    assert seen > 100


def test_every_code_that_is_used_is_explained_and_every_one_that_is_explained_is_used() -> None:
    used = set()
    for path in (TOP / "toolkit").rglob("*.py"):
        if path.name != "codes.py":
            used |= set(re.findall(r'(?:code\b[^=\n]*= ?|found\(|"code": )"([EW]\d{3})"', path.read_text()))
    assert used - set(CODES) == set()
    assert set(CODES) - used == set()


def test_a_code_says_what_why_and_what_to_do() -> None:
    for code, (what, why, do) in CODES.items():
        assert what and why and do, code
        assert what[-1] != "." and why[-1] in ".!" and do[-1] in ".", code


# -- the document


@pytest.mark.parametrize("rootless", [False, True])
def test_the_default_document_is_clean(rootless: bool) -> None:
    assert check.document(default_spec(rootless))[0] == []


def _one_id(change: Callable[[dict[str, Any]], object]) -> Callable[[dict[str, Any]], object]:
    def edit(spec: dict[str, Any]) -> None:
        only = [{"containerID": 0, "hostID": 0, "size": 1}]
        spec["linux"] |= {"namespaces": [*spec["linux"]["namespaces"], {"type": "user"}]}
        spec["linux"] |= {"uidMappings": only, "gidMappings": only}
        spec["mounts"] = [m for m in spec["mounts"] if m["type"] != "devpts"]
        change(spec)

    return edit


WRONG: list[tuple[Callable[[dict[str, Any]], object], str, str, str]] = [
    (_one_id(lambda s: s["process"]["user"].update(uid=7)), "E127", "process.user.uid", ""),
    (_one_id(lambda s: s["process"]["user"].update(additionalGids=[4])), "E127", "process.user.additionalGids[0]", ""),
    (
        _one_id(
            lambda s: s["mounts"].append({"destination": "/p", "type": "devpts", "source": "p", "options": ["gid=5"]})
        ),
        "E127",
        "mounts[6].options[0]",
        'leave "gid=5" out',
    ),
    (lambda s: s["process"].update(arsg=["x"]), "W130", "process.arsg", '"args"'),
    (lambda s: s.update(Hostname="x"), "W130", "Hostname", '"hostname"'),
    (lambda s: s.update(namespaces=[]), "W130", "namespaces", "linux.namespaces"),
    (lambda s: s["mounts"][0].update(readonly=True), "W130", "mounts[0].readonly", "options"),
    (lambda s: s["linux"]["namespaces"].append({"type": "net"}), "E105", "linux.namespaces[5].type", '"network"'),
    (lambda s: s["linux"]["namespaces"][0].update(type="pdi"), "E105", "linux.namespaces[0].type", '"pid"'),
    (
        lambda s: s["process"]["capabilities"]["bounding"].append("NET_ADMIN"),
        "W121",
        "process.capabilities.bounding[3]",
        '"CAP_NET_ADMIN"',
    ),
    (lambda s: s["process"].update(args="sh -c ls"), "E101", "process.args", '["sh", "-c", "ls"]'),
    (lambda s: s["process"].update(terminal="false"), "E101", "process.terminal", "false, without quotes"),
    (
        lambda s: s["linux"]["resources"].update(pids={"limit": "50"}),
        "E101",
        "linux.resources.pids.limit",
        "50, without quotes",
    ),
    (
        lambda s: s["linux"].update(sysctl={"net.ipv4.ip_forward": 1}),
        "E101",
        "linux.sysctl['net.ipv4.ip_forward']",
        '"1"',
    ),
    (lambda s: s["process"].update(cwd="srv"), "E106", "process.cwd", '"cwd": "/"'),
    (lambda s: s["mounts"][1]["options"].append("nosiud"), "W131", "mounts[1].options[4]", '"nosuid"'),
    (lambda s: s["process"].update(args=["sh -c ls"]), "W132", "process.args[0]", '["sh", "-c", "ls"]'),
    (lambda s: s["process"].update(args=["ls", "|", "wc"]), "W133", "process.args[1]", '["sh", "-c", "ls | wc"]'),
    (
        lambda s: s["linux"].update(
            seccomp={
                "defaultAction": "SCMP_ACT_ERRNO",
                "syscalls": [{"names": ["openat", "gettimofday"], "action": "SCMP_ACT_ALLOW"}],
            }
        ),
        "W134",
        "linux.seccomp.syscalls[0].names[1]",
        '"gettimeofday"',
    ),
]


@pytest.mark.parametrize(("change", "code", "path", "instead"), WRONG, ids=[f"{row[1]} {row[2]}" for row in WRONG])
def test_what_is_wrong_and_what_to_write(change: Any, code: str, path: str, instead: str) -> None:
    found, _ = check.document(spec(change))
    assert [(finding.code, finding.path) for finding in found] == [(code, path)]
    assert instead in found[0].instead
    assert found[0].error == (code[0] == "E")


def test_a_wrong_type_hides_nothing_else() -> None:
    def change(s: dict[str, Any]) -> None:
        s["process"]["args"] = "sh"
        s["process"]["cwd"] = "relative"
        s["linux"]["namespaces"][0]["type"] = "pdi"
        s["mounts"][2]["options"] = "ro"
        s["hostnam"] = "x"

    found, sound = check.document(spec(change))
    assert {(finding.code, finding.path) for finding in found} == {
        ("E101", "process.args"),
        ("E101", "mounts[2].options"),
        ("E106", "process.cwd"),
        ("E105", "linux.namespaces[0].type"),
        ("W130", "hostnam"),
    }
    assert "args" not in sound["process"]


@pytest.mark.parametrize("document", [[], "x", 5, None])
def test_what_is_no_object_is_one_finding(document: Any) -> None:
    assert [finding.code for finding in check.document(document)[0]] == ["E101"]


def test_the_profile_of_the_engines_has_no_typing_errors() -> None:
    path = Path("/usr/share/containers/seccomp.json")
    if not path.exists():
        pytest.skip("no engine's seccomp profile here")
    names = [name for rule in json.loads(path.read_text())["syscalls"] for name in rule["names"]]
    rules = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": names, "action": "SCMP_ACT_ALLOW"}]}
    assert of(check.document(spec(lambda s: s["linux"].update(seccomp=rules)))[0], "W134") == []


# -- the bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    root = tmp_path / "rootfs"
    for folder in ("bin", "usr/bin", "lib64", "etc", "usr"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    shutil.copy("/bin/busybox", root / "bin/busybox")
    (root / "bin/sh").symlink_to("/bin/busybox")
    return tmp_path


def script(bundle: Path, name: str, text: str, mode: int = 0o755) -> None:
    path = bundle / "rootfs/bin" / name
    path.write_text(text)
    path.chmod(mode)


def findings(bundle: Path, change: Callable[[dict[str, Any]], object] = lambda s: None) -> list[Found]:
    document = default_spec()
    document["process"]["terminal"] = False
    change(document)
    (bundle / "config.json").write_text(json.dumps(document))
    return check.bundle(str(bundle), terminal=False, privileged=True)


def args(*words: str) -> Callable[[dict[str, Any]], object]:
    return lambda s: s["process"].update(args=list(words))


def test_a_good_bundle_is_clean(bundle: Path) -> None:
    assert findings(bundle) == []


def test_no_bundle_at_all(tmp_path: Path) -> None:
    from toolkit.errors import NotFound

    with pytest.raises(NotFound):
        check.bundle(str(tmp_path), terminal=False, privileged=True)


def test_a_document_that_is_no_json_names_the_place(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"a": 1,\n "b" 2}')
    found = check.bundle(str(tmp_path), terminal=False, privileged=True)
    assert [finding.code for finding in found] == ["E100"]
    assert "line 2" in found[0].message


def test_a_missing_root(bundle: Path) -> None:
    shutil.rmtree(bundle / "rootfs")
    found = findings(bundle)
    assert [(finding.code, finding.path) for finding in found] == [("E201", "root.path")]
    assert "ctk bootstrap" in found[0].instead


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["busibox"], "E202", "/usr/local/sbin"),
        (["/bin/busibox"], "E202", "is not in the root"),
        (["/bin"], "E203", "is a folder"),
        (["plain"], "E203", "no execute bit"),
        (["python"], "E204", "'/usr/bin/python3'"),
        (["windows"], "E204", "CR included"),
        (["chain"], "E204", "'/usr/bin/python3'"),
        (["dynamic"], "E205", "needs the loader"),
        (["foreign"], "E206", "is for s390x"),
        (["text"], "E207", "neither an ELF file nor a script"),
        (["nothing"], "E207", "is empty"),
        (["late"], "E207", "not at the very beginning"),
    ],
)
def test_what_keeps_a_program_from_starting(bundle: Path, words: list[str], code: str, message: str) -> None:
    script(bundle, "plain", "#!/bin/sh\n", 0o644)
    script(bundle, "python", "#!/usr/bin/python3 -u\n")
    script(bundle, "windows", "#!/bin/sh\r\necho\r\n")
    script(bundle, "chain", "#!/bin/python\n")
    script(bundle, "text", "echo hello\n")
    script(bundle, "nothing", "")
    script(bundle, "late", "\n#!/bin/sh\n")
    shutil.copy("/bin/true", bundle / "rootfs/bin/dynamic")
    elf = bytearray((bundle / "rootfs/bin/busybox").read_bytes()[:4096])
    elf[18:20] = (22).to_bytes(2, "little")
    (bundle / "rootfs/bin/foreign").write_bytes(elf)
    (bundle / "rootfs/bin/foreign").chmod(0o755)
    found = findings(bundle, args(*words))
    assert [finding.code for finding in found] == [code]
    assert message in found[0].message
    if words[0].endswith("busibox"):
        assert "busybox" in found[0].instead


def test_a_loader_that_is_there_is_enough(bundle: Path) -> None:
    shutil.copy("/bin/true", bundle / "rootfs/bin/dynamic")
    listed = subprocess.run(["ldd", "/bin/true"], capture_output=True, text=True, check=True).stdout
    loader = next(line for line in listed.splitlines() if "ld-linux" in line).split()[0]
    (bundle / ("rootfs" + loader)).parent.mkdir(parents=True, exist_ok=True)
    (bundle / ("rootfs" + loader)).write_bytes(b"")
    assert findings(bundle, args("dynamic")) == []


def test_a_program_that_a_bind_mount_brings_is_there(bundle: Path) -> None:
    (bundle / "tools").mkdir()
    shutil.copy("/bin/busybox", bundle / "tools/tool")

    def change(s: dict[str, Any]) -> None:
        s["process"]["args"] = ["/opt/tools/tool"]
        s["mounts"].append({"destination": "/opt/tools", "source": "tools", "options": ["bind"]})

    assert findings(bundle, change) == []


def test_sources_of_bind_mounts(bundle: Path) -> None:
    (bundle / "data").mkdir()
    (bundle / "file").write_text("")

    def change(s: dict[str, Any]) -> None:
        s["mounts"] += [
            {"destination": "/a", "source": "dtaa", "options": ["bind"]},
            {"destination": "/etc", "type": "bind", "source": "file"},
            {"destination": "/b", "source": "data", "options": ["rbind"]},
        ]

    found = findings(bundle, change)
    assert [(finding.code, finding.path) for finding in found] == [("E210", "mounts[7].source"), ("E211", "mounts[8]")]
    assert str(bundle / "data") in found[0].instead


def test_hooks_and_terminals(bundle: Path) -> None:
    def change(s: dict[str, Any]) -> None:
        s["process"]["terminal"] = True
        s["mounts"] = [mount for mount in s["mounts"] if mount["type"] not in ("devpts",)]
        s["hooks"] = {
            "poststop": [{"path": "/nonexistent/x"}, {"path": "/etc/passwd"}, {"path": "/bin/true"}],
            "startContainer": [{"path": "/bin/busybox"}],
        }

    found = findings(bundle, change)
    assert [(finding.code, finding.path) for finding in found] == [
        ("E213", "process.terminal"),
        ("E212", "hooks.poststop[0].path"),
        ("E212", "hooks.poststop[1].path"),
        ("W250", "process.terminal"),
    ]


@pytest.mark.parametrize("words", [["apt-get", "update"], ["sh", "-c", "cd /; apt update && true"], ["/usr/bin/apt"]])
def test_apt_in_a_read_only_root(bundle: Path, words: list[str]) -> None:
    for name in ("apt", "apt-get"):
        shutil.copy("/bin/busybox", bundle / "rootfs/usr/bin" / name)
    assert [finding.code for finding in findings(bundle, args(*words))] == ["W251", "W252"]

    def writable(s: dict[str, Any]) -> None:
        args(*words)(s)
        s["root"]["readonly"] = False
        s["process"]["capabilities"]["effective"] += ["CAP_" + n for n in ("CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID")]

    assert [(f.code, f.message.split()[-1]) for f in findings(bundle, writable)] == [("W252", "CAP_SETUID")]


def test_links_of_the_root_stay_inside(tmp_path: Path) -> None:
    (tmp_path / "r/a").mkdir(parents=True)
    (tmp_path / "outside").write_text("")
    (tmp_path / "r/a/up").symlink_to("../../../../../../outside")
    (tmp_path / "r/a/abs").symlink_to("/a/real")
    (tmp_path / "r/a/real").write_text("")
    (tmp_path / "r/a/loop").symlink_to("loop")
    inside = Inside({"root": {"path": "r"}}, str(tmp_path))
    assert inside.host_path("/a/up") == ""
    assert inside.host_path("/a/abs") == str(tmp_path / "r/a/real")
    assert inside.host_path("/../a/./abs") == str(tmp_path / "r/a/real")
    assert inside.host_path("/a/loop") == ""


# -- the host


def facts(**known: Any) -> HostFacts:
    result = HostFacts()
    for name, value in known.items():
        setattr(result, name, value)
    return result


def host_findings(change: Callable[[dict[str, Any]], object], **keywords: Any) -> list[tuple[str, str]]:
    known = keywords.pop("facts", None) or HostFacts()
    keywords = {"terminal": True, "privileged": True, **keywords}
    found = host.findings(spec(change), facts=known, **keywords)
    return [(finding.code, finding.path) for finding in found]


def resources(**given: Any) -> Callable[[dict[str, Any]], object]:
    return lambda s: s["linux"].update(resources=given)


def test_what_a_host_cannot_honour() -> None:
    assert host_findings(lambda s: None) == []
    assert host_findings(lambda s: None, terminal=False) == [("W250", "process.terminal")]
    assert host_findings(lambda s: s["process"].update(apparmorProfile="x"), facts=facts(apparmor=False)) == [
        ("E233", "process.apparmorProfile")
    ]
    assert host_findings(lambda s: s["process"].update(selinuxLabel="x"), facts=facts(selinux=False)) == [
        ("E233", "process.selinuxLabel")
    ]
    joined = {"type": "user", "path": "/proc/1/ns/nosuch"}
    assert host_findings(lambda s: s["linux"]["namespaces"].append(joined)) == [("E231", "linux.namespaces[5].path")]
    assert host_findings(lambda s: s["linux"].update(netDevices={"nosuch9": {}})) == [
        ("E240", "linux.netDevices['nosuch9']")
    ]
    assert host_findings(lambda s: s["linux"].update(intelRdt={"closID": "x"})) == [("E234", "linux.intelRdt")]
    nosuch = {"destination": "/x", "type": "nosuchfs", "source": "x"}
    assert host_findings(lambda s: s["mounts"].append(nosuch)) == [("W241", "mounts[7].type")]


def test_who_is_not_root_needs_a_user_namespace() -> None:
    assert host_findings(lambda s: None, privileged=False) == [("E232", "linux.namespaces")]
    user = {"type": "user"}
    assert (
        host_findings(
            lambda s: s["linux"]["namespaces"].append(user), privileged=False, facts=facts(user_namespaces="")
        )
        == []
    )
    refused = facts(user_namespaces="sysctl user.max_user_namespaces is 0")
    assert host_findings(lambda s: s["linux"]["namespaces"].append(user), privileged=False, facts=refused) == [
        ("E232", "linux.namespaces")
    ]


def test_limits_that_only_v1_knows() -> None:
    change = resources(memory={"swappiness": 5, "limit": 1 << 30}, network={"classID": 5})
    v2 = [found for found in host_findings(change, facts=facts(cgroup_layout="v2")) if found[0] == "W237"]
    assert [path for _, path in v2] == ["linux.resources.memory.swappiness", "linux.resources.network.classID"]
    assert "W237" not in [code for code, _ in host_findings(change, facts=facts(cgroup_layout="v1"))]
    unified = resources(unified={"memory.high": "max"})
    assert ("E236", "linux.resources.unified") in host_findings(unified, facts=facts(cgroup_layout="hybrid"))
    assert "E236" not in [code for code, _ in host_findings(unified, facts=facts(cgroup_layout="v2"))]


def test_cpus_pages_and_sizes() -> None:
    assert ("E238", "linux.resources.cpu.cpus") in host_findings(resources(cpu={"cpus": "0,4000"}))
    assert host_findings(resources(cpu={"cpus": "0"})) == []
    pages = [{"pageSize": "7MB", "limit": 1}]
    if os.path.isdir("/sys/kernel/mm/hugepages"):
        assert ("E239", "linux.resources.hugepageLimits[0].pageSize") in host_findings(resources(hugepageLimits=pages))
    found = host.findings(spec(resources(memory={"limit": 64})), terminal=True, privileged=True)
    assert [(finding.code, "67108864" in finding.instead) for finding in found] == [("W253", True)]
