"""The images of the store as people and programs are shown them: the list, one image, its history."""

from typing import Any, NamedTuple

from toolkit.errors import CtkError
from toolkit.image.document.platform import Platform
from toolkit.image.layout.index_json import Entry
from toolkit.image.name import parse
from toolkit.image.store import leases, reach
from toolkit.image.store.store import Image, Store
from toolkit.oci import json_text


class Listed(NamedTuple):
    """An entry of the list. `name` is short, "" for none; `problem` says what is wrong with a damaged one."""

    name: str
    digest: str
    platforms: tuple[str, ...]
    created: str
    size_bytes: int
    in_use_by: str
    problem: str = ""

    def row(self) -> tuple[str, ...]:
        """What a table shows but for the size: name, id, platforms, time of creation."""
        platforms = ", ".join(self.platforms) if not self.problem else f"damaged: {self.problem}"
        return self.name or "<none>", reach.short(self.digest), platforms, when(self.created)

    def as_json(self) -> dict[str, Any]:
        """The same for --json; sizes in bytes."""
        return {
            "name": self.name,
            "digest": self.digest,
            "platforms": list(self.platforms),
            "created": self.created,
            "size": self.size_bytes,
            "inUseBy": self.in_use_by,
            "problem": self.problem,
        }


def listing(store: Store) -> list[Listed]:
    """All entries, by name; those without one come last. Raises CtkError if index.json can't be read."""
    entries = store.entries()
    live, _ = leases.survey(store.place)
    found = [_listed(store, one, live) for one in entries]
    return sorted(found, key=lambda one: (not one.name, one.name, one.digest))


def _listed(store: Store, one: Entry, live: list[leases.Held]) -> Listed:
    top = one.descriptor
    digests = {top.digest: top.size_bytes}
    platforms: list[str] = []
    created, problem = "", ""
    try:
        for found, document in reach.manifests(store.blobs, top):
            blobs = (document.config, *document.layers)
            digests |= {found.digest: found.size_bytes} | {blob.digest: blob.size_bytes for blob in blobs}
            if absent := reach.absent(store.blobs, document):
                problem = f"{absent[0].digest} is missing"
            config = reach.config_of(store.blobs, document)
            if config is not None:
                platforms.append(str(config.platform))
                created = max(created, config.created)
            else:
                platforms.append(document.artifact_type or document.config.media_type)
    except CtkError as error:
        problem = error.because or str(error)
    holder = next(filter(None, (leases.holder_of(live, digest) for digest in digests)), "") if live else ""
    return Listed(familiar(one.name), top.digest, tuple(platforms), created, sum(digests.values()), holder, problem)


def familiar(name: str) -> str:
    """The shortest form of a name in the store."""
    try:
        return parse(name).familiar if name else ""
    except CtkError:  # another program's tag
        return name


def when(created: str) -> str:
    """A time of RFC 3339, to the minute."""
    return created[:16].replace("T", " ")


def inspect(store: Store, text: str, wanted: Platform | None = None) -> dict[str, Any]:
    """All that is known about one image, as a document. Raises NotFound, Usage, Untrusted, Invalid."""
    image = store.image(text, wanted)
    same = [one for one in store.entries() if one.descriptor.digest == image.top.digest]
    layers = []
    for at, layer in enumerate(image.manifest.layers):
        diff_id = image.config.diff_ids[at] if at < len(image.config.diff_ids) else ""
        layers.append(
            {
                "digest": layer.digest,
                "mediaType": layer.media_type,
                "size": layer.size_bytes,
                "diffID": diff_id,
                "laidOut": store.layers.path(diff_id) if diff_id and store.layers.has(diff_id) else "",
            }
        )
    return {
        "names": [one.name for one in same if one.name],
        "digest": image.digest,
        "index": image.top.digest if image.top.digest != image.digest else "",
        "mediaType": image.manifest.media_type,
        "id": image.manifest.config.digest,
        "platform": str(image.config.platform),
        "created": image.config.created,
        "size": image.manifest.size_bytes,
        "layers": layers,
        "annotations": image.manifest.annotations,
        "config": json_text.loads(image.config.raw, image.manifest.config.digest),
    }


class Step(NamedTuple):
    """One step of an image's history; `size_bytes` of its layer as it is compressed, 0 if it changed no file."""

    created: str
    size_bytes: int
    digest: str
    created_by: str
    comment: str


def history(image: Image) -> list[Step]:
    """How the image came to be, the last step first. A layer that its history does not tell of has a step, too."""
    layers = list(image.manifest.layers)
    steps = []
    for one in image.config.history:
        layer = None if one.empty_layer or not layers else layers.pop(0)
        size_bytes, digest = (layer.size_bytes, layer.digest) if layer is not None else (0, "")
        steps.append(Step(one.created, size_bytes, digest, one.created_by, one.comment))
    steps += [Step("", layer.size_bytes, layer.digest, "", "not told") for layer in layers]
    return steps[::-1]
