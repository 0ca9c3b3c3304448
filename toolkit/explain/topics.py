"""What a word on the command line of `ctk explain` means: a code, a bundle's folder, or a field."""

import os
import re
from typing import Literal

from toolkit.errors import Invalid, NotFound
from toolkit.explain import check, fields
from toolkit.explain.codes import CODES
from toolkit.explain.fields import Field
from toolkit.explain.values import nearest
from toolkit.oci import json_text


def kind_of(word: str) -> Literal["code", "bundle", "field"]:
    """Which it is; a word with a slash, or of a folder that has a config.json, is a bundle."""
    if re.fullmatch(r"[EeWw]\d{1,4}", word):
        return "code"
    if not word or "/" in word or word in (".", "..") or os.path.exists(os.path.join(word, "config.json")):
        return "bundle"
    return "field"


def code(word: str) -> tuple[str, tuple[str, str, str]]:
    """(the code, what it is, why it matters, what to do). Raises NotFound."""
    name = word.upper()
    if name not in CODES:
        near = nearest(name, CODES)
        hint = f"did you mean {near}? " if near else ""
        raise NotFound(
            f"explain {word!r}", because="there is no such code", hint=hint + "`ctk explain codes` lists all"
        )
    return name, CODES[name]


def field(word: str, bundle: str) -> tuple[Field, str]:
    """(the field with what the bundle says, the document's name; "" if there is none). Raises NotFound.

    A folder that was named must have a config.json; the current one ("") need not.
    """
    fields.find(word)
    try:
        text, folder = check.read(bundle or ".")
        spec = json_text.loads(text)
    except NotFound:
        if bundle:
            raise
        return fields.field(word), ""
    except Invalid:
        return fields.field(word), ""
    return fields.field(word, spec), os.path.relpath(os.path.join(folder, "config.json"))
