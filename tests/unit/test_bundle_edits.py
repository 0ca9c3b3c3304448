"""The edits behind `ctk spec`: each a pure function from a spec to a spec."""

import copy
import os
from pathlib import Path
from typing import Any

import pytest

from toolkit.bundle import build, document, mounts, namespaces, process, resources, root
from toolkit.bundle.build import SpecRequest
from toolkit.bundle.quantities import size_bytes
from toolkit.errors import CtkError, InUse, Invalid, NotFound, Usage
from toolkit.events import Event
from toolkit.oci.defaults import default_spec

HOST = mounts.HostFiles(resolv_conf="/run/resolv", hosts="")


def made(**options: Any) -> dict[str, Any]:
    return document.edited(default_spec(), build.edits(SpecRequest(**options), HOST))


def test_edits_leave_the_spec_that_they_were_given() -> None:
    spec = default_spec()
    before = copy.deepcopy(spec)
    request = SpecRequest(
        rootfs="/r", writable=True, share_net=True, args=("x",), env=("A=1",), memory="1M", set=("mounts[0].type=x",)
    )
    after = document.edited(spec, build.edits(request, HOST))
    assert spec == before != after


def test_no_option_changes_nothing() -> None:
    assert made() == default_spec()


def test_root_path_is_relative_inside_the_bundle_only(tmp_path: Path) -> None:
    inside = document.edited(default_spec(), [root.rootfs(str(tmp_path / "b/fs"), str(tmp_path / "b"))])
    outside = document.edited(default_spec(), [root.rootfs(str(tmp_path / "b-fs"), str(tmp_path / "b"))])
    assert (inside["root"]["path"], outside["root"]["path"]) == ("fs", str(tmp_path / "b-fs"))


def test_writable_frees_the_root_and_gives_what_apt_needs() -> None:
    spec = made(writable=True)
    assert "readonly" not in spec["root"]
    for kind in ("bounding", "effective", "permitted"):
        assert {"CAP_SETUID", "CAP_CHOWN", "CAP_AUDIT_WRITE"} <= set(spec["process"]["capabilities"][kind])
    assert "CAP_SYS_ADMIN" not in spec["process"]["capabilities"]["bounding"]
    assert made(writable=False) == default_spec()


def test_share_net_drops_the_namespace_and_binds_the_hosts_files() -> None:
    spec = made(share_net=True)
    assert {"type": "network"} not in spec["linux"]["namespaces"]
    bound = [mount for mount in spec["mounts"] if mount["destination"] == "/etc/resolv.conf"]
    assert [(mount["source"], "ro" in mount["options"]) for mount in bound] == [("/run/resolv", True)]
    assert not any(mount["destination"] == "/etc/hosts" for mount in spec["mounts"])


def test_the_hosts_files_are_bound_by_their_real_path() -> None:
    host = mounts.HostFiles.read()
    assert host.resolv_conf in ("", os.path.realpath("/etc/resolv.conf"))
    assert host.hosts in ("", os.path.realpath("/etc/hosts"))


def test_a_variable_keeps_its_place_and_a_new_one_comes_last() -> None:
    env = made(env=("PATH=/x", "NEW=1=2"))["process"]["env"]
    assert env == ["PATH=/x", "TERM=xterm", "NEW=1=2"]


def test_a_variable_without_a_value_takes_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANG", "C.UTF-8")
    assert "LANG=C.UTF-8" in made(env=("LANG",))["process"]["env"]


def test_program_user_and_terminal() -> None:
    spec = made(args=("a", "b c"), cwd="/srv", user="1000:50,60", terminal=False, no_new_privileges=False)
    assert spec["process"]["args"] == ["a", "b c"]
    assert spec["process"]["user"] == {"uid": 1000, "gid": 50, "additionalGids": [60]}
    assert "terminal" not in spec["process"]
    assert "noNewPrivileges" not in spec["process"]
    again = document.edited(spec, [process.terminal(True)])
    assert next(iter(again["process"])) == "terminal"


def test_capabilities_by_any_name_and_all_of_them() -> None:
    spec = made(cap_add=("net_raw,CAP_SYS_TIME",), cap_drop=("ALL",))
    assert spec["process"]["capabilities"]["bounding"] == ["CAP_NET_RAW", "CAP_SYS_TIME"]
    with pytest.raises(Usage) as caught:
        made(cap_add=("sys_admn",))
    assert "CAP_SYS_ADMIN" in caught.value.hint


