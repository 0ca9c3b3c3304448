"""Where recipes are, and how one is found by the name that a user types."""

import os
from difflib import get_close_matches

from toolkit.errors import CtkError, InUse, NotFound, Usage, reason
from toolkit.kernel import reading
from toolkit.places import shipped
from toolkit.recipe.model import Recipe
from toolkit.recipe.parse import name_of, parse


def paths() -> list[str]:
    """The paths of the recipes that come with ctk, in order."""
    folder = shipped("recipes")
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
    return [os.path.join(folder, name) for name in names if name[:1].isdigit() and name.endswith(".md")]


def load(path: str) -> Recipe:
    """The recipe in a file. Raises Invalid, CtkError."""
    try:
        return parse(reading.text(path), path)
    except OSError as error:
        raise CtkError(f"read the recipe {path!r}", because=reason(error)) from None


def find(name: str) -> Recipe:
    """A recipe by name ('first-container'), number ('1', '01'), file name or path. Raises NotFound, with similar
    names."""
    if "/" in name or name.endswith(".md"):
        return load(name)
    known = {name_of(path): path for path in paths()}
    for short, path in known.items():
        stem = os.path.basename(path).removesuffix(".md")
        if name in (short, stem) or (name.isdigit() and int(name) == int(stem.partition("-")[0])):
            return load(path)
    near = get_close_matches(name, known, 1) or [short for short in known if name and name in short]
    hint = f"did you mean {near[0]!r}?" if near else "ctk recipe list"
    raise NotFound(f"find the recipe {name!r}", because="there is no recipe of that name", hint=hint)


def begin(name: str) -> str:
    """Write a page to start from into the current folder. Returns its file name. Raises Usage, InUse."""
    path = name.removesuffix(".md") + ".md"
    if "/" in name or not name.strip(".-_ "):
        raise Usage(f"begin the recipe {name!r}", because="a name is one word, such as my-first-service")
    title = path.removesuffix(".md").replace("-", " ").capitalize()
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(_PAGE.format(title=title))
    except FileExistsError:
        raise InUse(f"begin the recipe {name!r}", because=f"{path} exists already") from None
    except OSError as error:
        raise CtkError(f"begin the recipe {name!r}", because=reason(error)) from None
    return path


_PAGE = """\
# {title}

<!-- needs: -->

What the reader will have at the end, and what it costs (time, disk, root's rights).

## First steps

Text before a block explains it. A line with a prompt is a command, the lines below it are its output; `...` stands for
anything.

```console
$ echo hello > greeting
$ cat greeting
hello
```

A block can show what goes wrong, on purpose:

```console expect-fail
$ cat greting
cat: greting: No such file or directory
```

## Clean up

Whatever happened before, this runs at the end.

```console cleanup
$ rm -f greeting
$ ls -A | wc -l
0
```
"""
