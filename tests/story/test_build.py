"""`ctk build`: a Containerfile becomes an image, from COPY's files to what RUN has changed."""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.command import Command
from tests.fixtures.user import ID, prefix
from tests.fixtures.waiting import until

pytestmark = pytest.mark.root

BASE = """FROM scratch AS base
COPY root/ /
"""


@pytest.fixture
def context(busybox_rootfs: Path, tmp_path: Path) -> Path:
    """A folder with busybox's root, and some files."""
    folder = tmp_path / "context"
    shutil.copytree(busybox_rootfs, folder / "root", symlinks=True)
    (folder / "src/deep").mkdir(parents=True)
    (folder / "src/a").write_text("a\n")
    (folder / "src/deep/b").write_text("b\n")
    (folder / "src/secret").write_text("s\n")
    return folder


def write(context: Path, text: str) -> str:
    (context / "Containerfile").write_text(text)
    return str(context)


def config(ctk: Command, name: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(ctk("image", "inspect", name).ok().out)
    return found


def shown(ctk: Command, name: str, *words: str) -> str:
    return ctk("up", name, ctk.id(), "--rm", "--no-tty", "--", *words).ok().out


def test_an_image_is_built_and_runs(ctk: Command, context: Path) -> None:
    (context / ".containerignore").write_text("src/*\n!src/a\n!src/deep\n")
    text = """ARG word=hello
FROM scratch AS base
COPY root/ /
FROM base AS made
ARG word
ENV GREETING=$word NAME="you  all"
WORKDIR /srv/app
COPY --chmod=750 --chown=7:8 src ./src
RUN echo "$GREETING $NAME" > out && rm /etc/group
RUN <<EOF
echo more >> out
EOF
FROM base
COPY --from=made /srv/app /srv/app/
COPY <<EOF /etc/motd
from a here-document
EOF
USER 7
CMD cat /srv/app/out /etc/motd; id -u; stat -c '%a %u:%g %n' /srv/app/src/a; find /srv -type f | sort; ls /etc/group
"""
    ctk("build", "-t", "localhost/one", "-t", "two", write(context, text)).ok()
    told = ctk("up", "two", ctk.id(), "--rm", "--no-tty").ok().out.splitlines()
    assert told == [
        "hello you  all",
        "more",
        "from a here-document",
        "7",
        "750 7:8 /srv/app/src/a",
        "/srv/app/out",
        "/srv/app/src/a",
        "/srv/app/src/deep/b",
        "/etc/group",
    ]
    # The layers of the stage that is not in the image stay for the next build, until a prune.
    assert ctk("image", "check").ok().out.splitlines()[-1] == "no damage"


def test_what_has_not_changed_is_not_done_again(ctk: Command, context: Path) -> None:
    write(context, BASE + "COPY src /src\nRUN cat /proc/sys/kernel/random/uuid > /made\nCOPY src/a /after\n")

    def build(*words: str) -> tuple[str, list[str]]:
        told = ctk("build", "-t", "it", *words, str(context)).ok()
        done = [line for line in told.err.splitlines() if "] " in line and "cached" not in line]
        steps = [word for line in done for word in ("root/", "src /src", "RUN", "/after") if word in line]
        return shown(ctk, "it", "cat", "/made"), steps

    first, steps = build()
    assert steps == ["root/", "src /src", "RUN", "/after"]
    os.utime(context / "src/a", (0, 0))
    assert build() == (first, [])
    (context / "src/a").write_text("other\n")
    second, steps = build()
    assert second != first and steps == ["src /src", "RUN", "/after"]
    os.chmod(context / "src/a", 0o600)
    assert build()[1] == ["src /src", "RUN", "/after"]
    third, steps = build("--no-cache")
    assert third not in (first, second) and steps == ["root/", "src /src", "RUN", "/after"]
    # A layer that no image has is gone after a prune, and made again.
    ctk("image", "rm", "it").ok()
    ctk("image", "prune", "--all").ok()
    assert build()[1] == ["root/", "src /src", "RUN", "/after"]


def test_a_step_that_fails_is_named_and_leaves_nothing(ctk: Command, context: Path, tmp_path: Path) -> None:
    write(context, BASE + "RUN true\nRUN echo last words; \\\n  exit 7\n")
    told = ctk("build", "-t", "it", str(context))
    assert told.rc == 1
    assert "Containerfile:4: RUN echo last words; exit 7: its exit status is 7" in told.err
    assert "last words" in told.err
    store = tmp_path / "data/images"
    assert os.listdir(store / "making") == os.listdir(store / "leases") == os.listdir(store / "parts") == []
    assert json.loads(ctk("images", "--json").ok().out) == []


@pytest.mark.parametrize(
    "text, because",
    [
        ("COPY nothing /x", "Containerfile:3: COPY nothing /x: nothing in the folder "),
        ("COPY src/a /etc/passwd/x", "/etc/passwd/x: not a directory"),
        ("COPY src/a src/secret /x", "there are several sources, and '/x' is no folder"),
        ("COPY --chown=nobody-here src /x", "the image has no user 'nobody-here'"),
        ("COPY --from=other src /x\nFROM base AS other", "ctk pull"),
        ("COPY ../../etc/passwd /x", "nothing in the folder"),
        ("RUN --mount=type=secret,id=x true", "Containerfile:3: --mount: "),
        ("ADD http://127.0.0.1/x /x", "Containerfile:3: ctk does not fetch"),
        ("USER nobody-here\nRUN true", "Containerfile:4: RUN true: "),
        ("USER nobody-here\nRUN true", "a RUN with useradd makes one"),
        ("STOPSIGNAL SIGFOO", "Containerfile:3: STOPSIGNAL 'SIGFOO' is no signal"),
    ],
)
def test_what_cannot_be_done_is_told(ctk: Command, context: Path, text: str, because: str) -> None:
    told = ctk("build", "--pull", "never", write(context, BASE + text + "\n"))
    assert told.rc == 1 and because in told.err, told.err
    assert "Traceback" not in told.err


def test_an_image_that_can_not_be_pulled_is_told_with_its_line(ctk: Command, context: Path) -> None:
    told = ctk("build", write(context, "FROM localhost:1/nothing:1\n"))
    assert told.rc == 1 and "Containerfile:1: pull localhost:1/nothing:1: " in told.err


def test_a_build_of_a_file_is_told_the_option(ctk: Command, context: Path) -> None:
    write(context, BASE)
    told = ctk("build", str(context / "Containerfile"))
    assert told.rc == 1 and f"ctk build -f {context}/Containerfile" in told.err


def test_ctrl_c_leaves_nothing(ctk: Command, context: Path, tmp_path: Path) -> None:
    write(context, BASE + "RUN echo begun; trap '' TERM INT; sleep 1000\n")
    child = ctk.popen("build", "-t", "it", "--verbose", str(context), stderr=subprocess.PIPE)
    assert child.stderr is not None
    while "begun" not in (line := child.stderr.readline()):
        assert line
    child.send_signal(signal.SIGINT)
    assert child.wait(60) == 130
    child.stderr.close()
    store = tmp_path / "data/images"
    assert os.listdir(store / "making") == os.listdir(store / "leases") == []
    assert json.loads(ctk("list", "--format", "json").ok().out or "[]") in ([], None)


def test_a_killed_build_is_swept_up(ctk: Command, context: Path, tmp_path: Path) -> None:
    write(context, BASE + "RUN echo begun; sleep 1000\n")
    child = ctk.popen("build", "-t", "it", "--verbose", str(context), stderr=subprocess.PIPE)
    assert child.stderr is not None
    while "begun" not in (line := child.stderr.readline()):
        assert line
    child.kill()
    child.wait()
    child.stderr.close()
    for one in json.loads(ctk("list", "--format", "json").ok().out):
        ctk("delete", "--force", one["id"]).ok()
    time.sleep(0.2)
    ctk("image", "prune").ok()
    assert os.listdir(tmp_path / "data/images/making") == os.listdir(tmp_path / "data/images/leases") == []
    assert ctk("image", "check").ok().out.startswith("no damage") or "unreferenced" in ctk("image", "check").out


def test_the_same_input_gives_the_same_image(ctk: Command, context: Path) -> None:
    write(context, BASE + "WORKDIR /srv\nCOPY src/ .\nRUN date > /dev/null; echo x > /x; mkdir /y\nENV a=b\n")
    ctk.environment["SOURCE_DATE_EPOCH"] = "1000000000"
    digests = []
    for _ in range(2):
        told = ctk("build", "--no-cache", "--json", str(context)).ok()
        digests.append(json.loads(told.out.splitlines()[-1])["result"]["digest"])
    assert digests[0] == digests[1]


def test_a_build_in_which_nothing_is_new_gives_the_same_image(ctk: Command, context: Path) -> None:
    text = BASE + "COPY src/ /srv\nENV a=b\nFROM base\nLABEL c=d\n"
    write(context, text)

    def digest(*words: str) -> str:
        began = int(time.time())
        until(lambda: time.time() >= began + 1, "another second")  # times in an image are whole seconds
        told = ctk("build", "-t", "it", "--json", *words, str(context)).ok()
        return str(json.loads(told.out.splitlines()[-1])["result"]["digest"])

    first = digest()
    whole: Any = config(ctk, "it")
    assert whole["created"] and {one["created"] for one in whole["config"]["history"]} == {whole["created"]}
    assert digest() == first
    assert len(ctk("images", "-q").ok().out.split()) == 1
    write(context, text.replace("c=d", "c=e"))
    assert digest() != first
    write(context, text)
    assert digest() == first
    assert digest("--no-cache") != first


def test_without_root(ctk: Command, context: Path, tmp_path: Path) -> None:
    write(context, BASE + "COPY --chown=5:6 src/a /a\nRUN id -u > /b; chown 7:8 /b\nUSER 5\nRUN id -u > /tmp/c\n")
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, ID, ID)
    subprocess.run(["chmod", "-R", "a+rX", context], check=True)
    script = (
        f"ctk build -t it {context} && ctk run --rm --image it c1"
        " && ctk image check && ls $CTK_DATA/images/making $CTK_DATA/images/leases"
    )
    write(context, (context / "Containerfile").read_text() + "CMD cat /a /b /tmp/c; stat -c %u:%g /a /b /tmp/c\n")
    kept = {key: value for key, value in ctk.environment.items() if not key.startswith(("CTK_", "XDG_"))}
    path = os.path.dirname(ctk.program) + ":/usr/bin:/bin:/usr/sbin:/sbin"
    told = subprocess.run(
        [*prefix(str(home), str(context)), "sh", "-c", script],
        cwd=home,
        env={**kept, "HOME": str(home), "PATH": path, "CTK_ROOT": f"{home}/run", "CTK_DATA": f"{home}/data",
             "CTK_CACHE": f"{home}/cache", "CTK_TEST_TAG": ctk.environment["CTK_TEST_TAG"]},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    found = told.stdout.splitlines()
    assert found[1:8] == ["a", "0", "5", "5:6", "7:8", "5:0", "no damage"], told.stdout
