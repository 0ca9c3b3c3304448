"""Markdown to Recipe, and expected output against what came."""

from pathlib import Path

import pytest

from toolkit.errors import InUse, Invalid, NotFound, Usage
from toolkit.recipe import shelf
from toolkit.recipe.compare import difference, matches
from toolkit.recipe.parse import name_of, parse

PAGE = """\
# A title

What it is about,
in short.

## First

Some words.

```console
# make it
one
...
# and \\
> more
$ cat <<END
text
END
text
```

```python
# not a step
```

## Second

```console terminal=2 expect-fail timeout=5
# run it
root@box:/# ps
PID
root@box:/# exit
exit
```

```console cleanup
# rm it
```
"""


def test_a_page_becomes_steps() -> None:
    recipe = parse(PAGE, "recipes/07-a-name.md")
    assert (recipe.name, recipe.title, recipe.summary) == ("a-name", "A title", "What it is about, in short.")
    blocks = [step.block for step in recipe.steps if step.block]
    assert recipe.numbered == len(blocks) == 3
    assert [(command.text, command.as_root, command.expected) for command in blocks[0].commands] == [
        ("make it", True, ("one", "...")),
        ("and \\\nmore", True, ()),
        ("cat <<END\ntext\nEND", False, ("text",)),
    ]
    second = blocks[1]
    assert (second.terminal, second.expect_fail, second.timeout_s, second.cleanup) == ("2", True, 5.0, False)
    assert [(line.text, line.expected) for line in second.commands[0].typed] == [("ps", ("PID",)), ("exit", ("exit",))]
    assert blocks[2].cleanup
    assert recipe.needs_root


def test_words_keep_their_section_and_other_blocks_stay_words() -> None:
    recipe = parse(PAGE, "x.md")
    assert [(step.section, step.block is not None) for step in recipe.steps] == [
        ("", False), ("First", True), ("First", False), ("Second", True), ("Second", True),
    ]  # fmt: skip
    assert "# not a step" in recipe.steps[2].words


def test_a_block_may_go_on_typing_into_what_still_runs() -> None:
    recipe = parse("# T\n```console\nroot@box:/# exit\nexit\n# ls\n```\n", "x.md")
    first, second = recipe.steps[0].block.commands  # type: ignore[union-attr]
    assert (first.text, [line.text for line in first.typed]) == ("", ["exit"])
    assert second.text == "ls"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("words\n```console\n# x\n```\n", "no title"),
        ("# T\nwords\n", "nothing to run"),
        ("# T\n```console\n# x\n", "line 2: the fenced block is never closed"),
        ("# T\n```console expcet-fail\n# x\n```\n", "unknown attribute 'expcet-fail'"),
        ("# T\n```console\nx\n```\n", "no line that begins with"),
    ],
)
def test_a_page_that_cannot_be_read_says_where(text: str, problem: str) -> None:
    with pytest.raises(Invalid, match=problem):
        parse(text, "x.md")


@pytest.mark.parametrize(
    ("expected", "output", "same"),
    [
        (["a", "b"], ["a", "b"], True),
        (["a"], ["a", "b"], False),
        (["a", "..."], ["a"], True),
        (["a", "..."], ["a", "b", "c"], True),
        (["...", "z"], ["x", "z", "y", "z"], True),
        (["...", "z"], ["z", "y"], False),
        (["a", "...", "b", "...", "c"], ["a", "b", "b", "x", "c"], True),
        (["a ... c"], ["a b b c"], True),
        (["a ... c"], ["a c"], False),
        (["PID  STATUS"], ["  PID     STATUS   "], True),
        (["a.c"], ["abc"], False),
    ],
)
def test_three_dots_stand_for_what_varies(expected: list[str], output: list[str], same: bool) -> None:
    assert matches(expected, output) is same


def test_the_difference_shows_only_what_differs() -> None:
    assert difference(["id ...", "two"], ["id 17", "2"]) == ["  id ...", "- two", "+ 2"]


def test_every_shipped_recipe_is_read_and_found_by_each_of_its_names() -> None:
    paths = shelf.paths()
    assert paths
    for path in paths:
        recipe = shelf.load(path)
        stem = path.rpartition("/")[2].removesuffix(".md")
        for name in (recipe.name, stem, stem.partition("-")[0], path):
            assert shelf.find(name).path == path
        assert recipe.steps[-1].block is not None
        assert recipe.steps[-1].block.cleanup, f"{path} does not end with a clean-up"


def test_a_wrong_name_is_answered_with_a_near_one() -> None:
    with pytest.raises(NotFound) as caught:
        shelf.find("frist-container")
    assert caught.value.hint == "did you mean 'first-container'?"
    assert name_of("/x/12-a-b.md") == "a-b"


def test_a_new_recipe_plays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert shelf.begin("my-own") == "my-own.md"
    recipe = shelf.load("my-own.md")
    assert (recipe.title, recipe.numbered) == ("My own", 3)
    with pytest.raises(InUse):
        shelf.begin("my-own")
    with pytest.raises(Usage):
        shelf.begin("../x")
