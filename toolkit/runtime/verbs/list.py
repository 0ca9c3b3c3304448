"""`list`: print the containers below a root, as a table, as JSON, or only their ids."""

import os

from toolkit.errors import CtkError, NotFound, reason
from toolkit.oci.json_text import dumps
from toolkit.runtime import log, record
from toolkit.runtime.verbs.state import document
from toolkit.text import in_json, one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolkit.runtime.options import Options

_COLUMNS = ("id", "pid", "status", "bundle", "created", "owner")


def run(options: "Options") -> int:
    """Print the list. A root given with --root must exist; the default one need not."""
    if options.format not in ("table", "json"):
        raise CtkError("invalid format option", hint="use 'table' or 'json'")
    try:
        names = record.ids(options.root)
    except FileNotFoundError:
        if "root" in options.given:
            raise
        names = []
    if options.quiet:
        log.out("".join(name + "\n" for name in names))
        return 0
    if not names and options.format == "table" and os.isatty(1) and options.program != "runc":
        others = "; those of root are elsewhere: sudo ctk list" if os.geteuid() else ""
        log.say(f"ctk: there are no containers below {options.root!r} (--root, CTK_ROOT){others}\n")
    owners: dict[int, str] = {}
    documents = []
    root_fd = record.open_root(options.root) if names else -1
    for name in names:
        try:
            container = record.load(options.root, name, root_fd=root_fd)
            documents.append(document(container, _owner(container, owners)))
        except NotFound:
            continue  # deleted while we looked
        except CtkError as error:
            log.error(str(error))
        except OSError as error:
            log.error(f"load container {name}: {reason(error)}")
    if options.format == "json":
        log.out(
            (in_json(dumps(documents)) if documents else "null") + "\n"
        )  # Go's nil slice, as engines know it from runc
    else:
        log.out(table([_COLUMNS, *([str(row[column]) for column in _COLUMNS] for row in documents)]))
    return 0


def _owner(container: "record.Record", known: "dict[int, str]") -> str:
    """The owner of the record's folder, by name if it has one."""
    try:
        uid = os.lstat(container.folder).st_uid
    except OSError:
        uid = container.owner_uid
    if uid not in known:
        import pwd

        try:
            known[uid] = pwd.getpwuid(uid).pw_name
        except KeyError:
            known[uid] = f"#{uid}"
    return known[uid]


def table(named: "Sequence[Sequence[str]]") -> str:
    """Rows as runc's table: columns at least 12 wide and 3 apart; the first row becomes the heading, in capitals."""
    rows = [[one_line(cell) for cell in row] for row in named]
    widths = [max(12, 3 + max(len(row[i]) for row in rows)) for i in range(len(rows[0]) - 1)]
    lines = []
    for number, row in enumerate(rows):
        cells = [cell.upper() for cell in row] if number == 0 else row
        lines.append("".join(f"{cell:<{width}}" for cell, width in zip(cells, [*widths, 0], strict=True)) + "\n")
    return "".join(lines)
