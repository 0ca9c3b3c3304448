"""Records on disk: ids that stay names, exclusive ids, whole files, locks that die with their holder."""

import os
import signal
import stat
import subprocess
import sys
import threading

import pytest

from toolkit.errors import CtkError, InUse, NotFound
from toolkit.runtime import record as records

BAD_IDS = ["", ".", "..", "../x", "a/b", "x\n", "é", ".x", "a" * 256, "a" * 4096, "a b", "a\0b", "/", "ａ", "x/../y"]


@pytest.fixture
def root(tmp_path):
    return str(tmp_path / "root")


@pytest.mark.parametrize("bad", BAD_IDS, ids=repr)
def test_an_id_that_is_no_name_is_refused_everywhere(root, bad, tmp_path):
    for act in (records.reserve, records.load):
        with pytest.raises(CtkError) as caught:
            act(root, bad)
        assert "container id cannot be empty" in str(caught.value) or "invalid container ID format" in str(caught.value)
    assert not os.path.exists(root)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("good", ["a", "A-b_c+d.e", "-x", "+", "_", "9", "a" * 255, "list"])
def test_an_id_of_the_allowed_letters_is_taken(root, good):
    record = records.reserve(root, good)
    record.save()
    assert records.ids(root) == [good]
    record.remove()
    assert records.ids(root) == []


def test_an_id_is_taken_once(root):
    records.reserve(root, "c").save()
    with pytest.raises(InUse, match="container with given ID already exists"):
        records.reserve(root, "c")