def test_mounts_in_the_forms_of_the_engines(tmp_path: Path) -> None:
    spec = made(
        mount=(f"type=bind,src={tmp_path},dst=/data,ro", "type=tmpfs,dst=/scratch,tmpfs-size=1m"),
        volume=(f"{tmp_path}:/v:ro",),
        tmpfs=("/t:size=2m",),
    )
    assert spec["mounts"][-4:] == [
        {"destination": "/data", "type": "bind", "source": str(tmp_path), "options": ["rbind", "ro"]},
        {"destination": "/scratch", "type": "tmpfs", "source": "tmpfs", "options": ["size=1m"]},
        {"destination": "/v", "type": "bind", "source": str(tmp_path), "options": ["rbind", "ro"]},
        {"destination": "/t", "type": "tmpfs", "source": "tmpfs",
         "options": ["nosuid", "nodev", "mode=1777", "size=2m"]},
    ]  # fmt: skip


def test_a_mount_on_the_same_place_takes_the_others_place() -> None:
    spec = made(tmpfs=("/dev/shm:size=1m",))
    assert len(spec["mounts"]) == len(default_spec()["mounts"])
    assert "size=1m" in spec["mounts"][3]["options"]


def test_limits_in_the_units_of_the_spec() -> None:
    got = made(memory="64M", memory_swap="-1", cpus="1.5", cpu_shares="512", cpuset="0-1", pids_limit="50")
    assert got["linux"]["resources"] == {
        "devices": [{"allow": False, "access": "rwm"}],
        "memory": {"limit": 64 << 20, "swap": -1},
        "cpu": {"quota": 150_000, "period": 100_000, "shares": 512, "cpus": "0-1"},
        "pids": {"limit": 50},
    }


def test_namespaces_new_shared_and_joined() -> None:
    spec = made(namespace=("net=/run/netns/x", "ipc=host", "cgroup"), uid_map=("0:100000:65536",))
    kinds = {entry["type"]: entry.get("path") for entry in spec["linux"]["namespaces"]}
    assert kinds == {"pid": None, "network": "/run/netns/x", "uts": None, "mount": None, "cgroup": None, "user": None}
    assert spec["linux"]["uidMappings"] == [{"containerID": 0, "hostID": 100000, "size": 65536}]


def test_a_map_without_the_group_of_terminals_leaves_it_out() -> None:
    def options(**words: Any) -> list[str]:
        return next(mount["options"] for mount in made(**words)["mounts"] if mount["type"] == "devpts")

    assert "gid=5" not in options(uid_map=("0:0:1",), gid_map=("0:0:1",))
    assert "gid=5" in options(uid_map=("0:0:1",), gid_map=("0:0:1", "5:100005:1"))
    assert "gid=5" in options(uid_map=("0:100000:65536",), gid_map=("0:100000:65536",))


def test_any_field_by_its_path() -> None:
    spec = made(
        set=(
            "linux.resources.pids.limit=50",
            'mounts[0].options=["ro"]',
            'annotations."org.example.key"=plain words',
            "process.args[-]=-l",
            "root.readonly=false",
        ),
        unset=("linux.maskedPaths", "mounts[1]"),
    )
    assert spec["linux"]["resources"]["pids"] == {"limit": 50}
    assert spec["mounts"][0]["options"] == ["ro"]
    assert spec["annotations"] == {"org.example.key": "plain words"}
    assert spec["process"]["args"] == ["sh", "-l"]
    assert spec["root"]["readonly"] is False
    assert "maskedPaths" not in spec["linux"]
    assert spec["mounts"][1]["destination"] == "/dev/pts"
    assert spec["process"]["user"]["uid"] == 0


@pytest.mark.parametrize(
    "options",
    [
        {"memory": "64X"}, {"cpus": "many"}, {"cpus": "0"}, {"pids_limit": "-5"}, {"cpuset": "a"},
        {"env": ("=x",)}, {"cwd": "rel"}, {"user": "root"}, {"ulimit": ("nofile",)}, {"ulimit": ("nofile=a",)},
        {"mount": ("type=bind,src=/etc",)}, {"mount": ("type=bind,src=/no/such,dst=/x",)}, {"volume": ("/etc",)},
        {"tmpfs": ("rel",)}, {"namespace": ("netz",)}, {"namespace": ("net=rel",)}, {"uid_map": ("0:1",)},
        {"set": ("a.b",)}, {"set": ("=1",)}, {"set": ("a..b=1",)}, {"sysctl": ("net.x",)}, {"env_file": ("/no/such",)},
    ],
    ids=str,
)  # fmt: skip
def test_a_value_that_cannot_be_read_is_a_clear_error(options: dict[str, Any]) -> None:
    with pytest.raises(Usage) as caught:
        made(**options)
    assert caught.value.because


