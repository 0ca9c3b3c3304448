"""The suite table is complete and says what debootstrap's scripts say; mirrors are chosen in the promised order."""

import hashlib
from pathlib import Path

import pytest

from toolkit import places
from toolkit.bootstrap.acquire import mirrors
from toolkit.bootstrap.facts.suites import DEBIAN, SUITES, UBUNTU, for_release, lookup, mirror_inside
from toolkit.errors import NotFound

TOP = Path(__file__).parents[2]
KEYRINGS = TOP / "vendor" / "keyrings"
TODAY = "2026-11-24"


def names(distribution: object) -> list[str]:
    return [suite.codename for suite in SUITES.values() if suite.distribution is distribution]


def test_every_release_is_there() -> None:
    debian = names(DEBIAN)
    assert debian[debian.index("buster") :] == ("buster bullseye bookworm trixie forky duke sid experimental".split())
    ubuntu = names(UBUNTU)
    # One release every April and October since 2004, and 6.06 for 6.04: none is missing.
    versions = [SUITES[name].version for name in ubuntu]
    expected = [f"{year}.{month}" for year in range(4, 28) for month in ("04", "10")]
    expected = [{"6.04": "6.06"}.get(one, one) for one in expected if one != "4.04"]
    assert versions == expected[: len(versions)] and len(versions) >= 46
    assert {"trusty", "xenial", "bionic", "focal", "jammy", "noble", "resolute"} <= set(ubuntu)


@pytest.mark.parametrize("suite", SUITES.values(), ids=lambda suite: suite.codename)
def test_every_row_is_whole(suite: object) -> None:
    from toolkit.bootstrap.facts.suites import Suite

    assert isinstance(suite, Suite) and suite.distribution is not None
    assert suite.name == suite.codename and suite.keyrings
    for keyring in suite.keyrings:
        assert (KEYRINGS / keyring).is_file()
    assert suite.over == "" or (len(suite.over) == 10 and suite.over[4] == "-")
    if suite.version:
        assert "updates" in dict(suite.pockets) and "security" in dict(suite.pockets)
        assert lookup(suite.version).codename == suite.codename


@pytest.mark.parametrize(
    ("name", "codename", "folder"),
    [
        ("bookworm", "bookworm", "bookworm"),
        ("Bookworm", "bookworm", "bookworm"),
        ("12", "bookworm", "bookworm"),
        ("12.11", "bookworm", "bookworm"),
        ("debian:13", "trixie", "trixie"),
        ("stable", "trixie", "stable"),
        ("unstable", "sid", "unstable"),
        ("22.04", "jammy", "jammy"),
        ("24.04 LTS", "noble", "noble"),
        ("26.04", "resolute", "resolute"),
        ("rc-buggy", "experimental", "experimental"),
    ],
)
def test_names(name: str, codename: str, folder: str) -> None:
    suite = lookup(name)
    assert (suite.codename, suite.name) == (codename, folder)


def test_a_wrong_name_gets_near_ones() -> None:
    with pytest.raises(NotFound, match="did you mean 'bookworm'"):
        lookup("bookwrom")
    with pytest.raises(NotFound) as caught:
        lookup("22.05")
    assert "--mirror" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "because", "hint"),
    [
        ("debian", "'debian' is the distribution", "stable, trixie, bookworm"),
        ("Ubuntu", "'ubuntu' is the distribution", "noble, jammy"),
        ("debian:latest", "'debian' is the distribution, and 'latest' is not one of its suites", "stable"),
    ],
)
def test_a_distribution_is_no_suite(name: str, because: str, hint: str) -> None:
    with pytest.raises(NotFound) as caught:
        lookup(name)
    assert caught.value.because == because and hint in caught.value.hint
    assert all(lookup(one) for one in caught.value.hint.partition(": ")[2].split(", "))


def test_merged_usr_as_in_debootstraps_scripts() -> None:
    def merged(name: str) -> tuple[bool, bool]:
        suite = lookup(name)
        return suite.merges_usr("-"), suite.merges_usr("buildd")

    assert merged("stretch") == (False, False)
    assert merged("buster") == merged("bookworm") == (True, False)
    assert merged("trixie") == merged("sid") == (True, True)
    assert merged("bionic") == merged("cosmic") == (False, False)
    assert merged("focal") == (True, True) and merged("hirsute") == (True, False)
    assert merged("jammy") == merged("resolute") == (True, True)


def test_what_sources_list_names() -> None:
    assert mirror_inside("http://near.example/debian", "debian", "amd64") == "http://near.example/debian"
    assert mirror_inside("/srv/mirror", "debian", "arm64") == DEBIAN.mirror
    assert mirror_inside("file:///srv/mirror", "ubuntu", "amd64") == UBUNTU.mirror
    assert mirror_inside("file:///srv/mirror", "ubuntu", "arm64") == UBUNTU.ports_mirror
    assert mirror_inside("/srv/mirror", "kali", "amd64") == "/srv/mirror"


def test_usrmerge_packages_as_in_debootstraps_scripts() -> None:
    assert lookup("bookworm").packages == ("usr-is-merged",)
    assert lookup("trixie").packages == lookup("bullseye").packages == lookup("jammy").packages == ()
    assert lookup("trixie").ignored_dependencies == lookup("bookworm").ignored_dependencies == ("usrmerge",)
    assert lookup("bullseye").ignored_dependencies == lookup("jammy").ignored_dependencies == ()


def test_an_alias_is_what_the_signed_release_says() -> None:
    asked = lookup("stable")
    moved = for_release(asked, "forky", "Debian")
    assert (moved.codename, moved.name) == ("forky", "stable")
    newer = for_release(asked, "zurg", "Debian")
    assert (newer.codename, newer.name, newer.merges_usr("buildd")) == ("zurg", "stable", True)
    assert newer.ignored_dependencies == ("usrmerge",)


