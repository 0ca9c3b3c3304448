"""A bill of materials that is attached to an image in a registry: an artifact whose `subject` is the image.

Source: image-spec 1.1, "Guidelines for Artifact Usage"; the media types are those that SPDX and CycloneDX have with
IANA. The same file attached again is the same artifact, so that it is listed once.
"""

import json
import os
from typing import NamedTuple

from toolkit.errors import Invalid, Usage, reason
from toolkit.image import digest as digests
from toolkit.image import name
from toolkit.image.document import manifest, media_types
from toolkit.image.document.descriptor import Descriptor
from toolkit.image.endpoint import Destination, Raw
from toolkit.image.name import Location
from toolkit.kernel import reading

SPDX, CYCLONEDX = "application/spdx+json", "application/vnd.cyclonedx+json"
_TITLE = "org.opencontainers.image.title"  # the file's name, by which oras saves it
_EMPTY = b"{}"


class Bill(NamedTuple):
    """A file that was read and recognized."""

    data: bytes
    media_type: str
    file_name: str


def read(path: str, destination: Location) -> Bill:
    """The bill of materials in a file, before anything is moved. Raises Usage, Invalid."""
    doing = f"attach {path!r}"
    if destination.transport != name.DOCKER:
        raise Usage(doing, because=f"{destination} is not in a registry")
    try:
        data = reading.read(path, follow=True)
    except OSError as error:
        raise Usage(doing, because=reason(error)) from None
    return Bill(data, _media_type(data, path), os.path.basename(path))


def _media_type(data: bytes, path: str) -> str:
    hint = "`ctk bootstrap --sbom spdx=FILE` writes one"
    try:
        whole = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Invalid("", f"not JSON: {error}", document=path, hint=hint) from None
    if isinstance(whole, dict) and "spdxVersion" in whole:
        return SPDX
    if isinstance(whole, dict) and whole.get("bomFormat") == "CycloneDX":
        return CYCLONEDX
    raise Invalid("", "is neither SPDX (spdxVersion) nor CycloneDX (bomFormat)", document=path, hint=hint)


def put(destination: Destination, subject: Descriptor, bill: Bill) -> str:
    """Attach the bill to a manifest or index that is there; the artifact's digest. Raises CtkError."""
    config = manifest.described(_EMPTY, media_types.OCI_EMPTY)
    layer = manifest.described(bill.data, bill.media_type, annotations={_TITLE: bill.file_name})
    for blob, data in ((config, _EMPTY), (layer, bill.data)):
        if not destination.has(blob):
            destination.put_blob(blob, iter([data]))
    document = manifest.write(config, [layer], subject=subject, artifact_type=bill.media_type)
    raw = Raw(document, media_types.OCI_MANIFEST, digests.of(document))
    destination.put_manifest(raw)
    return raw.digest
