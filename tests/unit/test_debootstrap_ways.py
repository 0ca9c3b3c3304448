"""debootstrap's words, its options and those of its kin, and when it can't be driven."""

import functools
import gzip
import re
from pathlib import Path

import pytest
import typer.main

from toolkit.bootstrap.acquire.deb_folder import deb_name
from toolkit.bootstrap.build import bootstrap
from toolkit.bootstrap.compat import engine_debootstrap
from toolkit.bootstrap.compat.debootstrap_progress import Messages, formatted
from toolkit.bootstrap.compat.first_stage import list_name
from toolkit.bootstrap.compat.foreign_options import INSTEAD, instead
from toolkit.bootstrap.compat.second_stage import second_stage
from toolkit.bootstrap.facts.hooks_config import Customisation
from toolkit.bootstrap.facts.model import Package, Request
from toolkit.bootstrap.plan.plan_build import understood
from toolkit.cli.with_typer import application
from toolkit.errors import HostLacks, NotFound, Usage
from toolkit.events import Event, Finished, Line, Note, Progressed, Started, silent

# What `man debootstrap` (1.0.128 and 1.0.141), `man mmdebstrap` (1.3.5) and `man cdebootstrap` (0.7.8) list.
DEBOOTSTRAP = """
--arch --include --exclude --extra-suites --components --no-resolve-deps --log-extra-deps --variant --merged-usr
--no-merged-usr --keyring --no-check-gpg --no-check-sig --force-check-gpg --force-check-sig --verbose --print-debs
--download-only --foreign --second-stage --second-stage-target --keep-debootstrap-dir --cache-dir --unpack-tarball
--make-tarball --debian-installer --extractor
--no-check-certificate --certificate --private-key --inrelease-path --help --version
""".split()
MMDEBSTRAP = """
--help --man --version --variant --mode --format --aptopt --keyring --dpkgopt --include --components --architectures
--simulate --dry-run --setup-hook --extract-hook --essential-hook --customize-hook --hook-directory --skip --quiet
--silent --verbose --debug --logfile
""".split()
CDEBOOTSTRAP = """
--allow-unauthenticated --arch --configdir --debug --download-only --exclude --foreign --flavour --keyring --helperdir
--include --quiet --suite-config --verbose --help --version
""".split()


@functools.cache
def taken() -> set[str]:
    """The options that `ctk bootstrap` has."""
    command = typer.main.get_command(application()).commands["bootstrap"]  # type: ignore[attr-defined]
    return {"--help"} | {name for one in command.params for name in (*one.opts, *one.secondary_opts)}


@pytest.mark.parametrize("option", sorted({*DEBOOTSTRAP, *MMDEBSTRAP, *CDEBOOTSTRAP}))
def test_every_option_of_a_peer_is_taken_or_told_about(option: str) -> None:
    assert option in taken() or instead(option), f"{option} is neither an option of ctk nor explained"
    if option not in taken():
        assert "{" not in instead(option)


def test_the_list_is_that_of_the_manual_page() -> None:
    page = Path("/usr/share/man/man8/debootstrap.8.gz")
    if not page.exists():
        pytest.skip("debootstrap's manual page is not installed")
    text = re.sub(r"\\f[A-Z]", "", gzip.decompress(page.read_bytes()).decode(errors="replace")).replace("\\", "")
    found = set(re.findall(r'^(?:\.IP "?|.B)(?:[^\n]*?)(--[a-z][a-z-]+)', text, re.MULTILINE))
    assert len(found) > 20 and not {one for one in found if one not in taken() and one not in INSTEAD}


# --- debootstrap's messages


def test_its_messages_become_stages_and_progress() -> None:
    events: list[Event] = []
    messages = Messages(events.append)
    for line in (
        "I: RETRIEVING", "IA: InRelease", "IA: ", "IF: Retrieving %s %s",
        "P: 0 100 DOWNREL", "PF: Downloading Release file",
        "I: VALIDRELSIG", "IA: 123ABC", "IF: Valid Release signature (key id %s)",
        "P: 0 1 DOWNPKGS",
        "I: RESOLVEBASE", "IF: Resolving dependencies of base packages...",
        "P: 0 1 DOWNPKGS",
        "P: 0 3000 DOWNDEBS", "PF: Downloading packages", "P: 1500 3000",
        "W: CORRUPTFILE", "WA: /x", "WF: %s was corrupt",
        "P: 3 88 EXTRACTPKGS", "I: EXTRACTING", "IA: dpkg", "IF: Extracting %s...",
        "I: CONFBASE", "IF: Configuring the base system...",
    ):  # fmt: skip
        messages.line(line)
    messages.finish()
    stages = ["release", "index", "resolve", "download", "unpack", "configure"]
    assert [one.stage for one in events if isinstance(one, Started)] == stages
    assert [one.stage for one in events if isinstance(one, Finished)] == stages
    assert Progressed("download", 1500, 3000, "bytes") in events and Progressed("unpack", 3, 88, "packages") in events
    assert (
        Line("unpack", "Extracting dpkg...") in events and Note("debootstrap: /x was corrupt", warning=True) in events
    )
    assert messages.error == ""


