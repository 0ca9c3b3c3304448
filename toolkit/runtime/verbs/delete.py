"""`delete`: remove a container and its resources."""

from toolkit.errors import CtkError, NotFound
from toolkit.runtime import log, removal
from toolkit.runtime import record as records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.runtime.options import Options


def run(options: "Options") -> int:
    """Remove the container. Raises NotFound unless `--force`: engines force-delete twice and want 0 both times."""
    if options.regex:
        return _all(options)
    try:
        removal.delete(records.load(options.root, options.id), force=options.force)
    except NotFound:
        if not options.force:
            raise
    return 0


def _all(options: "Options") -> int:
    """Remove every container whose id matches the expression; returns 1 if one of them is left."""
    import re  # imported only here: nothing else in the runtime needs it

    try:
        expression = re.compile(options.id)
    except re.error as error:
        raise CtkError(f"read the regular expression {options.id!r}", because=str(error)) from None
    code = 0
    for name in records.ids(options.root):
        if expression.search(name):
            try:
                removal.delete(records.load(options.root, name), force=options.force)
            except NotFound:
                continue  # another process was faster
            except CtkError as error:
                log.error(str(error))
                code = 1
    return code
