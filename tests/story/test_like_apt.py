"""The packages that `--include` brings against those that apt would bring, over random lists (apt is the reference).

apt works in a folder of its own, on the same mirror and architecture: its status file says that the variant's own set
is installed, and `apt-get --simulate install` says what a list needs beyond it.
"""

import os
import random
import subprocess
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fixtures.command import tool
from tests.fixtures.debian import Mirror
from toolkit.bootstrap.facts.model import Lock, Request, Source
from toolkit.bootstrap.facts.pool import Pool
from toolkit.bootstrap.facts.suites import Suite
from toolkit.bootstrap.plan.load_sources import gather
from toolkit.bootstrap.resolve.resolve import resolve
from toolkit.deb.control import write
from toolkit.errors import Unsolvable
from toolkit.events import silent
from toolkit.fetch.cache import Cache
from toolkit.fetch.http import Client

pytestmark = pytest.mark.archive

SEED = int(os.environ.get("CTK_TEST_SEED", "20261125"))


class Apt:
    """apt-get with all its folders below `folder`."""

    def __init__(self, folder: Path, mirror: str, suites: tuple[str, ...], preferences: str = "") -> None:
        self.folder = folder
        for name in (
            "etc/apt/preferences.d",
            "var/lib/apt/lists/partial",
            "var/cache/apt/archives/partial",
            "var/lib/dpkg",
        ):
            (folder / name).mkdir(parents=True)
        lines = [f"deb [trusted=yes] {mirror} {suite} main\n" for suite in suites]
        (folder / "etc/apt/sources.list").write_text("".join(lines))
        (folder / "etc/apt/preferences").write_text(preferences)
        self.status = folder / "var/lib/dpkg/status"
        self.status.write_text("")
        # Read before any file of the host's (apt.conf(5)), which it names in their place.
        settings = {
            "Dir": f"{folder}/",
            "Dir::State::status": str(self.status),
            "Dir::Etc::main": "/dev/null",
            "Dir::Etc::parts": "/dev/null",
            "Dir::Etc::Trusted": "/dev/null",
            "Acquire::Languages": "none",
            "Acquire::Check-Valid-Until": "false",  # a mirror may be a snapshot; it is not what is tried here
            "APT::Architecture": "amd64",
            "APT::Architectures": "amd64",
            "APT::Sandbox::User": "root",
            "Debug::NoLocking": "true",
        }
        (folder / "apt.conf").write_text("".join(f'{key} "{value}";\n' for key, value in settings.items()))
        done = self.run("update")
        assert done.returncode == 0, done.stderr

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "LC_ALL": "C",
            "APT_CONFIG": str(self.folder / "apt.conf"),
        }
        argv = [tool("apt-get"), *words]
        return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=120)

    def install_status(self, lock: Lock) -> None:
        """Say that the packages of a lock are installed."""
        paragraphs = []
        for package in lock.packages:
            fields = {
                key: value for key, value in package.paragraph.items() if key not in ("Filename", "Size", "SHA256")
            }
            name = fields.pop("Package")
            paragraphs.append(write({"Package": name, "Status": "install ok installed", **fields}) + "\n")
        self.status.write_text("".join(paragraphs))

    def would_install(self, words: list[str], *, recommends: bool) -> dict[str, str] | None:
        """Name → version of what would be installed; None if apt says that it can't, or would remove something."""
        option = "--install-recommends" if recommends else "--no-install-recommends"
        done = self.run("--simulate", option, "install", *words)
        if done.returncode != 0 or "\nRemv " in done.stdout:
            return None
        lines = [line.split() for line in done.stdout.splitlines() if line.startswith("Inst ")]
        # Inst NAME [OLD] (NEW SUITE [ARCH])
        return {line[1]: next(word for word in line if word.startswith("("))[1:] for line in lines}


@dataclass
class Ready:
    """What is to be chosen from."""

    read: Pool
    suite: Suite
    sources: tuple[Source, ...]

    def pool(self) -> Pool:
        """One that no wish has touched."""
        return Pool(self.read.members, self.read.architecture, self.read.policy)