def test_its_error_is_kept() -> None:
    messages = Messages(silent)
    for line in ("E: NOSCRIPT", "EA: /no/such", "EF: No such script: %s"):
        messages.line(line)
    assert messages.error == "No such script: /no/such"


def test_only_what_printf_is_given_is_replaced() -> None:
    assert formatted("%s of %s, 5%%", ["a"]) == "a of , 5%"


# --- names, and what can't be


def test_names_are_debootstraps() -> None:
    package = Package("passwd", "1:4.13+dfsg1-1", "amd64", "", 0, "", 0, {})
    assert deb_name(package) == "passwd_1%3a4.13+dfsg1-1_amd64.deb"
    name = "127.0.0.1:80_debian_dists_sid_main_binary-arm64_Packages"
    assert list_name("http://127.0.0.1:80/debian/", "sid", "arm64") == name


@pytest.mark.root
@pytest.mark.parametrize(
    ("request_", "error", "words"),
    [
        (Request("bookworm", "x", engine="other"), Usage, "no engine"),
        (Request("bookworm", "x", script="sid"), Usage, "debootstrap's"),
        (Request("", "x"), Usage, "no SUITE"),
        (Request("bookworm", "x", variant="extract", foreign=True), Usage, "no second stage"),
        (Request("bookworm", "x", foreign=True, custom=Customisation(users=("d",))), Usage, "nothing runs"),
        (Request("host", "x", custom=Customisation(hostname="h")), Usage, "not customised"),
        (Request("bookworm", "x", engine="debootstrap", variant="apt"), Usage, "no variant 'apt'"),
        (Request("bookworm", "x", engine="debootstrap", script="nope"), NotFound, "script 'nope'"),
        (
            Request("bookworm", "x", engine="debootstrap", custom=Customisation(extract_hooks=("true",))),
            Usage,
            "interrupted for an extract",
        ),
    ],
)
def test_what_cannot_be_is_told_first(
    request_: Request, error: type[Exception], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(engine_debootstrap, "_program", lambda: "/usr/sbin/debootstrap")
    with pytest.raises(error, match=re.escape(words)):
        bootstrap(request_, silent)
    assert not (tmp_path / "x").exists()


@pytest.mark.root
def test_without_debootstrap_or_its_script_there_is_a_hint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_debootstrap, "_PATH", str(tmp_path))
    with pytest.raises(HostLacks, match="not installed") as caught:
        engine_debootstrap.check(Request("bookworm", "x", engine="debootstrap"))
    assert "apt install debootstrap" in caught.value.hint
    monkeypatch.setattr(engine_debootstrap, "_program", lambda: "debootstrap")
    monkeypatch.setattr(engine_debootstrap, "_SCRIPTS", str(tmp_path))
    with pytest.raises(NotFound, match="script for 'bookworm'") as missing:
        engine_debootstrap.check(Request("bookworm", "x", engine="debootstrap"))
    assert "sid" in missing.value.hint
    (tmp_path / "bookworm").write_text("")
    engine_debootstrap.check(Request("12", "x", engine="debootstrap"))


def test_a_tree_without_a_first_stage_has_no_second(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no /debootstrap/suite") as caught:
        second_stage(Request("", str(tmp_path)), silent)
    assert "--foreign" in caught.value.hint


def test_fakechroots_use_case_is_the_default_variant_without_it() -> None:
    events: list[Event] = []
    assert understood(Request("bookworm", "x", variant="fakechroot"), events.append).variant == "-"
    assert "fakechroot" in str(events)
    asked = Request("bookworm", "x", variant="minbase")
    assert understood(asked, events.append) is asked and len(events) == 1