@pytest.mark.parametrize(
    ("assignment", "because", "hint"),
    [
        ("hostnme=x", "no field 'hostnme' in config.json", "did you mean hostname?"),
        ("process.argz=[]", "no field 'argz' in process", "did you mean process.args?"),
        ("pids.limit=5", "no field 'pids'", "did you mean linux.resources.pids.limit?"),
        ("linux.resources.pids.limit=many", "must be an integer, not the string 'many'", ""),
        ("linux.resources.pids.limit=1.5", "must be an integer", ""),
        ("root.readonly=yes", "must be true or false", ""),
        ("process.args=sh", "must be an array, not the string 'sh'", "as JSON"),
        ('mounts[-]={"destination": 3}', "must be a string, not the number 3", "as JSON"),
        ('mounts[-]={"dest": "/x"}', "no field 'dest' in mounts[]", "fields here: destination"),
        ('linux.resources.rdma={"x": {"y": 1}}', "no such field", ""),
        ("process.user.uid=-1", "out of range", ""),
        ("hostname.x=1", "hostname is a string", "ctk explain hostname"),
        ("mounts.x=1", "mounts is a list", "ctk explain mounts"),
    ],
)
def test_set_refuses_what_the_schema_lacks_and_wrong_types(assignment: str, because: str, hint: str) -> None:
    with pytest.raises(Usage) as caught:
        made(set=(assignment,))
    assert because in caught.value.because and hint in caught.value.hint


def test_set_takes_a_number_for_a_string_and_what_has_no_type() -> None:
    spec = made(set=("linux.resources.cpu.cpus=0", "annotations.n=1", 'hostname="1"', "vm.kernel.path=x"))
    assert spec["linux"]["resources"]["cpu"]["cpus"] == "0" and spec["annotations"]["n"] == "1"
    assert spec["hostname"] == "1" and spec["vm"] == {"kernel": {"path": "x"}}


@pytest.mark.parametrize("path", ["process.nope", "mounts[99]", "hostname.x", "linux[0]", "mounts.x"])
def test_unset_names_what_is_not_there(path: str) -> None:
    with pytest.raises(NotFound, match="find"):
        made(unset=(path,))


def test_sizes() -> None:
    assert [size_bytes(text, option="-m") for text in ("1", "1k", "1.5G", "512MiB", "2 mb", "max")] == [
        1, 1024, 3 << 29, 512 << 20, 2 << 20, -1,
    ]  # fmt: skip


def test_no_file_is_overwritten_without_force(tmp_path: Path) -> None:
    document.write(str(tmp_path), "1")
    with pytest.raises(InUse, match="the file exists"):
        document.write(str(tmp_path), "2")
    assert (tmp_path / "config.json").read_text() == "1"
    document.write(str(tmp_path), "3", force=True)
    assert (tmp_path / "config.json").read_text() == "3"
    assert os.listdir(tmp_path) == ["config.json"]