def test_origin_names_every_keyring_and_its_hash() -> None:
    rows = [
        line.split()
        for line in (KEYRINGS / "ORIGIN").read_text().splitlines()
        if line.strip() and not line.startswith("#")
    ]
    files = {path.name for path in KEYRINGS.iterdir() if path.name != "ORIGIN"}
    assert {row[0] for row in rows} == files
    for name, package, version, path, licence, digest in rows:
        assert hashlib.sha256((KEYRINGS / name).read_bytes()).hexdigest() == digest
        assert package and version and path.endswith(name) and licence
    assert Path(places.shipped("keyrings")) == KEYRINGS


# Mirrors


def host(root: Path, identity: str = "debian", like: str = "") -> Path:
    (root / "etc/apt/sources.list.d").mkdir(parents=True)
    (root / "etc/apt/apt.conf.d").mkdir()
    (root / "etc/os-release").write_text(f'NAME="x"\nID={identity}\nID_LIKE="{like}"\n')
    return root


def chosen(root: Path, suite: str, architecture: str = "amd64", given: str = "", today: str = TODAY) -> list[str]:
    found = mirrors.choose(lookup(suite), architecture, given, today=today, root=str(root))
    return [choice.mirror for choice in found]


@pytest.fixture(autouse=True)
def no_mirror_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CTK_MIRROR", raising=False)


def test_the_argument_comes_first_then_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = host(tmp_path)
    (root / "etc/apt/sources.list").write_text("deb http://near.example/debian bookworm main\n")
    monkeypatch.setenv("CTK_MIRROR", "http://env.example/debian/")
    assert chosen(root, "trixie", given="http://arg.example/debian/") == ["http://arg.example/debian"]
    assert chosen(root, "trixie") == ["http://env.example/debian"]


def test_the_hosts_sources_of_both_forms(tmp_path: Path) -> None:
    root = host(tmp_path)
    (root / "etc/apt/sources.list").write_text(
        "# deb http://comment.example/debian bookworm main\n"
        "deb-src http://source.example/debian bookworm main\n"
        "deb [arch=amd64 signed-by=/x] http://one.example/debian/ bookworm main contrib # near\n"
        "deb http://one.example/debian bookworm-updates main\n"
        "deb http://security.example/debian-security bookworm-security main\n"
        "deb http://other.example/docker bookworm stable\n"
    )
    (root / "etc/apt/sources.list.d/two.sources").write_text(
        "Types: deb deb-src\nURIs: http://two.example/debian\nSuites: stable\nComponents: main\n\n"
        "Types: deb\nEnabled: no\nURIs: http://off.example/debian\nSuites: bookworm\nComponents: main\n"
    )
    (root / "etc/apt/sources.list.d/broken.sources").write_text("this is\nnot: deb822\n: x\n")
    assert chosen(root, "sid") == [
        "http://one.example/debian",
        "http://two.example/debian",
        DEBIAN.mirror,
        DEBIAN.archive_mirror,
    ]


def test_another_distributions_host_is_not_asked(tmp_path: Path) -> None:
    root = host(tmp_path)
    (root / "etc/apt/sources.list").write_text("deb http://near.example/debian bookworm main\n")
    assert chosen(root, "jammy") == [UBUNTU.mirror, UBUNTU.archive_mirror]
    mint = host(tmp_path / "mint", "linuxmint", "ubuntu debian")
    (mint / "etc/apt/sources.list").write_text("deb http://near.example/ubuntu noble main\n")
    assert chosen(mint, "jammy")[0] == "http://near.example/ubuntu"


def test_a_ports_hosts_sources_serve_its_own_architecture(tmp_path: Path) -> None:
    root = host(tmp_path, "ubuntu", "debian")
    (root / "etc/apt/sources.list").write_text("deb http://near.example/ubuntu-ports noble main universe\n")

    def first(architecture: str, *, native: bool) -> str:
        return mirrors.choose(lookup("noble"), architecture, "", today=TODAY, native=native, root=str(root))[0].mirror

    assert first("arm64", native=True) == "http://near.example/ubuntu-ports"
    assert first("amd64", native=False) == UBUNTU.mirror


def test_ports_and_archived_suites(tmp_path: Path) -> None:
    root = host(tmp_path, "arch")
    assert chosen(root, "jammy", "arm64")[0] == UBUNTU.ports_mirror
    assert chosen(root, "stretch")[0] == DEBIAN.archive_mirror
    assert chosen(root, "mantic")[0] == UBUNTU.archive_mirror
    assert chosen(root, "mantic", today="2023-12-01")[0] == UBUNTU.mirror


def test_the_hosts_rule_on_dates_goes_with_its_mirror(tmp_path: Path) -> None:
    root = host(tmp_path)
    (root / "etc/apt/sources.list").write_text("deb http://near.example/debian bookworm main\n")
    (root / "etc/apt/apt.conf.d/10snapshot").write_text('Acquire::Check-Valid-Until "false";\n')

    def unchecked(given: str = "") -> list[bool]:
        found = mirrors.choose(lookup("sid"), "amd64", given, today=TODAY, root=str(root))
        return [choice.dates_unchecked for choice in found]

    assert unchecked() == [True, False, False]
    assert unchecked("http://near.example/debian/") == [True]
    assert unchecked("http://elsewhere.example/debian") == [False]
    (root / "etc/apt/apt.conf.d/20back").write_text('// Check-Valid-Until "false";\nAcquire::Check-Valid-Until "1";\n')
    assert unchecked()[0] is False
    (root / "etc/apt/sources.list").write_text("deb [check-valid-until=no] http://near.example/debian bookworm main\n")
    assert unchecked()[0] is True
