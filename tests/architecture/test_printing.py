"""What others chose reaches a screen and a shell through toolkit/text.py only."""

import ast
import re
from collections.abc import Iterator

from tests.fixtures.sources import MODULES, trees

# What comes first in a command that we print for people to type.
COMMAND = re.compile(
    r"(?:^|[`:;(]\s*|\b(?:or|with|run|by|see|as) )(?:sudo )?"
    r"(?:ctk (?!version|:)|(?:mkdir|chmod|chown|umount|rm|fuser|sed|grep|ls|export|newuidmap|usermod)[\s=]|mount -\w)"
    r"[^`;]*$|(?:^|&& |\\n)mount -[^`;]*$"
)
# These write whole shell lines; tests/story/test_explain.py and test_explain_pull.py hold what they quote.
TELLING = (
    "explain/launch", "explain/identity", "explain/script", "explain/cgroups",
    "explain/pull/steps", "explain/pull/curl",
    "runtime/mount_telling", "runtime/device_telling", "runtime/shielding",
)  # fmt: skip


def modules(folder: str) -> Iterator[tuple[str, str]]:
    for name, path in MODULES.items():
        if name.startswith(f"toolkit/{folder}/"):
            yield name.removeprefix("toolkit/"), path.read_text()


def test_cli_writes_through_its_one_module() -> None:
    raw = re.compile(r"std(?:out|err)\.write\(|\bprint\(|json\.dump\(|os\.write\([12],")
    found = [name for name, source in modules("cli") if name != "cli/output.py" and raw.search(source)]
    assert not found


def test_the_runtime_speaks_to_people_through_log_say() -> None:
    found = [name for name, source in modules("runtime") if "log.write(2" in source]
    assert not found


def unquoted(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The values that a text of ours puts into a command without `quote`: (line, source of the value)."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.JoinedStr):
            continue
        before = ""
        for part in node.values:
            if isinstance(part, ast.Constant):
                before += str(part.value)
                continue
            assert isinstance(part, ast.FormattedValue)
            call = part.value
            quoted = isinstance(call, ast.Call) and ast.unparse(call.func) in ("quote", "in_root")
            if not quoted and part.conversion != ord("r") and COMMAND.search(before):
                yield node.lineno, ast.unparse(part.value)
            before += "X"


def test_commands_that_we_print_quote_their_values() -> None:
    assert list(unquoted(ast.parse('x = f"see `ctk logs {name}`"'))) == [(1, "name")]
    assert list(unquoted(ast.parse('x = f"mkdir -p {path}"'))) == [(1, "path")]
    assert not list(unquoted(ast.parse('x = f"mkdir -p {quote(path)}; {path}"')))
    found = [
        f"{name}:{line}: {value}"
        for name, tree in trees().items()
        if not name.removeprefix("toolkit/").startswith(TELLING)
        for line, value in unquoted(tree)
    ]
    assert not found, "\n".join(found)
