"""What runs side by side with what."""

import re
import subprocess
import sys
from pathlib import Path

from tests.fixtures import shards

TOP = Path(__file__).parents[2]


def test_a_folder_with_one_guest_or_daemon_is_one_workers() -> None:
    ids = ["tests/vm/test_a.py::test_x[1]", "tests/vm/test_b.py::test_y", "tests/story/test_a.py::test_x[a::b]"]
    assert [shards.scope(one) for one in ids] == ["tests/vm/", "tests/vm/", "tests/story/test_a.py"]


def test_whoever_has_a_root_that_a_worker_makes_once_is_with_the_others() -> None:
    """All but test_bootstrap_stages.py: those who do there are slow, and it takes minutes without them."""
    names = {path.relative_to(TOP).as_posix() for path in TOP.glob("tests/*/test_*.py")}
    users = {name for name in names if re.search(r"\b(made_root|root_of): Callable", (TOP / name).read_text())}
    assert users - set(shards.WITH_ROOTS) == {"tests/story/test_bootstrap_stages.py"}
    assert {shards.scope(name + "::test_x") for name in shards.WITH_ROOTS} == {"roots"}


def test_what_takes_longest_is_still_there() -> None:
    for prefix in (*shards.TOGETHER, *shards.WITH_ROOTS, *shards.LONGEST):
        assert list(TOP.glob(prefix + ("*" if not prefix.endswith(".py") else ""))), prefix
    assert shards.place("tests/vm/test_x.py::y") < shards.place("tests/story/test_bootstrap_x.py::y")
    assert shards.place("tests/story/test_bootstrap_x.py::y") < shards.place("tests/kernel/test_x.py::y")


def test_two_workers_take_them_so(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(
        "import os\n"
        "from tests.fixtures import shards\n"
        "from tests.fixtures.shards import pytest_collection_modifyitems, pytest_xdist_make_scheduler\n"
        "shards.TOGETHER, shards.LONGEST = ('both/',), ('long/',)\n"
        "def pytest_runtest_setup(item):\n"
        f"    with open({str(tmp_path / 'seen')!r}, 'a') as file:\n"
        "        file.write(f\"{item.nodeid.partition(':')[0]} {os.environ['PYTEST_XDIST_WORKER']}\\n\")\n"
    )
    for name in ("both/test_a.py", "both/test_b.py", "long/test_c.py", "test_d.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("import pytest\n@pytest.mark.parametrize('n', range(5))\ndef test_x(n): pass\n")
    words = [sys.executable, "-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(TOP)}
    done = subprocess.run(
        [*words, "-c", "/dev/null", str(tmp_path)], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    seen = [line.split() for line in (tmp_path / "seen").read_text().splitlines()]
    assert len(seen) == 20 and len({worker for _, worker in seen}) == 2
    for name in ("both/", "long/", "test_d.py"):
        assert len({worker for file, worker in seen if file.startswith(name)}) == 1, seen
    firsts = {worker: file for file, worker in reversed(seen)}
    assert "long/test_c.py" in firsts.values(), seen
