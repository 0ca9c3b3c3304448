"""`spec` with runc's options only; the bundle builder handles the others."""

import os

from toolkit.errors import InUse
from toolkit.oci.defaults import default_spec
from toolkit.oci.json_text import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.runtime.options import Options


def run(options: "Options") -> int:
    """Write config.json into the bundle's folder. Raises InUse if there is one, OSError."""
    path = os.path.join(options.bundle, "config.json") if options.bundle else "config.json"
    document = default_spec(bool(options.rootless))
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError:
        raise InUse(f"file {path} exists", because="remove it first", hint="`ctk spec --force` overwrites it") from None
    try:
        data = dumps(document, "\t").encode()
        while data:
            data = data[os.write(fd, data) :]
    except OSError:
        os.unlink(path)  # half a file would only be in the way of the next call
        raise
    finally:
        os.close(fd)
    return 0
