"""Paths that are hidden or read-only, whatever the image or a neighbour does (S20, S32, S33, S36, S48)."""

import os
import time
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.command import Bundle, Command
from tests.security.conftest import Canary, bind, mounts, pid_of, race, run, running

pytestmark = pytest.mark.root

ATTACKER = "ATTACKER"


def with_dev_of_its_own(bundle: Bundle) -> Path:
    """The bundle's /dev is a bind mount whose `null` the attacker chose; /secret is masked. Returns that /dev."""
    dev = bundle.path / "dev"
    dev.mkdir()
    for name, minor in (("zero", 5), ("full", 7), ("random", 8), ("urandom", 9)):
        os.mknod(dev / name, 0o020666, os.makedev(1, minor))
    os.mknod(dev / "tty", 0o020666, os.makedev(5, 0))
    (bundle.rootfs / "marker").write_text(ATTACKER)
    (bundle.rootfs / "secret").write_text("SECRET")
    mounts(bundle, bind(dev, "/dev", kind="rbind"), only=("/proc",))
    bundle.edit(lambda config: config["linux"].update(maskedPaths=["/secret"], readonlyPaths=[]))
    bundle.sh("cat /secret; echo; echo written > /secret; cat /marker")
    return dev


def test_s20_positive_control_runc_masks_with_a_file_of_the_attacker(bundle: Bundle, runc: Command) -> None:
    (with_dev_of_its_own(bundle) / "null").symlink_to("/marker")
    result = run(runc, bundle)
    if not result.out.startswith(ATTACKER) and "written" not in result.out:
        pytest.fail("runc did not fall: either it is newer than 1.2.8, or this test does not bite any more")


@pytest.mark.parametrize("null", ["link", "host link", "file", "folder", "missing", "other device"])
def test_s20_masking_does_not_trust_the_containers_null(
    null: str, bundle: Bundle, ctk: Command, canary: Canary
) -> None:
    place = with_dev_of_its_own(bundle) / "null"
    if null == "link":
        place.symlink_to("/marker")
    elif null == "host link":
        place.symlink_to(canary.path / "marker")
    elif null == "file":
        place.write_text(ATTACKER)
    elif null == "folder":
        place.mkdir()
    elif null == "other device":
        os.mknod(place, 0o020666, os.makedev(1, 5))
    result = run(ctk, bundle)
    assert "SECRET" not in result.out
    assert result.rc != 0 or result.out.splitlines()[:1] == [""]
    if result.rc == 0:
        assert result.out.splitlines()[-1] == ATTACKER, "the attacker's file was written through the mask"


def test_s20_null_is_swapped_while_paths_are_masked(bundle: Bundle, ctk: Command, canary: Canary) -> None:
    dev = with_dev_of_its_own(bundle)
    os.mknod(dev / "null", 0o020666, os.makedev(1, 3))
    (dev / "evil").symlink_to("/marker")
    ran = 0
    end = time.monotonic() + 5
    with race((dev / "null", dev / "evil")):
        while time.monotonic() < end:
            result = run(ctk, bundle)
            assert "SECRET" not in result.out and not result.out.startswith(ATTACKER)
            ran += result.rc == 0
    assert ran > 0


def test_s20_mask_whose_target_is_a_link(bundle: Bundle, ctk: Command, canary: Canary) -> None:
    (bundle.rootfs / "real").write_text("SECRET")
    (bundle.rootfs / "link").symlink_to("/real")
    (bundle.rootfs / "out").symlink_to(canary.path / "marker")
    (bundle.rootfs / "outdir").symlink_to(canary.path)
    bundle.edit(lambda config: config["linux"].update(maskedPaths=["/link", "/out", "/outdir", "/no/such"]))
    result = run(ctk, bundle.sh("cat /real /link; echo end")).ok()
    assert result.out == "end\n"


def test_s20_folders_are_masked_by_an_empty_read_only_one(bundle: Bundle, ctk: Command) -> None:
    for name in ("one", "two"):
        (bundle.rootfs / name).mkdir()
        (bundle.rootfs / name / "secret").write_text("SECRET")
    bundle.edit(lambda config: config["linux"].update(maskedPaths=["/one", "/two"]))
    result = run(ctk, bundle.sh("ls -A /one /two; touch /one/x /two/x")).out
    assert "secret" not in result and "x" not in result


def test_s20_s32_every_default_mask_reads_empty(bundle: Bundle, ctk: Command) -> None:
    paths = bundle.load()["linux"]["maskedPaths"]
    assert {"/proc/kcore", "/proc/keys", "/sys/firmware"} <= set(paths)
    script = "; ".join(
        f"if [ -d {path} ]; then ls -A {path} | wc -l; else [ ! -e {path} ] || head -c 10 {path} | wc -c; fi"
        for path in [*paths, "/sys/devices/virtual/powercap"]
    )
    assert set(run(ctk, bundle.sh(script)).ok().out.split()) == {"0"}


def test_s48_default_read_only_paths_cannot_be_written(bundle: Bundle, ctk: Command) -> None:
    wanted = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
    assert wanted <= set(bundle.load()["linux"]["readonlyPaths"])

    def privileged(config: dict[str, Any]) -> None:
        every = ["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE", "CAP_SYS_RESOURCE"]
        config["process"]["capabilities"] = {"bounding": every, "effective": every, "permitted": every}

    files = "/proc/sysrq-trigger /proc/sys/kernel/core_pattern /proc/sys/vm/drop_caches /proc/irq/default_smp_affinity"
    script = f"for f in {files}; do [ -e $f ] || continue; (echo h > $f) 2>&1 | grep -c -i read-only; done"
    before = Path("/proc/sys/kernel/core_pattern").read_text()
    result = run(ctk, bundle.edit(privileged).sh(script)).ok()
    assert set(result.out.split()) == {"1"}
    assert Path("/proc/sys/kernel/core_pattern").read_text() == before


def test_s33_s36_cgroups_are_read_only_inside(bundle: Bundle, ctk: Command) -> None:
    result = run(ctk, bundle.sh("grep ' /sys/fs/cgroup' /proc/self/mountinfo; find /sys/fs/cgroup -name release_agent"))
    lines = [line for line in result.ok().out.splitlines() if " - " in line]
    assert lines, "the default spec mounts the cgroups"
    for line in lines:
        fields = line.split()
        if fields[4] != "/sys/fs/cgroup":
            assert "ro" in fields[5].split(","), line
    writable = run(ctk, bundle.sh("find /sys/fs/cgroup -type d -exec sh -c 'mkdir $0/x 2>/dev/null && echo $0' {} \\;"))
    made = [line for line in writable.out.splitlines() if line != "/sys/fs/cgroup"]
    assert made == []


def test_s36_default_capabilities_leave_the_dangerous_ones_out(ctk: Command, bundle: Bundle) -> None:
    with running(ctk, bundle.sh("sleep 1000")) as name:
        lines = Path(f"/proc/{pid_of(ctk, name)}/status").read_text().splitlines()
    bits = {line.split(":")[0]: int(line.split()[1], 16) for line in lines if line.startswith("Cap")}
    dangerous = {"DAC_READ_SEARCH": 2, "SYS_MODULE": 16, "SYS_RAWIO": 17, "SYS_PTRACE": 19, "SYS_ADMIN": 21,
                 "MKNOD": 27, "NET_RAW": 13, "NET_ADMIN": 12, "BPF": 39, "SYS_BOOT": 22}  # fmt: skip
    for kind in ("CapBnd", "CapPrm", "CapEff", "CapInh", "CapAmb"):
        assert [name for name, bit in dangerous.items() if bits[kind] >> bit & 1] == []
