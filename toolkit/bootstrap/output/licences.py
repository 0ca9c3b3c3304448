"""Licences from a tree's /usr/share/doc/*/copyright, if that file is machine-readable (copyright-format/1.0, DEP-5).

Its short names are Debian's. Those of licences in SPDX's list are translated; if one of a package isn't known, the
package gets no licence at all, as an incomplete expression would be wrong.
"""

import os
import re

from toolkit.deb.control import paragraphs
from toolkit.errors import CtkError
from toolkit.kernel.beneath import open_beneath

_LONGEST_BYTES = 1 << 20
_GNU = re.compile(r"(AGPL|GPL|LGPL|GFDL)-(\d)(?:\.(\d))?(\+?)\Z")
_WORD = re.compile(r"\s+(and|or)\s+|,\s*(?:and\s+)?", re.IGNORECASE)
# DEP-5's short names that differ from SPDX's: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
_NAMES = {
    "apache-2": "Apache-2.0",
    "apache-2.0": "Apache-2.0",
    "artistic": "Artistic-1.0-Perl",
    "artistic-2": "Artistic-2.0",
    "artistic-2.0": "Artistic-2.0",
    "bsd-2-clause": "BSD-2-Clause",
    "bsd-3-clause": "BSD-3-Clause",
    "bsd-4-clause": "BSD-4-Clause",
    "bsl-1.0": "BSL-1.0",
    "cc0-1.0": "CC0-1.0",
    "cc0": "CC0-1.0",
    "expat": "MIT",
    "isc": "ISC",
    "mit": "MIT",
    "mpl-1.1": "MPL-1.1",
    "mpl-2.0": "MPL-2.0",
    "openssl": "OpenSSL",
    "psf-2": "PSF-2.0",
    "unlicense": "Unlicense",
    "zlib": "Zlib",
    "zpl-2.1": "ZPL-2.1",
    "ftl": "FTL",
    "curl": "curl",
    "python-2.0": "Python-2.0",
}


def licence(rootfd: int, package: str) -> str:
    """The package's licences as one SPDX expression; "" if they can't be read or translated."""
    try:
        # Resolved inside the root: the tree may have links to anywhere.
        fd = open_beneath(rootfd, f"usr/share/doc/{package}/copyright", os.O_RDONLY | os.O_NONBLOCK)
    except (OSError, CtkError):
        return ""
    with open(fd, "rb") as file:
        data = file.read(_LONGEST_BYTES)
    return expression(data)


def expression(copyright_file: bytes) -> str:
    """The SPDX expression of a copyright file, from its text; "" if it can't be translated."""
    if b"copyright-format/1.0" not in copyright_file[:400]:
        return ""
    stated: list[str] = []
    try:
        for fields in paragraphs(copyright_file, what="a copyright file"):
            if "Files" in fields:
                stated.append(fields.get("License", "").split("\n")[0].strip())
    except CtkError:
        return ""
    found = [_translated(one) for one in dict.fromkeys(stated)]
    if not found or "" in found:
        return ""
    parts = list(dict.fromkeys(found))
    return " AND ".join(f"({one})" if " " in one and len(parts) > 1 else one for one in sorted(parts))


def _translated(written: str) -> str:
    """One licence line, e.g. `GPL-2+ or Artistic`; "" if a name in it isn't known."""
    pieces = _WORD.split(written)
    words: list[str] = []
    for at, piece in enumerate(pieces):
        if at % 2:
            words.append((piece or "and").upper())
        else:
            name = _name(piece.strip())
            if not name:
                return ""
            words.append(name)
    # `and` and `or` mixed by commas: in DEP-5 a comma binds more weakly, which is not translated.
    return " ".join(words) if len(set(words[1::2])) <= 1 else ""


def _name(short: str) -> str:
    match = _GNU.match(short)
    if match:
        kind, major, minor, later = match.groups()
        return f"{kind}-{major}.{minor or '0'}-{'or-later' if later else 'only'}"
    return _NAMES.get(short.lower(), "")
