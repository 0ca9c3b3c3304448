"""AppArmor profiles, time namespaces and id-mapped mounts, as the container's process finds them."""

import json

import pytest

from tests.vm.conftest import Case

pytestmark = [pytest.mark.root, pytest.mark.vm, pytest.mark.timeout(1200)]
THEME = "root/confinement"


def test_the_apparmor_profile_is_enforced(case: Case) -> None:
    seen = case(THEME, "apparmor")
    for name in ("done", "exec"):  # exec takes the container's profile
        assert seen[name]["out"] == "ctk-vm (enforce)\n"
        assert "Permission denied" in seen[name]["err"]
    assert seen["none"]["out"] == "unconfined\nsecret\n"  # the control: without the profile the file can be read
    assert seen["exec other"]["out"] == "ctk-vm-second (enforce)\nsecret\n"


def test_an_unknown_apparmor_profile_fails_the_start(case: Case) -> None:
    seen = case(THEME, "apparmor")
    assert seen["wrong"]["code"] != 0
    assert seen["wrong"]["out"] == ""
    assert "ctk-vm-absent" in seen["wrong"]["err"] and "Traceback" not in seen["wrong"]["err"]
    assert seen["left"] == ""


def test_the_clocks_are_offset(case: Case) -> None:
    seen = case(THEME, "time_namespace")
    lines = seen["run"]["out"].splitlines()
    assert 864000 < float(lines[0].split()[0]) < 864000 + seen["host"] + 1
    assert [line.split() for line in lines[1:]] == [["monotonic", "172800", "5"], ["boottime", "864000", "0"]]
    assert float(seen["exec"]["out"].split()[0]) > 864000


@pytest.mark.parametrize("name", ["idmap_ext4", "idmap_tmpfs"])
def test_ids_of_a_mount_are_mapped(case: Case, name: str) -> None:
    seen = case(THEME, name)
    # The mount below keeps its ids: idmap is not recursive.
    assert seen["out"].splitlines() == ["file 50005:50006", "below/deep 1005:1006", "new 0:0"]
    assert seen["on disk"] == "0:0"


def test_ids_of_the_mounts_below_are_mapped_too(case: Case) -> None:
    assert case(THEME, "ridmap")["out"].splitlines()[:2] == ["file 50005:50006", "below/deep 50005:50006"]


def test_a_mount_takes_the_mapping_of_the_containers_user_namespace(case: Case) -> None:
    seen = case(THEME, "idmap_in_user_namespace")
    assert seen["out"].splitlines()[0] == "file 1005:1006"
    assert seen["out"].splitlines()[-1] == "new 0:0"
    assert seen["on disk"] == "0:0"  # without the mapping it would be 200000


def test_features_tell_of_them(case: Case) -> None:
    told = json.loads(case(THEME, "features")["out"])["linux"]
    assert told["apparmor"]["enabled"] is True
    assert told["mountExtensions"]["idmap"]["enabled"] is True
    assert "time" in told["namespaces"]
    assert told["cgroup"]["v2"] is True and told["cgroup"]["systemd"] is True
