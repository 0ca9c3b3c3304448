"""Text that acts: what a container or a caller chose, on a terminal (s49) and in a systemd unit (s50)."""

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fixtures.command import Bundle, Command
from tests.fixtures.waiting import text_of, until
from toolkit.runtime.comfort import unit

EVIL = "\x1b[31m\x1b]0;t\x07\x7f\u009b\u202e\n"
ACTS = set("\x1b\x07\x7f\u009b\u202e")


@pytest.mark.root
def test_s49_names_that_a_container_chose_do_nothing_to_a_terminal(ctk: Command, busybox_bundle: Bundle) -> None:
    moved = busybox_bundle.path.with_name("b" + EVIL.strip() + "x")
    busybox_bundle.path.rename(moved)
    bundle = Bundle(moved)
    bundle.args("/bin/sh", "-c", 'printf "\\033[31mX\\007" > /proc/$$/comm; while :; do sleep 9; done', EVIL)
    bundle.edit(lambda c: c.update(annotations={"x" + EVIL: EVIL}, hostname=EVIL.strip()[:9]))
    bundle.edit(lambda c: c["mounts"].append({"destination": "/tmp/" + EVIL, "type": "tmpfs", "source": EVIL}))
    name = ctk.id()
    ctk("run", "-d", "--bundle", str(moved), name).ok()
    pid = ctk("state", name).json()["pid"]
    until(lambda: "X" in text_of(f"/proc/{pid}/comm"), "its name")
    for words in (
        ["top", "--no-stream", name], ["inspect", name], ["inspect", "--json", name], ["ps", name], ["list"],
        ["list", "-f", "json"], ["state", name], ["diff", name], ["gc", "--dry-run", str(moved)],
        ["check", str(moved)], ["explain", str(moved)], ["exec", name, "no" + EVIL], ["stop", name], ["delete", name],
    ):  # fmt: skip
        done = ctk(*words)
        assert not ACTS & set(done.out + done.err), words
        assert done.out or done.err or words[0] in ("delete",), words
        if words[0] == "stop":
            assert "(\\x1b[31mX\\x07) has no handler for SIGTERM" in done.err


def read_as_systemd(line: str) -> list[str]:
    """The words of a unit's line, by an independent reading of systemd.syntax(7): quotes, C's escapes, %% and $$."""
    code = (
        "import sys, shlex, re\n"
        'for w in re.findall(r\'"(?:[^"\\\\]|\\\\.)*"|\\S+\', sys.stdin.read()):\n'
        "    w = w[1:-1] if w[0] == '\"' else w\n"
        "    w = w.encode('utf-8', 'surrogateescape').decode('latin-1')\n"
        "    w = re.sub(r'\\\\(x..|.)', lambda m: chr(int(m[1][1:], 16)) if m[1][0] == 'x' else m[1], w)\n"
        "    sys.stdout.buffer.write(w.encode('latin-1') + b'\\0')\n"
    )
    raw = subprocess.run([sys.executable, "-c", code], input=line.encode(), capture_output=True, check=True).stdout
    return [word.decode("utf-8", "surrogateescape") for word in raw.split(b"\0")[:-1]]


def test_s50_every_word_of_a_unit_stays_one_word() -> None:
    texts = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=12)
    seen: list[list[str]] = []

    @settings(database=None)
    @given(st.lists(texts, min_size=1, max_size=4))
    def told(words: list[str]) -> None:
        line = unit._line(["/bin/x", *words])
        assert line.isprintable(), line
        assert not line.replace("%%", "").count("%") and not line.replace("$$", "").count("$")
        seen.append(words)

    told()
    seen += [["a\nExecStartPre=/bin/false"], ["%h", "$HOME", "\\", 'a"b', "", ";", "#", "\udcff", "\u2028"]]
    lines = " ".join(unit._line(["/bin/x", *words]) for words in seen)
    plain = lines.replace("%%", "%").replace("$$", "$")
    assert read_as_systemd(plain) == [word for words in seen for word in ("/bin/x", *words)]


@pytest.mark.root
def test_s50_a_bundles_name_adds_no_line_to_a_unit(ctk: Command, busybox_bundle: Bundle) -> None:
    moved = busybox_bundle.path.with_name("b\nExecStartPre=true\n%h $x")
    busybox_bundle.path.rename(moved)
    name = ctk.id()
    ctk("create", "--bundle", str(moved), name).ok()
    text = ctk("generate", "systemd", name).ok().out
    ctk("delete", "--force", name).ok()
    keys = [line.partition("=")[0] for line in text.splitlines() if "=" in line and not line.startswith("#")]
    assert "ExecStartPre" not in keys and "RequiresMountsFor" not in keys
    (start,) = (line for line in text.splitlines() if line.startswith("ExecStart="))
    words = read_as_systemd(start.partition("=")[2].replace("%%", "%").replace("$$", "$"))
    assert f"--bundle={moved}" in words
