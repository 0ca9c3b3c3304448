"""The distribution's name is ours: on the public index `ctk` is a stranger's, whose code a wrong hint would fetch."""

import re
import tomllib
from pathlib import Path

TOP = Path(__file__).parents[2]
NAME = "ctk-oci"
# An installer's word, and among those that follow it `ctk` as a requirement: not a path (./ctk) or another name.
STRANGER = re.compile(
    r"\b(?:(?:pip3?|pipx|uv|uv tool|poetry|pdm|conda)\b.*? (?:install|add|inject|download|run|wheel)|uvx)\b"
    r"(?:\s+[^\s,;()&|]+)*?\s+['\"`]?ctk(?=[\s'\"`\[=<>~!,;)]|$)"
)


def wrong(text: str) -> list[str]:
    return [line for line in text.splitlines() if STRANGER.search(line)]


def test_no_text_of_ours_installs_the_strangers_distribution() -> None:
    assert (
        wrong("pip install 'ctk[sbom]'") and wrong("$ uv tool install ctk") and wrong("python -m pip install -U ctk==1")
    )
    assert not wrong("pip install 'ctk-oci[sbom]'") and not wrong("pip install . && ln -s .venv/bin/ctk /usr/bin/ctk")
    files = [TOP / "README.md", TOP / "pyproject.toml"]  # the changelog tells what once was
    for folder in ("docs", "toolkit", "recipes", "scripts", ".ci", "vendor"):
        files += [
            path for path in (TOP / folder).rglob("*") if path.is_file() and path.suffix not in (".pyc", ".gpg", ".bin")
        ]
    assert len(files) > 300
    found = {str(path.relative_to(TOP)): lines for path in files if (lines := wrong(path.read_text(errors="replace")))}
    assert not found


def test_the_name_is_one_everywhere() -> None:
    project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    assert project["name"] == NAME
    module = NAME.replace("-", "_")
    assert (
        f"/_editable_impl_{module}.pth" in (TOP / "scripts/launcher/launch.py").read_text()
    )  # hatchling's name for an editable install
    extras = set(project["optional-dependencies"])
    hints = re.findall(r"ctk-oci\[(\w+)\]", (TOP / "toolkit/bootstrap/output/sbom.py").read_text())
    assert hints and set(hints) <= extras
