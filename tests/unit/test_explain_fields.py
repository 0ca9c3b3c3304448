"""The dictionary: every field of the schema has words of its own, every path leads to one, a wrong one to a hint."""

import io
import json
from pathlib import Path
from typing import Any

import pytest

from toolkit.errors import NotFound
from toolkit.explain import fields, fields_limits, fields_linux, fields_process, topics, words
from toolkit.oci import check, check_linux, check_process
from toolkit.oci.defaults import default_spec
from toolkit.ui import dictionary

PATHS = sorted(path for path, _ in fields.paths())
ENTRIES = {**fields_process.FIELDS, **fields_linux.FIELDS, **fields_limits.FIELDS}


def test_the_schema_is_walked_as_a_whole() -> None:
    assert len(PATHS) > 200
    for path in ("ociVersion", "hooks.poststop[].timeout", "linux.timeOffsets{}.secs", "linux.resources.unified"):
        assert path in PATHS


def test_every_field_is_told() -> None:
    for path in PATHS:
        told = fields.field(path)
        assert told.path == path
        assert told.words.endswith((".", ".)")), path
        assert told.kernel.endswith((".", ".)")), path
        json.loads(told.example)
        for word in told.manual.split(", ") if told.manual else ():
            assert word.endswith(")") and word[-2].isdigit(), path
        page = io.StringIO()
        dictionary.show_field(told, "", page)
        assert told.words in page.getvalue() and told.example in page.getvalue(), path


def test_no_entry_is_for_a_field_that_is_gone() -> None:
    reached = {id(fields.entry(path)) for path in PATHS}
    assert [path for path, told in ENTRIES.items() if id(told) not in reached] == []


def test_the_examples_have_the_right_types() -> None:
    for path in PATHS:
        if "[]" in path or "{}" in path:
            continue
        spec: dict[str, Any] = {}
        at = spec
        *above, last = path.split(".")
        for name in above:
            at = at.setdefault(name, {})
        at[last] = json.loads(fields.field(path).example)
        found = [finding for finding in check.findings({**default_spec(), **spec}) if finding.code in ("E101", "E102")]
        assert found == [], path
        assert check.unknown_fields(spec) == [], path


@pytest.mark.parametrize(
    ("word", "path"),
    [
        ("mounts", "mounts"),
        ("MOUNTS", "mounts"),
        ("mounts[1].options", "mounts[].options"),
        ("mounts.options", "mounts[].options"),
        ("namespaces", "linux.namespaces"),
        ("capabilities", "process.capabilities"),
        ("args", "process.args"),
        ("linux.sysctl.net.ipv4.ip_forward", "linux.sysctl"),
        ("linux.sysctl['net.ipv4.ip_forward']", "linux.sysctl"),
        ("linux.timeOffsets.boottime.secs", "linux.timeOffsets{}.secs"),
        ("annotations.org.example", "annotations"),
        ("memory.limit", "linux.resources.memory.limit"),
    ],
)
def test_words_that_mean_a_field(word: str, path: str) -> None:
    assert fields.find(word) == path


@pytest.mark.parametrize(
    ("word", "hint"),
    [("mount", "did you mean 'mounts'?"), ("namespacs", "did you mean"), ("rate", "throttleReadBpsDevice.rate or")],
)
def test_words_that_mean_none(word: str, hint: str) -> None:
    with pytest.raises(NotFound) as error:
        fields.find(word)
    assert hint in error.value.hint


def test_what_a_document_says() -> None:
    spec = default_spec()
    assert fields.field("mounts[1].type", spec).says == (("mounts[1].type", "tmpfs"),)
    assert fields.field("mounts[0]", spec).says == (("mounts[0]", spec["mounts"][0]),)
    assert len(fields.field("mounts.type", spec).says) == len(spec["mounts"])
    assert fields.field("linux.seccomp", spec).says == ()
    spec["linux"]["timeOffsets"] = {"boottime": {"secs": 5}}
    assert fields.field("linux.timeOffsets.boottime.secs", spec).says == (('linux.timeOffsets["boottime"].secs', 5),)
    page = io.StringIO()
    dictionary.show_field(fields.field("hostname", spec), "b/config.json", page)
    assert 'b/config.json\n  hostname = "runc"\n' in page.getvalue()


def test_capabilities_and_namespaces_have_words(tmp_path: Path) -> None:
    assert tuple(words.CAPABILITIES) == check_process.CAPABILITIES
    assert sorted(words.NAMESPACES) == sorted(check_linux.NAMESPACES)
    (tmp_path / "config.json").write_text(json.dumps(default_spec()))
    for text, name, says in (
        ("cap_kill", "CAP_KILL", "has it in bounding, effective, permitted, ambient."),
        ("CAP_SYS_ADMIN", "CAP_SYS_ADMIN", "does not give it."),
        ("pidns", "pid", "This config.json: a new one."),
        ("user namespace", "user", "This config.json: the host's."),
        ("netns", "network", "This config.json: a new one."),
    ):
        assert topics.kind_of(text) == "word"
        assert topics.word(text, str(tmp_path))[0] == name
        assert topics.word(text, str(tmp_path))[1][1].endswith(says)
    with pytest.raises(NotFound) as error:
        topics.field("CAP_SYS_ADMN", "")
    assert error.value.hint == "did you mean CAP_SYS_ADMIN?"
    for text in ("user", "network", "capabilities", "namespaces", "mounts"):
        assert topics.kind_of(text) == "field", text


def test_every_code_of_the_registries_standard_has_words() -> None:
    """Those of the table "Error Codes", code-1 to code-14; a code's case does not matter."""
    standard = """
        BLOB_UNKNOWN BLOB_UPLOAD_INVALID BLOB_UPLOAD_UNKNOWN DIGEST_INVALID MANIFEST_BLOB_UNKNOWN MANIFEST_INVALID
        MANIFEST_UNKNOWN NAME_INVALID NAME_UNKNOWN SIZE_INVALID UNAUTHORIZED DENIED UNSUPPORTED TOOMANYREQUESTS
    """.split()
    assert set(standard) == words.REGISTRY_CODES.keys() - {"TAG_INVALID"}
    for code in standard:
        assert topics.kind_of(code) == topics.kind_of(code.lower()) == "word"
        name, (what, told, _) = topics.word(code.lower(), "")
        assert (name, what, told) == (code, "an error of registries", words.REGISTRY_CODES[code])
        assert told.endswith((".", ")."))


def test_codes() -> None:
    assert topics.code("e042")[0] == "E042"
    assert topics.kind_of("W250") == "code"
    assert topics.kind_of("./x") == topics.kind_of("") == "bundle"
    assert topics.kind_of("mounts") == "field"
    with pytest.raises(NotFound) as error:
        topics.code("E043x")
    assert "ctk explain codes" in error.value.hint
