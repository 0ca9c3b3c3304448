"""The doctor's findings: each made true on purpose, or asked of this very host."""

import os
import sys
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from tests.fixtures.server import FileServer
from toolkit.care import doctor, host_checks, kernel_checks
from toolkit.care.finding import BAD, NOTE, OK, WARN, Finding
from toolkit.cli import app
from toolkit.errors import CtkError, HostLacks, Unreachable, Untrusted, Usage
from toolkit.kernel import delegation, subids
from toolkit.kernel.host import HostFacts
from toolkit.runtime import criu


def facts(**known: object) -> HostFacts:
    found = HostFacts()
    for name, value in known.items():
        setattr(found, name, value)
    return found


@pytest.mark.parametrize(
    ("path", "value", "fix"),
    [
        ("/proc/sys/user/max_user_namespaces", "0\n", "sysctl -w user.max_user_namespaces="),
        ("/proc/sys/kernel/unprivileged_userns_clone", "0\n", "sysctl -w kernel.unprivileged_userns_clone=1"),
        ("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1\n", "apparmor_parser -r /etc/apparmor.d/ctk"),
    ],
)
def test_who_forbids_user_namespaces_is_named_with_the_line_that_allows_them(
    monkeypatch: pytest.MonkeyPatch, path: str, value: str, fix: str
) -> None:
    monkeypatch.setattr(kernel_checks, "read", lambda asked: value if asked == path else "")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    (found,) = kernel_checks.user_namespaces(facts())
    assert (found.state, fix in found.fix) == (BAD, True)
    assert f"is {value.strip()}" in found.what


def test_the_apparmor_profile_is_for_our_own_python() -> None:
    assert f"profile ctk {os.path.realpath(sys.executable)} " in kernel_checks.apparmor_fix()


def test_an_old_kernel_is_told() -> None:
    assert next(kernel_checks.kernel(facts(kernel=(5, 11), wsl=False, in_user_namespace=False))).state == BAD
    assert next(kernel_checks.kernel(facts(kernel=(5, 12), wsl=False, in_user_namespace=False))).state == OK


def test_a_user_without_subordinate_ids_or_delegation_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(subids, "of_caller", lambda: ([(0, 1000, 1)], [(0, 1000, 1)]))
    monkeypatch.setattr(delegation, "controllers", lambda: ("memory", "pids"))
    (ids,) = host_checks.subordinate_ids(facts())
    assert ids.state == WARN and ids.fix.startswith("sudo usermod --add-subuids ")
    layout, limits = host_checks.cgroups(facts(cgroup_layout="v2"))
    assert (layout.state, limits.state, limits.what) == (OK, WARN, "not delegated to you: cpu")
    assert "Delegate=" in limits.fix
    (none,) = host_checks.cgroups(facts(cgroup_layout="none"))
    assert none.fix == "sudo mount -t cgroup2 cgroup2 /sys/fs/cgroup"


def test_the_ids_that_are_offered_are_nobody_elses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(subids, "of_caller", lambda: ([(0, 1000, 1)], [(0, 1000, 1)]))
    monkeypatch.setattr(subids, "SUBUID", str(tmp_path / "subuid"))
    monkeypatch.setattr(subids, "SUBGID", str(tmp_path / "subgid"))
    (none,) = host_checks.subordinate_ids(facts())
    assert "--add-subuids 100000-165535 --add-subgids 100000-165535 " in none.fix
    (tmp_path / "subuid").write_text("ann:100000:65536\nbroken\n")
    (tmp_path / "subgid").write_text("ann:100000:65536\nbob:165536:65536\n")
    (taken,) = host_checks.subordinate_ids(facts())
    assert "--add-subuids 231072-296607 --add-subgids 231072-296607 " in taken.fix


def test_a_full_disk_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert {one.state for one in host_checks.room(facts())} <= {OK, WARN}
    monkeypatch.setattr(host_checks, "_ROOM_BYTES", 1 << 60)
    assert {one.state for one in host_checks.room(facts()) if one.topic == "space"} == {BAD}


def test_a_clock_from_before_ctk_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [one.state for one in host_checks.clock(facts())] == [OK]
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert [one.state for one in host_checks.clock(facts())] == [BAD]


