"""What the runtime's verbs import, seen from outside: `-X importtime` names every module, in forked children too.

An import contract can't see what an import drags in; this can. Each name below costs between 0.3 and 30 ms on a verb
that an engine calls several times a container.
"""

import importlib
import importlib.util
import subprocess
from pathlib import Path

import pytest

from tests.fixtures.command import Bundle, Command, python_words
from tests.fixtures.waiting import until
from toolkit import hot_functions
from toolkit.preload import IMAGES

SLOW = {
    "typer", "click", "rich", "requests", "urllib3", "pyroute2", "zstandard", "msgspec", "pysequoia", "site",
    "dataclasses", "json", "re", "enum", "inspect", "subprocess", "logging", "typing", "pathlib", "ctypes", "functools",
    "contextlib", "collections", "datetime", "threading", "tempfile", "shutil", "traceback", "argparse", "importlib",
    "types", "operator", "keyword", "random", "socket", "selectors", "ast", "tokenize", "linecache",
    "os", "_collections_abc",
}  # fmt: skip


def imported(arguments: list[str], environment: dict[str, str], cwd: "str | None" = None) -> tuple[int, set[str], str]:
    """Exit code, the modules that `ctk ARGUMENTS` imported, and what else it said."""
    argv = [*python_words("-X", "importtime"), *arguments]
    done = subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment, cwd=cwd, timeout=60
    )
    rows = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    others = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
    names = {row.rpartition("|")[2].strip() for row in rows} - {"imported package"}
    assert "gc" in names, done.stderr  # what preload.py loads is not listed; what its modules import is
    return done.returncode, names, done.stdout + "\n".join(others)


def slow(names: set[str]) -> set[str]:
    return {name for name in names if name.partition(".")[0] in SLOW}


@pytest.mark.parametrize(
    ("arguments", "rc"),
    [(["list"], 0), (["list", "-q"], 0), (["state", "nobody"], 1), (["--version"], 0), (["features"], 0)],
)
def test_verbs_without_a_container(arguments: list[str], rc: int, ctk: Command) -> None:
    code, names, said = imported(arguments, ctk.environment)
    # Only a verb has an image (toolkit/preload.py), and with it a stand-in for `os`.
    assert (code, slow(names) - ({"os", "_collections_abc"} if arguments[0] not in IMAGES else set())) == (rc, set()), (
        said
    )


@pytest.mark.root
@pytest.mark.usefixtures("leaks")
def test_every_verb_of_a_container(ctk: Command, busybox_bundle: Bundle) -> None:
    name = ctk.id()
    busybox_bundle.sh("sleep 1000")
    found: dict[str, set[str]] = {}

    def verb(*arguments: str) -> None:
        code, names, said = imported(list(arguments), ctk.environment, str(busybox_bundle))
        assert code == 0, f"{arguments}: {said}"
        # What makes system calls (kernel/native.py) costs 0.8 ms; only a fork into the container needs it.
        found[" ".join(arguments)] = slow(names) | (names & {"_ctypes"} if arguments[0] != "run" else set())

    def quiet(*arguments: str) -> None:
        # The container keeps create's standard error, so a pipe would never end.
        with open(busybox_bundle.path / "importtime", "w+") as log:
            argv = [*python_words("-X", "importtime"), *arguments]
            assert (
                subprocess.run(
                    argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=ctk.environment, timeout=60
                ).returncode
                == 0
            ), Path(log.name).read_text()
            log.seek(0)
            rows = [line for line in log if line.startswith("import time:")]
        found[" ".join(arguments)] = slow({row.rpartition("|")[2].strip() for row in rows})

    try:
        quiet("create", "--bundle", str(busybox_bundle), name)
        for arguments in (
            ("start", name),
            ("state", name),
            ("exec", name, "/bin/true"),
            ("ps", name),
            ("pause", name),
            ("resume", name),
            ("update", "--pids-limit", "100", name),
            ("events", "--stats", name),
            ("list",),
            ("kill", name, "KILL"),
        ):
            verb(*arguments)
        verb("delete", "--force", name)
    finally:
        ctk("delete", "--force", name)
    busybox_bundle.args("/bin/true")
    verb("run", name)
    assert {key: names for key, names in found.items() if names} == {}


@pytest.mark.root
@pytest.mark.usefixtures("leaks")
def test_comforts_cost_nothing_where_they_are_not_asked_for(ctk: Command, busybox_bundle: Bundle) -> None:
    name = ctk.id()
    busybox_bundle.args("/bin/true")
    assert "toolkit.runtime.comfort" in imported(["run", "--tell", name], ctk.environment, str(busybox_bundle))[1]
    for words in (["run", name], ["run", "-d", name], ["delete", name]):
        if words[0] == "delete":
            until(lambda: ctk("state", name).json()["status"] == "stopped", "its end")
        with open(busybox_bundle.path / "importtime", "w+") as log:
            argv = [*python_words("-X", "importtime"), *words]
            subprocess.run(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=ctk.environment, cwd=str(busybox_bundle),
                timeout=60, check=True,
            )  # fmt: skip
            log.seek(0)
            assert "comfort" not in log.read()


def test_what_verbs_usually_call_exists() -> None:
    """Else the list is of another state of the code, and calls what it should have (scripts/hot-functions)."""
    missing = []
    for module in {name for names in hot_functions.MODULES.values() for name in names.split()}:
        if importlib.util.find_spec(module) is None:
            missing.append(module)
    for module, names in hot_functions.FUNCTIONS.items():
        for name in names.split():
            found = importlib.import_module(module)
            for part in name.split("."):
                found = getattr(found, part, None)
            if found is None and not name.startswith("__main__"):
                missing.append(f"{module}:{name}")
    assert set(hot_functions.MODULES) == set(IMAGES)
    assert not missing, f"run scripts/hot-functions as root: {sorted(missing)}"
