"""The papers keep up with the house: the map, the decisions, the programs' help."""

import re
import subprocess
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
PROGRAMS = [
    path for path in sorted((TOP / "scripts").iterdir()) if path.is_file() and path.name != "ctk" and not path.suffix
]


def test_every_folder_is_on_the_map() -> None:
    text = (TOP / "docs/MAP.md").read_text()
    folders = {
        str(path.parent.relative_to(TOP / "toolkit"))
        for path in (TOP / "toolkit").rglob("*.py")
        if "__pycache__" not in path.parts
    } - {"."}
    missing = sorted(folder for folder in folders if f"{folder.rpartition('/')[2]}/" not in text)
    assert not missing, f"not on docs/MAP.md: {missing}"


def test_the_map_names_no_room_that_is_gone() -> None:
    text = (TOP / "docs/MAP.md").read_text()
    named = set(re.findall(r"`(toolkit/[\w/.]+|scripts/[\w-]+|tests/[\w/.]+|docs/[\w/.-]+)`", text))
    gone = sorted(name for name in named if not (TOP / name).exists())
    assert not gone


def test_the_map_names_no_module_that_is_gone() -> None:
    rows = re.findall(r"^\| `((?:toolkit/)?[\w/]+/)` \|(.*)$", (TOP / "docs/MAP.md").read_text(), re.MULTILINE)
    assert len(rows) > 25
    rooms = [(TOP / (room if room.startswith("toolkit/") else f"toolkit/bootstrap/{room}"), row) for room, row in rows]
    gone = [f"{room}: {name}" for room, row in rooms for name in re.findall(r"`(\w+\.py)`", row)
            if not (room / name).exists()]  # fmt: skip
    assert not gone


def test_decisions_are_numbered_and_say_their_price() -> None:
    papers = sorted((TOP / "docs/decisions").glob("*.md"))
    numbers = [path.name[:4] for path in papers]
    assert len(set(numbers)) == len(numbers), numbers
    for path in papers:
        assert re.fullmatch(r"\d{4}-[a-z0-9-]+\.md", path.name), path.name
        assert path.read_text().startswith("# "), path.name


def test_links_between_papers_hold() -> None:
    broken = []
    for path in [TOP / "README.md", TOP / "CHANGELOG.md", *(TOP / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text()):
            if "://" not in target and not (path.parent / target).exists():
                broken.append(f"{path.relative_to(TOP)}: {target}")
    assert not broken


def test_quirks_that_the_code_cites_are_written_down() -> None:
    known = set(numbers := re.findall(r"^##+ (\d+)\b", (TOP / "docs/quirks.md").read_text(), re.MULTILINE))
    assert len(numbers) == len(known), "two quirks have one number"
    cited = {
        number for path in (TOP / "toolkit").rglob("*.py") for number in re.findall(r"\bquirk (\d+)", path.read_text())
    }
    assert cited <= known, sorted(cited - known)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.name)
def test_every_program_answers_help(program: Path) -> None:
    done = subprocess.run([program, "--help"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and len(done.stdout.splitlines()) >= 3, done.stderr
