"""The man pages in docs/man are what scripts/manpages makes of today's tables."""

import runpy
from pathlib import Path

TOP = Path(__file__).parents[2]


def test_they_are_up_to_date() -> None:
    wanted: dict[str, str] = runpy.run_path(str(TOP / "scripts/manpages"))["pages"]()
    written = {path.name: path.read_text() for path in (TOP / "docs/man").glob("*.1")}
    assert sorted(written) == sorted(wanted), "run scripts/manpages"
    stale = [name for name, text in wanted.items() if written[name] != text]
    assert not stale, "run scripts/manpages"


def test_each_has_a_name_and_a_way_to_type_it() -> None:
    for path in (TOP / "docs/man").glob("*.1"):
        text = path.read_text()
        assert text.startswith(".TH CTK") and ".SH NAME\n" in text and ".SH SYNOPSIS\n.B ctk" in text, path.name
        assert text.isascii(), path.name
