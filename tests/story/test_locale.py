"""config.json is UTF-8 by its standard, file names are bytes: the locale of the caller changes nothing."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.command import Bundle, Command, tool


@pytest.fixture(scope="module")
def latin1(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of somebody whose locale is ISO-8859-1 (locale(7), LOCPATH)."""
    folder = tmp_path_factory.mktemp("locales")
    made = subprocess.run(
        [tool("localedef"), "-i", "en_US", "-f", "ISO-8859-1", "--no-archive", str(folder / "en_US")],
        capture_output=True,
        text=True,
    )
    assert (folder / "en_US/LC_CTYPE").exists(), made.stderr
    yield {"LC_ALL": "en_US", "LOCPATH": str(folder), "PYTHONUTF8": "0"}


def test_letters_of_a_container_and_of_a_build_are_the_same_in_any_locale(
    ctk: Command, busybox_bundle: Bundle, tmp_path: Path, latin1: dict[str, str]
) -> None:
    busybox_bundle.args("/bin/sh", "-c", "pwd; echo $1", "sh", "あ").edit(
        lambda config: config["process"].update(cwd="/tmp/é")
    )
    done = ctk("run", "--bundle", str(busybox_bundle), ctk.id(), env=latin1).ok()
    assert done.out == "/tmp/é\nあ\n"
    assert os.listdir(os.fsencode(busybox_bundle.rootfs / "tmp")) == ["é".encode()]
    ctk("bootstrap", "host", str(tmp_path / "é 日"), env=latin1).ok()
    assert (tmp_path / "é 日/bin/sh").exists()