@dataclass
class Compared:
    same: int = 0
    refused: int = 0  # of them: by both
    different: list[str] | None = None

    def add(self, words: list[str], ours: dict[str, str] | None, apts: dict[str, str] | None) -> None:
        if ours == apts:
            self.same += 1
            self.refused += ours is None
            return
        more = sorted(set(ours or {}) - set(apts or {}))
        fewer = sorted(set(apts or {}) - set(ours or {}))
        verdict = (
            "refused" if ours is None else "apt refuses" if apts is None else f"only ours {more}, only apt's {fewer}"
        )
        self.different = [*(self.different or []), f"{' '.join(words)}: {verdict}"]


def compare(ready: Ready, apt: Apt, rounds: int, *, recommends: bool, lists: Iterable[list[str]] = ()) -> Compared:
    """The given lists, and random ones of one to six packages."""
    chance = random.Random(SEED)
    base = resolve(ready.pool(), ready.suite, ready.sources, variant="minbase")
    apt.install_status(base)
    present = {package.name for package in base.packages}
    names = sorted(set(ready.pool().names()) - present)
    asked = [*lists, *(chance.sample(names, chance.choice((1, 1, 2, 2, 3, 4, 6))) for _ in range(rounds))]
    found = Compared()
    with ThreadPoolExecutor(1) as beside:  # apt works on the next list while we are at this one
        answers = beside.map(lambda words: apt.would_install(words, recommends=recommends), asked)
        for words, apts in zip(asked, answers, strict=True):
            try:
                lock = resolve(
                    ready.pool(), ready.suite, ready.sources, variant="minbase", include=words, recommends=recommends
                )
            except Unsolvable:
                ours = None
            else:
                ours = {one.name: one.version for one in lock.packages if one.name not in present}
            found.add(words, ours, apts)
    return found


def ready_for(suite: str, mirror: Mirror, cache: str) -> Ready:
    request = Request(suite, "", variant="minbase", architecture="amd64", mirror=mirror.url, check_date=False)
    client = Client()
    try:
        gathered = gather(request, client, "amd64", silent)
        return Ready(gathered.read(client, Cache(cache), silent), gathered.suite, gathered.sources)
    finally:
        client.close()


@pytest.mark.parametrize(
    ("rounds", "recommends"),
    [
        pytest.param(6, False),
        pytest.param(300, False, marks=[pytest.mark.slow, pytest.mark.timeout(1500)]),
        pytest.param(100, True, marks=[pytest.mark.slow, pytest.mark.timeout(1500)]),
    ],
)
def test_the_set_is_apts(
    rounds: int, recommends: bool, tmp_path: Path, debian_mirror: Mirror, shared_cache: str
) -> None:
    apt = Apt(tmp_path / "apt", debian_mirror.url, ("bookworm",))
    ready = ready_for("bookworm", debian_mirror, shared_cache)
    found = compare(ready, apt, rounds, recommends=recommends)
    told = "\n".join(found.different or [])
    print(f"{found.same} of {rounds} as apt ({found.refused} refused by both), seed {SEED}\n{told}")
    # Where apt's own walk ends in a contradiction its problem resolver weighs packages up; ours searches.
    assert found.same >= rounds * 0.97, told


@pytest.mark.slow
@pytest.mark.parametrize("suite", ["bookworm", "trixie", "sid"])
@pytest.mark.parametrize("recommends", [False, True])
def test_what_people_ask_for_is_apts(
    suite: str, recommends: bool, tmp_path: Path, debian_mirror: Mirror, shared_cache: str
) -> None:
    """debootstrap's own answer differs: it takes `lsb-base` though sysvinit-utils, which is there, provides it."""
    lists = [
        ["curl", "nginx", "openssh-server"],
        ["systemd-sysv", "dbus", "python3", "git"],
        ["default-jre-headless", "procps", "vim-nox"],
    ]
    apt = Apt(tmp_path / "apt", debian_mirror.url, (suite,))
    found = compare(ready_for(suite, debian_mirror, shared_cache), apt, 0, recommends=recommends, lists=lists)
    assert (found.same, found.refused, found.different) == (len(lists), 0, None)
