"""`ctk pull` from Debian's registry: killed at moments of all kinds, on a full disk, twice at once, beside `prune`."""

import json
import os
import random
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fixtures import images, registry
from tests.fixtures.command import Command
from tests.fixtures.killed import audited, spread
from tests.fixtures.often import tries
from tests.fixtures.registry import DebianRegistry
from tests.fixtures.registry_faults import Handler, Server, changed, flipped
from tests.fixtures.waiting import until
from toolkit.image.document.descriptor import Descriptor
from toolkit.image.store import check, collect
from toolkit.image.store.store import Store

pytestmark = pytest.mark.root

CHANCE = random.Random(12)
ONE = images.image(
    images.layer({"lower/": b""} | {f"lower/{number}": CHANCE.randbytes(60_000) for number in range(60)}),
    images.layer(
        {"lower/": b"", "lower/.wh.3": b"", "upper/": b""}
        | {f"upper/{number}": CHANCE.randbytes(90_000) for number in range(20)}
    ),
    config={"Cmd": ["sh"]},
)
LOWER, UPPER = ONE.layers


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DebianRegistry]:
    with registry.running(tmp_path_factory.mktemp("behind")) as running:
        there = registry.opened(running.host, "one:1", plain_http=True)
        images.put(there, ONE, "1")
        there.close()
        yield running


