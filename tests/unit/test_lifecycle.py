"""Status is worked out from what the kernel shows, for real processes; what is allowed when is a table."""

import os
import subprocess

import pytest

from tests.fixtures.waiting import until
from toolkit.care import leftovers
from toolkit.care.leftover import Leftover
from toolkit.errors import CtkError, InUse, NotFound
from toolkit.events import silent
from toolkit.runtime import lifecycle
from toolkit.runtime import record as records


@pytest.fixture
def sleeper():
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def record(tmp_path, sleeper):
    made = records.reserve(str(tmp_path / "root"), "c")
    made.pid = sleeper.pid
    made.start_time = lifecycle.process_facts(sleeper.pid)[1]
    made.save()
    made.unlock()
    return made


def test_a_living_process_runs(record):
    assert lifecycle.status(record) == "running"


def test_it_is_created_while_the_fifo_is_there(record):
    os.mkfifo(record.fifo_path)
    assert lifecycle.status(record) == "created"
    os.unlink(record.fifo_path)
    assert lifecycle.status(record) == "running"


def test_a_pid_that_was_given_out_again_is_not_ours(record):
    record.start_time -= 1
    assert lifecycle.status(record) == "stopped"


def test_a_pid_from_before_a_reboot_is_not_ours(record):
    record.boot_id = "00000000-0000-0000-0000-000000000000"
    assert lifecycle.status(record) == "stopped"


def test_a_zombie_has_stopped(record, sleeper):
    sleeper.kill()
    until(lambda: lifecycle.process_facts(sleeper.pid)[0] == "Z", "the zombie")
    assert lifecycle.status(record) == "stopped"


def test_a_process_that_is_gone_has_stopped(record, sleeper):
    sleeper.kill()
    sleeper.wait()
    assert lifecycle.process_facts(sleeper.pid) is None
    assert lifecycle.status(record) == "stopped"


def test_a_create_that_ended_after_its_record_was_read_has_not_stopped(tmp_path, sleeper):
    at_work = records.reserve(str(tmp_path / "root"), "c")
    torn = records.load(str(tmp_path / "root"), "c")
    assert lifecycle.status(torn) == "creating"
    at_work.save()
    half_made = records.load(str(tmp_path / "root"), "c")
    assert lifecycle.status(half_made) == "creating"
    at_work.pid, at_work.start_time = sleeper.pid, lifecycle.process_facts(sleeper.pid)[1]
    at_work.save()
    at_work.unlock()
    assert [lifecycle.status(read) for read in (torn, half_made)] == ["running", "running"]


def test_a_killed_create_has_stopped_and_a_deleted_one_is_missing(tmp_path):
    records.reserve(str(tmp_path / "root"), "c").unlock()
    torn = records.load(str(tmp_path / "root"), "c")
    assert lifecycle.status(torn) == "stopped"
    torn.remove()
    with pytest.raises(NotFound):
        lifecycle.status(torn)


def test_gc_leaves_a_container_that_was_made_after_it_looked(tmp_path, sleeper, monkeypatch):
    monkeypatch.setenv("CTK_DATA", str(tmp_path / "data"))
    root = str(tmp_path / "root")
    made = records.reserve(root, "c")
    made.unlock()
    (found,) = leftovers.records_below(root)
    assert isinstance(found, Leftover) and found.why == "its create was killed"
    made.pid, made.start_time = sleeper.pid, lifecycle.process_facts(sleeper.pid)[1]
    made.save()
    with pytest.raises(InUse, match=f"it runs, as process {sleeper.pid}"):
        found.remove(silent)
    assert lifecycle.status(records.load(root, "c")) == "running" and sleeper.poll() is None


def test_a_name_with_parentheses_and_spaces_does_not_confuse(tmp_path):
    program = tmp_path / "a) Z 1 (b"
    program.symlink_to("/bin/sleep")
    process = subprocess.Popen([str(program), "60"])
    try:
        assert lifecycle.process_facts(process.pid)[0] in "RS"
        assert lifecycle.process_facts(process.pid)[1] > 0
    finally:
        process.kill()
        process.wait()


def test_without_a_process_it_is_being_created_while_somebody_holds_the_lock(tmp_path):
    root = str(tmp_path / "root")
    maker = records.reserve(root, "c")
    assert lifecycle.status(records.load(root, "c")) == "creating"
    maker.unlock()
    assert lifecycle.status(records.load(root, "c")) == "stopped"


ALLOWED = {
    "start": {"created"},
    "exec": {"created", "running"},
    "kill": {"created", "running", "paused"},
    "pause": {"created", "running"},
    "resume": {"paused"},
    "delete": {"created", "stopped"},
    "update": {"created", "running", "paused"},
    "events": {"created", "running", "paused"},
    "checkpoint": {"running", "paused"},
}


@pytest.mark.parametrize("status", ["creating", "created", "running", "paused", "stopped"])
@pytest.mark.parametrize("verb", sorted(ALLOWED))
def test_what_is_allowed_when(monkeypatch, tmp_path, verb, status):
    monkeypatch.setattr(lifecycle, "status", lambda record: status)
    record = records.Record(str(tmp_path), "c")
    if status in ALLOWED[verb]:
        assert lifecycle.require(record, verb) == status
    else:
        with pytest.raises(CtkError):
            lifecycle.require(record, verb)


@pytest.mark.parametrize(
    ("verb", "status", "words"),
    [
        ("start", "running", "cannot start an already running container"),
        ("start", "stopped", "cannot start a container that has stopped"),
        ("start", "paused", "cannot start a container in the paused state"),
        ("exec", "stopped", "cannot exec in a stopped container"),
        ("exec", "paused", "cannot exec in a paused container (use --ignore-paused to override)"),
        ("kill", "stopped", "container not running"),
        ("pause", "stopped", "container not running"),
        ("resume", "running", "container not paused"),
        ("delete", "running", "cannot delete container c that is not stopped: running"),
        ("events", "stopped", "container with id c is not running"),
    ],
)
def test_the_words_that_engines_look_for(monkeypatch, tmp_path, verb, status, words):
    monkeypatch.setattr(lifecycle, "status", lambda record: status)
    with pytest.raises(CtkError) as caught:
        lifecycle.require(records.Record(str(tmp_path), "c"), verb)
    assert str(caught.value) == words