def test_the_mirror_is_asked_and_its_date_beside_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = tmp_path / "dists/bookworm/Release"
    release.parent.mkdir(parents=True)
    with FileServer(tmp_path).running() as server:
        monkeypatch.setenv("CTK_MIRROR", server.url)
        for days, states in ((-3, [OK]), (2, [OK, BAD])):
            date = format_datetime(datetime.now(UTC) + timedelta(days=days), usegmt=True)
            release.write_text(f"Suite: oldstable\nCodename: bookworm\nDate: {date}\n")
            assert [one.state for one in host_checks.mirrors(facts())] == states
        url = server.url
    monkeypatch.setenv("CTK_MIRROR", url)
    (refused,) = host_checks.mirrors(facts())
    assert (refused.state, refused.needed_by) == (BAD, "bootstrap") and "refused" in refused.what


def test_a_topic_chooses_what_is_examined() -> None:
    topics = {one.topic for one in doctor.examine("rootless")}
    assert "user namespaces" in topics and not topics & {"criu", "mirrors", "clock"}
    assert "mirrors" not in {one.topic for one in doctor.examine("bootstrap", offline=True)}
    with pytest.raises(Usage, match="no such topic"):
        list(doctor.examine("everything"))


def test_a_failure_is_followed_by_what_is_wrong_with_the_host_and_by_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert doctor.advice(Usage("read the command line", because="no such option")) == ""
    assert doctor.advice(Unreachable("fetch x", because="connection refused")) == ""  # our clock is right
    monkeypatch.setattr(kernel_checks, "read", lambda path: "0\n" if path.endswith("max_user_namespaces") else "")
    told = doctor.advice(HostLacks("build without root", because="sysctl user.max_user_namespaces is 0"))
    assert told.splitlines()[0] == "doctor:"
    assert "      sudo sysctl -w user.max_user_namespaces=15000" in told.splitlines()
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert "timedatectl" in doctor.advice(Unreachable("fetch x"))
    monkeypatch.setattr(host_checks, "mirrors", lambda _: iter(()))
    assert "timedatectl" in doctor.advice(Untrusted("verify x", because="the signature's date is in the future"))
    monkeypatch.setattr(host_checks, "_ROOM_BYTES", 1 << 60)
    assert "df -h" in doctor.advice(CtkError("write x", because="no space left on device"))


def test_lines_say_what_for_whom_and_how() -> None:
    found = [Finding("a", OK, "fine", "x", "never shown"), Finding("b", NOTE, "absent", "checkpoint", "apt install b")]
    assert doctor.lines(found) == ["✓ a: fine", "· b: absent  (for: checkpoint)", "    apt install b"]


def test_a_criu_that_does_not_work_here_is_not_called_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(program: str) -> int:
        raise HostLacks("use CRIU", because="vdso: unexpected bounds")

    monkeypatch.setattr(host_checks.shutil, "which", lambda *_, **__: "/usr/sbin/criu")
    monkeypatch.setattr(criu, "check", fails)
    (found,) = host_checks.criu(HostFacts())
    assert (found.state, found.what) == (WARN, "/usr/sbin/criu does not work here: vdso: unexpected bounds")
    monkeypatch.setattr(criu, "check", lambda _: 40101)
    assert [one.state for one in host_checks.criu(HostFacts())] == [OK]


@pytest.mark.parametrize("name", ["requests", "pysequoia", "zstandard", "elftools"])
def test_a_library_that_is_missing_is_told_and_stops_no_check(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)  # to import it is a ModuleNotFoundError
    (found,) = host_checks.libraries(facts())
    assert found.state == BAD and found.what.endswith(f" has no {name}") and name in found.fix
    if name == "requests":
        (asked,) = host_checks.mirrors(facts())
        assert asked.state == NOTE


@pytest.mark.parametrize(
    "words",
    [
        ["doctor", "--for", "mirrors"],
        ["bootstrap", "bookworm", "fs", "--print-debs", "--mirror", "http://127.0.0.1:1/"],
    ],
    ids=lambda words: words[0],
)
def test_without_a_library_a_command_ends_with_clean_lines(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "requests", None)
    monkeypatch.chdir(tmp_path)
    assert app.run(words) != 0
    out, err = capfd.readouterr()
    assert "requests" in out + err and "Traceback" not in out + err
    assert os.listdir(tmp_path) == []
