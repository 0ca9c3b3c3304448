"""What the argument of `ctk explain` means: a code, a bundle's folder, a field, a capability, …"""

import os
import re
from typing import Any, Literal

from toolkit.errors import Invalid, NotFound
from toolkit.explain import check, fields
from toolkit.explain.codes import CODES
from toolkit.explain.fields import Field
from toolkit.explain.values import nearest
from toolkit.explain.words import CAPABILITIES, NAMESPACES, REGISTRY_CODES
from toolkit.oci import json_text


def kind_of(word: str) -> Literal["code", "bundle", "word", "field"]:
    """What `word` is; a word with a slash, or the name of a folder with a config.json, is a bundle."""
    if re.fullmatch(r"[EeWw]\d{1,4}", word):
        return "code"
    if _value(word):
        return "word"
    if not word or "/" in word or word in (".", "..") or os.path.exists(os.path.join(word, "config.json")):
        return "bundle"
    return "field"


def is_image(word: str) -> bool:
    """Whether it can only be an image's name: web:1, localhost:5000/web, name@sha256:…"""
    return bool(re.search("[:@]", word)) and not word.startswith((".", "/")) and not os.path.exists(word)


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


_SHORT = {"net": "network", "mnt": "mount"}


def _value(word: str) -> str:
    """A capability, a code of registries or a kind of namespace, however it is written: cap_kill, pidns, Denied."""
    if word.upper() in REGISTRY_CODES:
        return word.upper()
    name = word.upper().removeprefix("CAP_")
    if word.upper().startswith("CAP_") and name in CAPABILITIES:
        return "CAP_" + name
    kind = re.sub(r"([ _-]?namespaces?|ns)(\(7\))?$", "", word.lower())
    kind = _SHORT.get(kind, kind)
    # These words alone are (almost) fields too: process.user, linux.resources.network, mounts.
    return kind if kind in NAMESPACES and (kind not in ("user", "network", "mount") or kind != word.lower()) else ""


def word(text: str, bundle: str) -> tuple[str, tuple[str, str, str]]:
    """(the name, what it is, its explanation and what the bundle says, what to read) of a word of words.py."""
    name = _value(text)
    if name in REGISTRY_CODES:
        return name, ("an error of registries", REGISTRY_CODES[name], 'distribution-spec 1.1, "Error Codes"')
    spec = _spec(bundle)
    linux, process = (spec.get("linux") or {}), (spec.get("process") or {})
    if name.startswith("CAP_"):
        sets = [kind for kind, names in (process.get("capabilities") or {}).items() if name in (names or ())]
        says = f"This config.json has it in {', '.join(sets)}." if sets else "This config.json does not give it."
        told = CAPABILITIES[name[4:]]
        return name, ("a capability", told + (" " + says if spec else ""), "man 7 capabilities")
    told, flag, page = NAMESPACES[name]
    kinds = {entry.get("type"): entry.get("path") for entry in linux.get("namespaces") or ()}
    says = "a new one" if name in kinds else "the host's"
    says = f"the one at {kinds[name]}" if kinds.get(name) else says
    told = f"{told} Made by clone3(2) with {flag}."
    return name, ("a kind of namespace", told + (f" This config.json: {says}." if spec else ""), f"man 7 {page[:-3]}")


def _spec(bundle: str) -> Any:
    try:
        spec = json_text.loads(check.read(bundle or ".")[0])
    except (NotFound, Invalid):
        if bundle:
            raise
        return {}
    return spec if isinstance(spec, dict) else {}


def field(word: str, bundle: str) -> tuple[Field, str]:
    """(the field with what the bundle says, the document's name; "" if there is none). Raises NotFound.

    A folder that was named must have a config.json; the current one ("") need not.
    """
    try:
        fields.find(word)
    except NotFound as error:
        if word.upper().startswith("CAP_") and (near := nearest(word, ["CAP_" + name for name in CAPABILITIES])):
            error.hint = f"did you mean {near}?"
        raise
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