def test_many_want_one_id_and_one_gets_it(root):
    records.reserve(root, "other")
    won, lost = [], []

    def want():
        try:
            won.append(records.reserve(root, "c"))
        except InUse:
            lost.append(1)

    threads = [threading.Thread(target=want) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1 and len(lost) == 15


def test_facts_come_back_as_they_were(root):
    record = records.reserve(root, "c")
    record.bundle, record.rootfs, record.pid, record.start_time = "/b\u00fcndel", "/r", 7, 1234
    record.annotations, record.cgroups, record.extra = {"a": "b"}, {"paths": {"x": "/y"}}, {"n": [1, None]}
    record.save_config('{"ociVersion": "1.2.1"}')
    record.save()
    again = records.load(root, "c")
    for name in ("bundle", "rootfs", "pid", "start_time", "boot_id", "created", "annotations", "cgroups", "owner_uid"):
        assert getattr(again, name) == getattr(record, name), name
    assert again.config() == {"ociVersion": "1.2.1"}
    assert not again.torn
    assert again.boot_id == records.boot_id()
    assert again.created.endswith("Z") and "T" in again.created


def test_only_the_owner_reads_what_is_in_it(root):
    record = records.reserve(root, "c")
    record.save()
    assert stat.S_IMODE(os.stat(root).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(record.folder + "/state.json").st_mode) == 0o600


def test_an_unknown_id_does_not_exist(root):
    with pytest.raises(NotFound, match="container does not exist"):
        records.load(root, "c")
    os.makedirs(root)
    open(root + "/file", "w").close()
    with pytest.raises(NotFound, match="container does not exist"):
        records.load(root, "file")


@pytest.mark.parametrize(
    "text", [None, "", "{", "null", "[]", '{"format": 1}', '{"format": 99, "id": "c"}', '{"format": 1, "id": "d"}']
)
def test_a_folder_without_whole_facts_is_torn_and_can_be_removed(root, text):
    record = records.reserve(root, "c")
    if text is not None:
        with open(record.folder + "/state.json", "w") as file:
            file.write(text)
    record.unlock()
    torn = records.load(root, "c")
    assert torn.torn and torn.pid == 0
    assert records.ids(root) == ["c"]
    torn.remove()
    records.reserve(root, "c")


def test_a_fact_of_the_wrong_type_does_not_count(root):
    record = records.reserve(root, "c")
    record.pid = 5
    record.save()
    path = record.folder + "/state.json"
    with open(path) as file:
        text = file.read()
    with open(path, "w") as file:
        file.write(text.replace('"pid":5', '"pid":"5"').replace('"annotations":{}', '"annotations":[]'))
    again = records.load(root, "c")
    assert again.pid == 0 and again.annotations == {}


def test_state_json_is_never_followed_as_a_link(root, tmp_path):
    record = records.reserve(root, "c")
    record.save()
    os.rename(record.folder + "/state.json", tmp_path / "elsewhere")
    os.symlink(tmp_path / "elsewhere", record.folder + "/state.json")
    assert records.load(root, "c").torn
    os.symlink(tmp_path, root + "/link")
    assert records.ids(root) == ["c"]
    with pytest.raises(NotFound, match="container does not exist"):
        records.load(root, "link")


def test_a_root_that_others_can_write_to_is_refused(tmp_path):
    open_root = tmp_path / "open"
    open_root.mkdir()
    open_root.chmod(0o777)
    with pytest.raises(CtkError, match="others can write into it"):
        records.reserve(str(open_root), "c")
    assert list(open_root.iterdir()) == []
    open_root.chmod(0o1777)  # sticky, as /tmp: nobody can replace what is ours, but put records of his own beside it
    with pytest.raises(CtkError, match="others can write into it"):
        records.reserve(str(open_root), "c")


def test_the_lock_is_one_persons_and_ends_with_the_process(root):
    made = records.reserve(root, "c")
    made.save()
    made.unlock()
    holder = subprocess.Popen(
        [
            sys.executable, "-c",
            "import sys, time; from toolkit.runtime import record\n"
            "r = record.load(sys.argv[1], 'c'); r.lock(); print('held', flush=True); time.sleep(60)",
            root,
        ],
        stdout=subprocess.PIPE, text=True, cwd=records.__file__.rsplit("/toolkit/", 1)[0],
    )  # fmt: skip
    try:
        assert holder.stdout.readline() == "held\n"
        mine = records.load(root, "c")
        assert mine.locked_by_other()
        assert not mine.lock(wait=False)
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        assert mine.lock(wait=False)
        assert not mine.locked_by_other()
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()


def test_a_lock_on_a_deleted_container_is_none(root):
    record = records.reserve(root, "c")
    record.save()
    late = records.load(root, "c")
    record.remove()
    record.unlock()
    with pytest.raises(NotFound):
        late.lock()
    anew = records.reserve(root, "c")
    anew.save()
    anew.unlock()
    assert late.lock()


def test_removal_takes_the_facts_last(root, monkeypatch):
    record = records.reserve(root, "c")
    record.save_config("{}")
    record.save()
    os.mkfifo(record.fifo_path)
    order = []
    unlink = os.unlink
    monkeypatch.setattr(os, "unlink", lambda path, **more: (order.append(os.path.basename(path)), unlink(path, **more)))
    record.remove()
    assert order[-1] == "state.json" and set(order) == {"config.json", "exec.fifo", "state.json"}
    record.remove()  # nothing there any more: as good


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1_500_000_000, "1970-01-01T00:00:01.5Z"),
        (1_000_000_001, "1970-01-01T00:00:01.000000001Z"),
    ],
)
def test_times_as_go_writes_them(monkeypatch, nanoseconds, text):
    monkeypatch.setattr(records.time, "time_ns", lambda: nanoseconds)
    assert records.now() == text


@pytest.mark.root
def test_what_is_mounted_in_a_record_is_not_deleted(root, tmp_path):
    """A restore that fails half-way once left the container's root mounted there, and `delete` emptied it."""
    record = records.reserve(root, "c")
    kept = tmp_path / "kept"
    (kept / "below").mkdir(parents=True)
    (kept / "file").write_text("x")
    point = record.folder + "/mounted"
    os.mkdir(point)
    subprocess.run(["mount", "--bind", str(kept), point], check=True)
    try:
        with pytest.raises(OSError, match="busy"):
            record.remove()
    finally:
        subprocess.run(["umount", point], check=True)
    assert sorted(path.name for path in kept.iterdir()) == ["below", "file"]
    os.mkdir(record.folder + "/folder")
    os.mkdir(record.folder + "/folder/inner")
    record.remove()
    assert not os.path.exists(record.folder)