def test_a_missing_folder_and_a_broken_document(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no such folder"):
        document.write(str(tmp_path / "none"), "")
    with pytest.raises(NotFound):
        document.read(str(tmp_path))
    for text in ("{", "[]"):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(Invalid):
            document.read(str(tmp_path))


def test_special_characters_are_written_as_go_writes_them() -> None:
    text = document.text({"a": "<&>é"})
    assert text == '{\n\t"a": "\\u003c\\u0026\\u003eé"\n}'


def tree(base: Path) -> Path:
    """A root in which /bin is a link to usr/bin, sh one to dash, and one link points out of the root."""
    fs = base / "fs"
    (fs / "usr/bin").mkdir(parents=True)
    (fs / "bin").symlink_to("usr/bin")
    (fs / "usr/bin/dash").write_text("")
    (fs / "usr/bin/dash").chmod(0o755)
    (fs / "usr/bin/sh").symlink_to("/bin/dash")
    (fs / "usr/bin/out").symlink_to("../../../../../../../../usr/bin/env")
    (fs / "usr/bin/loop").symlink_to("loop")
    (fs / "usr/bin/text").write_text("")
    return fs


def test_commands_are_looked_up_as_the_container_will(tmp_path: Path) -> None:
    fs, env = str(tree(tmp_path)), ["PATH=/nowhere:/bin"]
    assert root.find_command(fs, "sh", env) == "/bin/sh"
    assert root.find_command(fs, "/usr/bin/sh", env) == "/usr/bin/sh"
    for command in ("out", "loop", "text", "bash", "/etc/passwd"):
        assert root.find_command(fs, command, env) == ""


def test_a_root_or_a_command_that_is_missing_is_told(tmp_path: Path) -> None:
    fs = tree(tmp_path)
    (tmp_path / "empty").mkdir()
    bundle = str(tmp_path)
    for name, because in (("none", "no such folder"), ("empty", "it is empty"), ("fs/usr/bin/dash", "not a folder")):
        with pytest.raises(NotFound, match=because) as caught:
            build.make(SpecRequest(bundle=bundle, rootfs=str(tmp_path / name)))
        assert caught.value.hint.startswith("make one: ctk bootstrap")
    with pytest.raises(NotFound, match="find 'bash'"):
        build.make(SpecRequest(bundle=bundle, rootfs=str(fs), args=("bash",)))
    with pytest.raises(NotFound, match="whole command line") as caught:
        build.make(SpecRequest(bundle=bundle, rootfs=str(fs), args=("sh -c x",)))
    assert caught.value.hint == 'did you mean ["sh", "-c", "x"]?'


def test_update_changes_what_is_named_and_diff_shows_it(tmp_path: Path) -> None:
    said: list[Event] = []
    first = SpecRequest(bundle=str(tmp_path), hostname="one")
    build.build(first, said.append)
    request = SpecRequest(bundle=str(tmp_path), update=True, pids_limit="5")
    assert '+\t\t\t\t"limit": 5' in build.diff(request)
    build.build(request, said.append)
    spec = document.read(str(tmp_path))
    assert (spec["hostname"], spec["linux"]["resources"]["pids"]) == ("one", {"limit": 5})
    assert build.diff(request) == ""
    with pytest.raises(InUse):
        build.build(first, said.append)


def test_every_edit_of_the_words_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(CtkError):
        build.build(SpecRequest(bundle=str(tmp_path), memory="x"), lambda event: None)
    assert os.listdir(tmp_path) == []


def test_single_edits_can_be_used_alone() -> None:
    spec = document.edited({}, [resources.memory("1k"), namespaces.parse_namespace("net"), process.cwd("/")])
    assert spec == {
        "linux": {"resources": {"memory": {"limit": 1024}}, "namespaces": [{"type": "network"}]},
        "process": {"cwd": "/"},
    }


def test_devices_hooks_and_security_options(tmp_path: Path) -> None:
    profile = tmp_path / "seccomp.json"
    profile.write_text('{"defaultAction": "SCMP_ACT_ALLOW"}')
    spec = made(
        device=("/dev/null:/dev/nothing:r",),
        hook=("poststop=/bin/echo,-n,x",),
        security_opt=("no-new-privileges=false", f"seccomp={profile}", "apparmor=mine"),
    )
    node = {"path": "/dev/nothing", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666, "uid": 0, "gid": 0}
    assert spec["linux"]["devices"] == [node]
    rule = {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "r"}
    assert spec["linux"]["resources"]["devices"] == [{"allow": False, "access": "rwm"}, rule]
    assert spec["hooks"] == {"poststop": [{"path": "/bin/echo", "args": ["/bin/echo", "-n", "x"]}]}
    assert spec["linux"]["seccomp"] == {"defaultAction": "SCMP_ACT_ALLOW"}
    assert "noNewPrivileges" not in spec["process"]
    assert spec["process"]["apparmorProfile"] == "mine"


def test_privileged_opens_everything_and_later_options_close_again() -> None:
    spec = made(privileged=True, cap_drop=("sys_module",))
    assert not {"maskedPaths", "readonlyPaths", "seccomp"} & set(spec["linux"])
    assert set(process.CAPABILITIES) - set(spec["process"]["capabilities"]["bounding"]) == {"CAP_SYS_MODULE"}
    assert all("ro" not in mount.get("options", []) for mount in spec["mounts"])


@pytest.mark.parametrize(
    "options",
    [
        {"device": ("/etc/passwd",)}, {"device": ("/no/such",)}, {"device": ("/dev/null::x",)},
        {"hook": ("postop=/bin/true",)}, {"hook": ("poststop=true",)}, {"security_opt": ("sekkomp=x",)},
        {"security_opt": ("seccomp=/no/such",)},
    ],
    ids=str,
)  # fmt: skip
def test_rights_that_cannot_be_read_are_a_clear_error(options: dict[str, Any]) -> None:
    with pytest.raises(Usage) as caught:
        made(**options)
    assert caught.value.because
