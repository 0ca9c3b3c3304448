"""Many at once: containers by the hundred, one id wanted by all, verbs that race with each other."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from tests.fixtures.command import Bundle, Command, Result
from tests.fixtures.leaks import TAG
from tests.fixtures.often import tries

pytestmark = pytest.mark.root

WORKERS = 8
STATUSES = {"creating", "created", "running", "paused", "stopped"}


def clean(result: Result) -> Result:
    """No traceback, whatever came of it."""
    assert "Traceback" not in result.err and "internal error" not in result.err, result
    return result


def look(ctk: Command) -> None:
    """All forms of `list`, each whole."""
    rows = json.loads(clean(ctk("list", "--format", "json")).ok().out) or []
    for row in rows:
        assert row["id"].startswith(TAG) and row["status"] in STATUSES, row
        if row["status"] in ("created", "running"):
            assert row["pid"] > 0 and row["bundle"], row
    table = clean(ctk("list")).ok()
    assert table.out.splitlines()[0].split() == ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    quiet = clean(ctk("list", "-q")).ok()
    assert table.err == quiet.err == ""


@contextmanager
def looking(ctk: Command) -> Iterator[list[int]]:
    """Look again and again meanwhile; gives the count of looks, and raises what went wrong at the end."""
    over = threading.Event()
    count = [0]

    def loop() -> None:
        while not over.is_set():
            look(ctk)
            count[0] += 1

    with ThreadPoolExecutor(1) as pool:
        task = pool.submit(loop)
        try:
            yield count
        finally:
            over.set()
        task.result()


@pytest.mark.timeout(200)
def test_many_by_eight_with_list_in_a_loop(ctk: Command, new_bundle: Callable[..., Bundle]) -> None:
    waiting = new_bundle("waiting").sh("sleep 1000")
    passing = new_bundle("passing").sh("echo $HOSTNAME; exit 7")

    def whole_life(container: str) -> None:
        clean(ctk("create", "--bundle", str(waiting), container)).ok()
        assert ctk("state", container).json()["status"] == "created"
        clean(ctk("start", container)).ok()
        assert ctk("state", container).json()["status"] == "running"
        clean(ctk("kill", container, "KILL")).ok()
        deadline = time.monotonic() + 30
        while (result := clean(ctk("delete", container))).rc != 0:
            # It takes SIGKILL a moment to end it; the words are then these and no others.
            assert "that is not stopped: running" in result.err and time.monotonic() < deadline, result
        assert "does not exist" in ctk("state", container).err

    def run(container: str) -> None:
        assert clean(ctk("run", "--bundle", str(passing), container)).rc == 7

    lives = [ctk.id() for _ in range(tries(24, 60))]
    runs = [ctk.id() for _ in range(tries(56, 140))]
    with looking(ctk) as looks, ThreadPoolExecutor(WORKERS) as pool:
        tasks = []
        for index, container in enumerate(runs):
            tasks.append(pool.submit(run, container))
            if index < len(lives):
                tasks.append(pool.submit(whole_life, lives[index]))
        for task in tasks:
            task.result()
    assert looks[0] > 10
    assert json.loads(ctk("list", "--format", "json").ok().out) is None


@pytest.mark.parametrize("verb", ["create", "run"])
def test_one_id_wanted_by_eight_goes_to_one(verb: str, ctk: Command, busybox_bundle: Bundle) -> None:
    busybox_bundle.sh("sleep 1000")
    words = {"create": ["create"], "run": ["run", "--detach"]}[verb]
    for _ in range(4):
        container = ctk.id()
        begin = threading.Barrier(WORKERS)

        def want(container: str = container, begin: threading.Barrier = begin) -> Result:
            begin.wait()
            return clean(ctk(*words, container, cwd=str(busybox_bundle)))

        with ThreadPoolExecutor(WORKERS) as pool:
            results = [task.result() for task in [pool.submit(want) for _ in range(WORKERS)]]
        try:
            assert sorted(result.rc for result in results) == [0] + [1] * (WORKERS - 1), results
            for result in results:
                assert result.rc == 0 or "already exists" in result.err, result
            # The losers took nothing from the winner.
            assert ctk("state", container).json()["status"] == {"create": "created", "run": "running"}[verb]
            if verb == "create":
                ctk("start", container).ok()
            assert ctk("exec", container, "echo", "hi").ok().out == "hi\n"
        finally:
            ctk("delete", "--force", container).ok()


def test_twenty_execs_at_once(ctk: Command, busybox_bundle: Bundle) -> None:
    busybox_bundle.sh("sleep 1000")
    container = ctk.id()
    ctk("run", "--detach", container, cwd=str(busybox_bundle)).ok()
    try:

        def one(number: int) -> None:
            result = clean(ctk("exec", "--env", f"N={number}", container, "sh", "-c", "echo $N; exit $N"))
            assert (result.rc, result.out, result.err) == (number, f"{number}\n", "")

        with looking(ctk), ThreadPoolExecutor(20) as pool:
            for task in [pool.submit(one, number) for number in range(1, 21)]:
                task.result()
        assert len(ctk("ps", "--format", "json", container).json()) == 1
    finally:
        ctk("delete", "--force", container).ok()


def test_kill_and_delete_race_with_start(ctk: Command, busybox_bundle: Bundle) -> None:
    """Whatever comes first, each gets a plain answer, and in the end there is no container."""
    busybox_bundle.sh("sleep 1000")
    said = (
        "does not exist",
        "container not running",
        "already dead",
        "cannot start a container that has stopped",
        "cannot start an already running container",
        "that is not stopped: running",
        "is busy",
        "has no config.json",
    )
    for delay_s in (0.0, 0.0, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05):
        container = ctk.id()
        ctk("create", container, cwd=str(busybox_bundle)).ok()
        calls: list[list[str]] = [["start", container], ["kill", container, "KILL"], ["delete", container]]
        calls += [["delete", "--force", container], ["start", container], ["state", container]]
        begin = threading.Barrier(len(calls))

        def call(words: list[str], begin: threading.Barrier = begin, delay_s: float = delay_s) -> Result:
            begin.wait()
            if words[0] != "start":
                time.sleep(delay_s)
            return clean(ctk(*words))

        with ThreadPoolExecutor(len(calls)) as pool:
            results = [task.result() for task in [pool.submit(call, words) for words in calls]]
        for result in results:
            assert result.rc == 0 or any(words in result.err for words in said), result
        assert ctk("delete", "--force", container).rc == 0
        assert "does not exist" in ctk("state", container).err


def test_delete_races_with_create(ctk: Command, busybox_bundle: Bundle) -> None:
    """A create that loses its id half-way says so and leaves no process behind."""
    busybox_bundle.sh("sleep 1000")
    container = ctk.id()
    over = threading.Event()

    def remove() -> None:
        while not over.is_set():
            clean(ctk("delete", "--force", container)).ok()

    with ThreadPoolExecutor(2) as pool:
        tasks = [pool.submit(remove) for _ in range(2)]
        try:
            for _ in range(12):
                result = clean(ctk("create", container, cwd=str(busybox_bundle)))
                assert result.rc == 0 or "already exists" in result.err or "does not exist" in result.err, result
        finally:
            over.set()
        for task in tasks:
            task.result()
    assert ctk("delete", "--force", container).rc == 0


def test_state_never_tells_of_an_end_before_the_beginning(ctk: Command, busybox_bundle: Bundle) -> None:
    """Who polls while `create` works hears of nothing, then of a created container; never of a stopped one."""
    busybox_bundle.sh("sleep 1000")
    for _ in range(6):
        container = ctk.id()
        with ThreadPoolExecutor(1) as pool:
            task = pool.submit(ctk, "create", container, cwd=str(busybox_bundle))
            heard = []
            while not task.done():
                result = clean(ctk("state", container))
                heard.append(json.loads(result.out)["status"] if result.rc == 0 else result.err)
            task.result().ok()
        assert all(word in ("creating", "created") or "does not exist" in word for word in heard), heard
        ctk("delete", "--force", container).ok()
