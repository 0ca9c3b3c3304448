"""JSON text on the C scanner: what it takes, what it refuses and where, and that it writes what Go writes."""

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.errors import Invalid
from toolkit.oci.json_text import dumps, indented, loads

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def without_null_members(value):
    if isinstance(value, dict):
        return {key: without_null_members(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_null_members(item) for item in value]
    return value


@given(VALUES)
def test_what_the_json_package_writes_is_read(value):
    assert loads(json.dumps(value)) == without_null_members(value)


@given(VALUES, st.sampled_from([None, "\t", "  "]))
def test_what_we_write_the_json_package_reads(value, indent):
    assert json.loads(dumps(value, indent)) == value


@given(st.text() | st.binary())
def test_any_text_gives_a_value_or_invalid(text):
    try:
        value = loads(text)
    except Invalid:
        return
    assert json.loads(text) is not None or value is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "ends too early (line 1, column 1)"),
        ('{"a": 1,\n "b": }', "unexpected '}' (line 2, column 7)"),
        ('{"a" 1}', "expecting ':' delimiter (line 1, column 6)"),
        ('{"a": 1} x', "more text after the value (line 1, column 10)"),
        ('["\x01"]', "invalid control character"),
        ("[NaN]", "'NaN' is not a number"),
        ("-Infinity", "'-Infinity' is not a number"),
        ("\ufeff{}", "unexpected '\\ufeff'"),
        ("[" * 200_000, "nested too deeply"),
        ("1" * 5000, "4300 digits"),
        (b'"\xff"', "byte 1 is not UTF-8"),
    ],
)
def test_errors_name_the_place(text, said):
    with pytest.raises(Invalid) as caught:
        loads(text, "some.json")
    assert said in str(caught.value)
    assert str(caught.value).startswith("some.json: ")


def test_a_lone_surrogate_becomes_the_replacement_character_as_in_go():
    assert loads(r'{"\ud800": ["\udfff x", "\ud83d\ude00"]}') == {"\ufffd": ["\ufffd x", "\U0001f600"]}


def test_null_members_are_absent_and_null_elements_stay():
    assert loads('{"a": null, "b": [null, {"c": null, "d": 1}]}') == {"b": [None, {"d": 1}]}


def test_text_is_safe_inside_html_as_gos_is():
    assert dumps({"a": "<&>\u2028\u2029é"}) == '{"a":"\\u003c\\u0026\\u003e\\u2028\\u2029é"}'


def test_the_json_package_is_never_imported():
    code = (
        "import sys; from toolkit.oci import json_text\n"
        "for text in ('{\"a\": 1}', '{\"a\" 1}'):\n"
        "    try: json_text.loads(text)\n"
        "    except Exception: pass\n"
        "json_text.dumps({'a': [1]}, '  ')\n"
        "print([n for n in ('re', 'json', 'json.decoder') if n in sys.modules])"
    )
    told = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, cwd=_checkout(), check=True
    )
    # From 3.12 the scanner itself imports json.decoder, but only to report an error.
    assert told.stdout.strip() == "[]" or sys.version_info >= (3, 12)


def _checkout():
    import toolkit

    return toolkit.__file__.rsplit("/", 2)[0]


def test_a_path_that_is_not_utf_8_comes_back_from_our_own_documents() -> None:
    path = "/b\udcff\udce9é"
    text = dumps({"bundle": path})
    text.encode()  # Go would refuse a lone surrogate that is no escape
    assert loads(text, any_path=True) == {"bundle": path}
    assert loads(text) == {"bundle": "/b\ufffd\ufffdé"}
    assert loads('"\\ud800"', any_path=True) == "\ufffd"


@given(VALUES, st.sampled_from([1, 2]))
def test_an_indented_text_is_that_of_the_json_package(value, indent):
    assert indented(value, " " * indent) == json.dumps(value, indent=indent, ensure_ascii=False)
