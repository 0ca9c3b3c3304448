"""The store of networks and leases: a crowd that takes addresses at once, and processes killed while they write."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from toolkit.errors import CtkError
from toolkit.kernel import process
from toolkit.network import leases, model
from toolkit.network.leases import Holder
from toolkit.network.store import Store

# Takes `many` addresses for containers of its own, which live as long as it does; says them, and waits to be ended.
TAKER = """
import os, sys
from toolkit.kernel import process
from toolkit.network import leases
from toolkit.network.store import Store
folder, many = sys.argv[1], int(sys.argv[2])
pid, boot = os.getpid(), process.boot_id()
for number in range(many):
    with Store(folder) as store:
        held = store.leases()
        holder = leases.Holder("/run/ctk", f"{pid}-{number}", pid, process.start_time(pid), boot)
        lease = leases.take(held, store.get("web"), holder)
        store.keep(held)
    print(lease.address, flush=True)
print("all", flush=True)
sys.stdin.read()
"""
TOP = Path(__file__).resolve().parent.parent.parent


def network(folder: Path, subnet: str) -> model.Network:
    found = model.Subnet.parse(subnet)
    one = model.Network("web", "ctk-web", found, found.first + 1)
    with Store(str(folder)) as store:
        store.save(one)
    return one


def taker(folder: Path, many: int) -> "subprocess.Popen[str]":
    argv = [sys.executable, "-c", TAKER, str(folder), str(many)]
    return subprocess.Popen(argv, cwd=TOP, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_no_address_is_given_twice_by_eight_processes(tmp_path: Path) -> None:
    network(tmp_path, "10.89.0.0/20")
    crowd = [taker(tmp_path, 200) for _ in range(8)]
    try:
        found: list[str] = []
        for one in crowd:
            assert one.stdout is not None
            while (line := one.stdout.readline().strip()) != "all":
                assert line, "it ended too early"
                found.append(line)
        assert len(found) == 1600 and len(set(found)) == 1600
        with Store(str(tmp_path)) as store:
            assert {one.address for one in store.leases()} == set(map(int, found))
    finally:
        for one in crowd:
            one.kill()
            one.communicate()


def test_a_killed_process_leaves_a_whole_file_and_free_addresses(tmp_path: Path) -> None:
    """Killed anywhere, again and again; what the dead had is given out again, what the living have is not."""
    web = network(tmp_path, "10.89.0.0/26")
    living = taker(tmp_path, 20)
    assert living.stdout is not None
    kept = set()
    while (line := living.stdout.readline().strip()) != "all":
        kept.add(int(line))
    try:
        for number in range(25):
            victim = taker(tmp_path, 41)
            assert victim.stdout is not None
            victim.stdout.readline()
            time.sleep(number / 2000)
            victim.send_signal(signal.SIGKILL)
            victim.communicate()
            text = (tmp_path / "leases.json").read_text()
            addresses = [one["address"] for one in json.loads(text)]
            assert len(addresses) == len(set(addresses)) and kept <= {model.number(one) for one in addresses}
        pid = os.getpid()
        mine = []
        with Store(str(tmp_path)) as store:
            held = store.leases()
            for number in range(41):  # all that is left of 61
                me = Holder("/run/ctk", f"me{number}", pid, process.start_time(pid), process.boot_id())
                mine.append(leases.take(held, web, me).address)
            with pytest.raises(CtkError, match="are taken"):
                leases.take(held, web, Holder("/", "more", pid, process.start_time(pid), process.boot_id()))
        assert not kept & set(mine) and len(set(mine)) == 41
        # A writer that was killed leaves its temporary file at most, which is nobody's.
        assert len([one for one in tmp_path.iterdir() if not one.name.startswith(".")]) == 2
    finally:
        living.kill()
        living.communicate()


def test_a_reboot_frees_every_address(tmp_path: Path) -> None:
    web = network(tmp_path, "10.89.0.0/29")
    pid = os.getpid()
    held: list[leases.Lease] = []
    for number in range(5):
        leases.take(held, web, Holder("/", f"old{number}", pid, process.start_time(pid), "another boot"))
    found = leases.take(held, web, Holder("/", "new", pid, process.start_time(pid), process.boot_id()))
    assert found.address == web.subnet.first + 2, "that of the one who had it first"


def test_a_store_that_others_can_write_to_is_refused(tmp_path: Path) -> None:
    os.chmod(tmp_path, 0o777)
    with pytest.raises(CtkError, match="others can write"), Store(str(tmp_path / "store")):
        pass


def test_damaged_files_are_told_by_their_names(tmp_path: Path) -> None:
    network(tmp_path, "10.89.0.0/29")
    (tmp_path / "leases.json").write_text("[{}]")
    (tmp_path / "networks/bad.json").write_text("[")
    with Store(str(tmp_path)) as store:
        with pytest.raises(CtkError, match=r"leases\.json"):
            store.leases()
        with pytest.raises(CtkError, match=r"bad\.json"):
            store.networks()
