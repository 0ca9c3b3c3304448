"""An update keeps every byte of what it does not name."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.bundle import document
from toolkit.bundle.splice import Writer, splice
from toolkit.oci.defaults import default_spec

ODD = '{ "b" : 1.50,\n      "a": [1,2 , {"x":"\\u00e9"}],\n  "c":{}, "e" : {"k" : true}\n}\n'


def change(text: str, new: Any) -> str:
    return splice(text, new, Writer(text))


def test_nothing_changed_is_nothing_changed() -> None:
    assert change(ODD, json.loads(ODD)) == ODD


def test_one_value_is_changed_in_its_place() -> None:
    new = json.loads(ODD)
    new["a"][2]["x"] = "y"
    assert change(ODD, new) == ODD.replace('"\\u00e9"', '"y"')
    new = json.loads(ODD)
    new["e"]["k"] = 1
    assert change(ODD, new) == ODD.replace("true", "1")


def test_members_and_elements_come_and_go_with_their_commas() -> None:
    assert change("[1, 2, 3]", [1, 3]) == "[1, 3]"
    assert change("[1, 2, 3]", [1, 2]) == "[1, 2]"
    assert change("[1, 2]", [1, 2, 3]) in ("[1, 2,3]", "[1, 2, 3]")
    assert change('{"a": 1, "b": 2}', {"b": 2}) == '{ "b": 2}'
    assert change('{"a": 1}', {"a": 1, "b": [2]}) == '{"a": 1,"b": [2]}'


@pytest.mark.parametrize("indent", ["\t", "  ", "    "])
def test_what_is_new_is_written_in_the_style_of_the_rest(indent: str) -> None:
    spec = default_spec()
    text = json.dumps(spec, indent=indent)
    spec["linux"]["resources"]["memory"] = {"limit": 5}
    spec["mounts"].append({"destination": "/x", "options": ["ro"]})
    del spec["mounts"][2]
    spec["process"]["args"] = ["sh", "-c", "x"]
    assert change(text, spec) == json.dumps(spec, indent=indent)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text('ab<é"\\', max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", max_size=2), inner, max_size=4),
    max_leaves=12,
)


@given(old=VALUES, new=VALUES, indent=st.sampled_from([None, 1, "\t"]))
def test_the_result_always_means_the_new_value(old: Any, new: Any, indent: "int | str | None") -> None:
    text = json.dumps(old, indent=indent)
    assert json.loads(change(text, new)) == new
    assert change(text, old) == text


def test_a_document_of_runcs_form_is_updated_as_it_would_be_written() -> None:
    spec = default_spec()
    text = document.text(spec)
    spec["hostname"] = "other"
    assert change(text, spec) == document.text(spec)
