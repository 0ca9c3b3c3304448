"""`ctk check` and the dictionary of `ctk explain`, as they are typed."""

import json
import subprocess
from typing import Any

import pytest

from tests.fixtures.command import Bundle, Command
from tests.fixtures.user import prefix


def test_a_good_bundle_has_no_findings(ctk: Command, busybox_bundle: Bundle) -> None:
    done = ctk("check", str(busybox_bundle)).ok()
    assert done.out == f"{busybox_bundle}: nothing found\n"


def test_errors_and_warnings_differ_in_the_exit_code(ctk: Command, busybox_bundle: Bundle) -> None:
    busybox_bundle.edit(lambda c: c["process"].update(terminal=True))
    done = ctk("check", cwd=busybox_bundle.path).ok()
    assert "warning W250 process.terminal: " in done.out
    assert done.out.endswith(".: 1 warning\n")
    busybox_bundle.args("busibox")
    done = ctk("check", cwd=busybox_bundle.path)
    assert done.rc == 1
    assert "error E202 process.args[0]: " in done.out
    assert "did you mean 'busybox'?" in done.out


def test_the_whole_list_as_json(ctk: Command, busybox_bundle: Bundle) -> None:
    def change(config: dict[str, Any]) -> None:
        config["process"]["cwd"] = "relative"
        config["process"]["arsg"] = 1
        config["linux"]["namespaces"][0]["type"] = "net"

    busybox_bundle.edit(change)
    done = ctk("check", "--json", str(busybox_bundle))
    assert done.rc == 1
    told = json.loads(done.out)
    assert (told["errors"], told["warnings"]) == (2, 1)
    assert [(f["code"], f["severity"], f["path"]) for f in told["findings"]] == [
        ("E106", "error", "process.cwd"),
        ("E105", "error", "linux.namespaces[0].type"),
        ("W130", "warning", "process.arsg"),
    ]
    assert all(finding["why"] and finding["instead"] for finding in told["findings"])


def test_run_stops_at_what_check_calls_an_error(ctk: Command, busybox_bundle: Bundle) -> None:
    busybox_bundle.edit(lambda c: c["process"].update(cwd="relative"))
    assert "process.cwd" in ctk("check", str(busybox_bundle)).out
    done = ctk("run", "--bundle", str(busybox_bundle), ctk.id())
    assert done.rc == 1
    assert "process.cwd" in done.err


@pytest.mark.root
def test_an_ordinary_user_is_told_of_what_is_closed_to_him(ctk: Command, busybox_bundle: Bundle) -> None:
    """Neither a traceback nor "not in the root" of what he may not see."""

    def asked() -> Any:
        done = subprocess.run(
            [*prefix(str(busybox_bundle.path)), ctk.program, "check", "--json", str(busybox_bundle.path)],
            env={**ctk.environment, "HOME": "/"}, capture_output=True, text=True, timeout=60
        )  # fmt: skip
        return [(finding["code"], finding["message"]) for finding in json.loads(done.stdout)["findings"]], done.stderr

    root = busybox_bundle.rootfs
    (root / "root").mkdir(exist_ok=True)
    busybox_bundle.args("/root/program")
    for closed in (root / "root", root):
        closed.chmod(0o700)
        found, said = asked()
        assert ("W215", f"you may not read {str(closed)!r}") in found, (found, said)
        assert {code for code, _ in found} <= {"W215", "E232"} and not said
    assert "error E202 process.args[0]: '/root/program' is not in the root" in ctk("check", str(busybox_bundle)).out


def test_a_folder_without_a_bundle(ctk: Command, tmp_path: Any) -> None:
    done = ctk("check", cwd=tmp_path)
    assert (done.rc, done.out) == (1, "")
    assert "hint: make one with `ctk spec`" in done.err


def test_a_field_a_code_and_a_slip(ctk: Command, busybox_bundle: Bundle) -> None:
    told = ctk("explain", "linux.namespaces", cwd=busybox_bundle.path).ok().out
    assert "clone3(2)" in told and 'config.json\n  linux.namespaces = [\n    {"type": "pid"}' in told
    assert ctk("explain", "hostname", "--bundle", str(busybox_bundle), "--json").json()["says"] == [
        ["hostname", "runc"]
    ]
    assert "does not set it" in ctk("explain", "linux.seccomp", "-b", str(busybox_bundle)).ok().out
    assert ctk("explain", "e042").ok().out.startswith("E042  (error)")
    assert "did you mean 'mounts'?" in ctk("explain", "mount").err
    assert "E042  " in ctk("explain", "codes").ok().out
