"""Where a reader stopped in a recipe, so that it can be continued later: a small file per recipe."""

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from typing import Any

from toolkit.errors import Invalid
from toolkit.kernel import atomic, ours, reading
from toolkit.oci import json_text
from toolkit.places import data_dir, shipped
from toolkit.recipe.model import Recipe


@dataclass(frozen=True, slots=True)
class Progress:
    """`step` is the next step to run, `folders` the current folder of each terminal, `room` the facts of its Room."""

    step: int
    work: str
    folders: dict[str, str] = field(default_factory=dict)
    room: dict[str, Any] = field(default_factory=dict)


def called(recipe: Recipe) -> str:
    """The argument of `ctk recipe run` for this recipe: its name, or the path of one that is not ctk's."""
    path = os.path.abspath(recipe.path)
    return recipe.name if os.path.dirname(path) == shipped("recipes") else path


def load(recipe: Recipe) -> Progress | None:
    """Where it was stopped; None if it was not, or if its work folder is gone."""
    try:
        found = json_text.loads(reading.read(_path(recipe)), recipe.name)
        progress = Progress(int(found["step"]), str(found["work"]), dict(found["folders"]), dict(found["room"]))
    except (OSError, Invalid, ValueError, KeyError, TypeError):
        return None
    return progress if os.path.isdir(progress.work) else None


def save(recipe: Recipe, progress: Progress) -> None:
    """Save `progress`, atomically."""
    path = _path(recipe)
    ours.make_private(os.path.dirname(path))
    atomic.replace(path, json.dumps(asdict(progress)).encode())


def forget(recipe: Recipe) -> None:
    """Remove the saved progress."""
    try:
        os.unlink(_path(recipe))
    except FileNotFoundError:
        pass


def resume_at(recipe: Recipe, step: int) -> int:
    """The step to go on with for a stop before `step`: a program that lines were typed into must be started again."""
    blocks = {one.number: one.block for one in recipe.steps if one.block is not None}
    running: dict[str, int] = {}  # terminal -> the step that started the program in it
    for number in sorted(blocks):
        block = blocks[number]
        if number >= step:
            break
        if block.commands[0].text:
            running.pop(block.terminal, None)
        if block.stays:
            running.setdefault(block.terminal, number)
        elif not block.commands[0].text:
            running.pop(block.terminal, None)
    return min([step, *running.values()])


def _path(recipe: Recipe) -> str:
    # Two pages may have the same name, and the clean-up of one must not run in the folder of the other.
    word, key = called(recipe), recipe.name
    if word != recipe.name:
        key += "-" + hashlib.sha256(os.fsencode(word)).hexdigest()[:12]
    return os.path.join(data_dir(), "recipes", key + ".json")