@pytest.fixture
def server(behind: DebianRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    registry.own_home(tmp_path, monkeypatch)
    with Server(behind.host).running() as running:
        yield running


@pytest.fixture
def environment(ctk: Command, server: Server) -> Callable[[Path], dict[str, str]]:
    """The environment of a ctk whose store is that folder."""

    def of(folder: Path) -> dict[str, str]:
        names = ("HOME", "XDG_RUNTIME_DIR", "CONTAINERS_REGISTRIES_CONF", "no_proxy")
        return {**ctk.environment, **{name: os.environ[name] for name in names}, "CTK_IMAGES": str(folder)}

    return of


def damage(store: Store) -> list[check.Finding]:
    return [one for one in check.check(store) if not one.harmless]


def parts(store: Store) -> dict[str, int]:
    """How much of which blob has come so far."""
    folder = store.place.path("parts")
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return {name.replace("-", ":"): os.stat(os.path.join(folder, name)).st_size for name in names}


def asked_for(server: Server, blob: Descriptor) -> list[str]:
    """The ranges of that blob that were asked for; "" is all of it."""
    return [one.headers.get("Range", "") for one in server.asked if one.line.endswith(f"/blobs/{blob.digest}")]


@pytest.mark.timeout(600)
def test_a_pull_is_killed_at_any_moment_and_the_next_goes_on(
    ctk: Command, server: Server, environment: Callable[[Path], dict[str, str]], tmp_path: Path
) -> None:
    words = ("pull", "--jobs", "1", f"{server.host}/one:1")
    report = tmp_path / "count"
    assert audited(environment(tmp_path / "count-of"), 0, report, *words) == 0
    count = int(report.read_text())
    wanted = tries(8, 22)
    killed, resumed = 0, set()
    for point in spread(count, wanted):
        folder = tmp_path / f"at{point}"
        env = environment(folder)
        if audited(env, point, report, *words) == 0:
            continue
        killed += 1
        store = Store(str(folder))
        assert damage(store) == [], point  # `ctk image check`
        left = parts(store)
        server.asked.clear()
        ctk(*words, env=env).ok()
        for blob in (LOWER, UPPER):
            have, ranges = left.get(blob.digest, 0), asked_for(server, blob)
            if have == blob.size_bytes:
                assert ranges == [], point
            elif have:
                assert ranges == [f"bytes={have}-"], point
                resumed.add(blob.digest)
            else:
                assert ranges in ([], [""]), point
        with store.place.in_use():
            assert store.image(f"{server.host}/one:1").digest == ONE.digest
        assert {one.diff_id for one in store.layers.all()} == set(ONE.diff_ids)
        assert damage(store) == [] and parts(store) == {}
        collect.prune(store)
        assert list(check.check(store)) == [], point
        assert os.listdir(store.place.path("making")) == os.listdir(store.place.path("leases")) == []
    assert killed >= wanted - 2 and resumed == {LOWER.digest, UPPER.digest}


class Gate:
    """Sends half of a blob, and the rest when it is opened."""

    def __init__(self, server: Server, blob: Descriptor) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()
        self.half = blob.size_bytes // 2
        server.rule(f"GET .*/blobs/{blob.digest}", self._answer, times=1)

    def _answer(self, handler: Handler) -> None:
        code, headers, data = handler.forward()
        handler.reply(code, data[: self.half], headers, stated=len(data))
        handler.wfile.flush()
        self.reached.set()
        assert self.opened.wait(60)
        handler.wfile.write(data[self.half :])


def half_there(store: Store, gate: Gate, blob: Descriptor) -> None:
    """Wait until the first half of the blob has been written."""
    assert gate.reached.wait(30)
    until(lambda: parts(store).get(blob.digest, 0) >= gate.half - (1 << 17), "the first half")


def ended(process: "subprocess.Popen[str]") -> tuple[str, str]:
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out, err


def test_two_pulls_at_once_fetch_it_once(
    ctk: Command, server: Server, environment: Callable[[Path], dict[str, str]], tmp_path: Path
) -> None:
    env, gate = environment(tmp_path / "images"), Gate(server, LOWER)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": env}
    first = ctk.popen("pull", "--json", f"{server.host}/one:1", **pipes)
    half_there(Store(env["CTK_IMAGES"]), gate, LOWER)
    second = ctk.popen("pull", "--json", f"{server.host}/one:1", **pipes)
    assert second.stdout is not None
    said = ""
    while "wait for another ctk" not in said:
        said = second.stdout.readline()
        assert said, "it did not wait"
    gate.opened.set()
    digests = [json.loads(out.splitlines()[-1])["result"]["digest"] for out, _ in (ended(first), ended(second))]
    assert digests == [ONE.digest] * 2
    for blob in (LOWER, UPPER, ONE.config):
        assert len(asked_for(server, blob)) == 1
    assert list(check.check(Store(env["CTK_IMAGES"]))) == []


def test_the_second_goes_on_when_the_first_is_killed(
    ctk: Command, server: Server, environment: Callable[[Path], dict[str, str]], tmp_path: Path
) -> None:
    env, gate = environment(tmp_path / "images"), Gate(server, LOWER)
    store = Store(env["CTK_IMAGES"])
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": env}
    first = ctk.popen("pull", f"{server.host}/one:1", **pipes)
    half_there(store, gate, LOWER)
    second = ctk.popen("pull", f"{server.host}/one:1", **pipes)
    time.sleep(0.5)
    first.kill()
    first.communicate()
    gate.opened.set()
    ended(second)
    ranges = asked_for(server, LOWER)
    assert ranges[0] == "" and int(ranges[1].removeprefix("bytes=").removesuffix("-")) >= gate.half - (1 << 17)
    assert damage(store) == [] and parts(store) == {}


def test_nothing_of_a_pull_or_a_container_is_pruned(
    ctk: Command,
    server: Server,
    environment: Callable[[Path], dict[str, str]],
    tmp_path: Path,
    busybox_rootfs: Path,
) -> None:
    """Half of a layer has come, the other layer is there without a name, and a container runs on a third one."""
    env, gate = environment(tmp_path / "images"), Gate(server, UPPER)
    store = Store(env["CTK_IMAGES"])
    tar = ["tar", "-C", str(busybox_rootfs), "--owner=0", "--group=0", "-c", "."]
    busy = images.image(subprocess.run(tar, capture_output=True, check=True).stdout, config={"Cmd": ["/bin/sh"]})
    there = store.destination()
    images.put(there, busy, "busy")
    there.close()
    container = ctk.id()
    ctk("up", "-d", "busy", container, "--", "/bin/sleep", "1000", env=env).ok()
    try:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": env}
        pulling = ctk.popen("pull", f"{server.host}/one:1", **pipes)
        half_there(store, gate, UPPER)
        for _ in range(2):
            ctk("image", "prune", "--all", "--limit", "1K", env=env).ok()
            ctk("gc", env=env).ok()
        refused = ctk("image", "rm", "busy", env=env)
        assert refused.rc == 1 and container in refused.err
        assert ctk("exec", container, "/bin/cat", "/bin/busybox", env=env).rc == 0
        gate.opened.set()
        ended(pulling)
        first, *more = asked_for(server, UPPER)  # more than one if this took longer than a stall may
        starts = [int(one.removeprefix("bytes=").removesuffix("-")) for one in more]
        assert first == "" and all(start >= gate.half for start in starts) and asked_for(server, LOWER) == [""]
        assert damage(store) == []
        assert {one.diff_id for one in store.layers.all()} == {*ONE.diff_ids, *busy.diff_ids}
    finally:
        gate.opened.set()
        ctk("rm", "-f", container, env=env).ok()
    ctk("image", "prune", "--all", env=env).ok()
    assert list(store.blobs.all()) == [] and store.layers.all() == [] and list(check.check(store)) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB."""
    path = tmp_path / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m,mode=700", "tmpfs", path], check=True)
    yield path
    subprocess.run(["umount", path], check=True)


@pytest.mark.parametrize("when", ["before", "meanwhile", "unpacked"])
def test_a_full_disk_is_one_clear_error(
    when: str,
    ctk: Command,
    server: Server,
    environment: Callable[[Path], dict[str, str]],
    behind: DebianRegistry,
    small_disk: Path,
) -> None:
    env = environment(small_disk / "images")
    store = Store(env["CTK_IMAGES"])
    filler = small_disk / "filler"
    wanted = "one:1"
    if when == "before":
        filler.write_bytes(bytes(20 << 20))
        told = ctk("pull", f"{server.host}/{wanted}", env=env)
        assert asked_for(server, LOWER) == asked_for(server, UPPER) == [], "it is told before the first byte"
    elif when == "meanwhile":
        gate = Gate(server, LOWER)
        process = ctk.popen("pull", f"{server.host}/{wanted}", env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        half_there(store, gate, LOWER)
        with pytest.raises(OSError), open(filler, "ab", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        gate.opened.set()
        out, err = process.communicate(timeout=60)
        told = type(ctk("images", env=env))(("pull",), process.returncode, out, err)
    else:
        wanted = "zeroes:1"
        there = registry.opened(behind.host, wanted, plain_http=True)
        images.put(there, images.image(images.layer({"zeroes": b"0" * (40 << 20)})), "1")
        there.close()
        told = ctk("pull", f"{server.host}/{wanted}", env=env)
    assert told.rc == 1 and told.err.count("error") <= 1, told.err
    assert "no space left" in told.err or "MiB left" in told.err, told.err
    assert "hint:" in told.err and "Traceback" not in told.err
    assert damage(store) == [] and store.entries() == []
    assert os.listdir(store.place.path("making")) == []
    whole = {UPPER.digest} if when == "meanwhile" else set()  # it had come before the disk was full
    assert {digest for digest, _ in store.blobs.all()} >= whole and len(store.layers.all()) == len(whole)
    checked = ctk("image", "check", env=env)
    assert checked.rc == 0 and "no damage" in checked.out
    filler.unlink(missing_ok=True)
    ctk("pull", f"{server.host}/one:1", env=env).ok()
    ctk("image", "prune", env=env).ok()
    assert list(check.check(store)) == []


@pytest.mark.parametrize("damaged", ["flipped", "not gzip"])
def test_what_was_damaged_on_the_way_is_fetched_anew(
    damaged: str, ctk: Command, server: Server, environment: Callable[[Path], dict[str, str]], tmp_path: Path
) -> None:
    """It has the right length, so nothing of it may stay to be gone on behind."""
    env = environment(tmp_path / "images")
    change = flipped if damaged == "flipped" else lambda data: b"x" * len(data)
    server.rule(f"GET .*/blobs/{LOWER.digest}", changed(change), times=1)
    told = ctk("pull", f"{server.host}/one:1", env=env)
    assert told.rc == 1 and "its digest is sha256:" in told.err, told.err
    store = Store(env["CTK_IMAGES"])
    assert damage(store) == [] and LOWER.digest not in parts(store)
    ctk("pull", f"{server.host}/one:1", env=env).ok()
    assert damage(store) == [] and store.image(f"{server.host}/one:1").digest == ONE.digest
