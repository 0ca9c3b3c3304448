"""Edits of `mounts`, and of what sharing the host's network needs."""

import os
from typing import NamedTuple

from toolkit.bundle.document import Edit, Spec
from toolkit.bundle.namespaces import without
from toolkit.errors import Usage
from toolkit.text import quote


def mount(entry: dict[str, object]) -> Edit:
    """Add to `mounts`, or replace the entry with the same destination."""

    def edit(spec: Spec) -> Spec:
        known = spec.setdefault("mounts", [])
        at = next((i for i, old in enumerate(known) if old.get("destination") == entry["destination"]), len(known))
        known[at : at + 1] = [entry]
        return spec

    return edit


def bind(source: str, destination: str, *, read_only: bool) -> Edit:
    """A bind mount of a file or a folder with all below it."""
    options = ["rbind", "nosuid", "nodev", *(["ro"] if read_only else ["rw"])]
    return mount({"destination": destination, "type": "bind", "source": source, "options": options})


def parse_mount(text: str) -> Edit:
    """--mount type=…,src=…,dst=…[,ro][,OPTION…], as in engines. Unknown words are passed on as mount options."""
    fields: dict[str, str] = {}
    options: list[str] = []
    names = {"src": "source", "source": "source", "dst": "destination", "destination": "destination"}
    names |= {"target": "destination", "type": "type"}
    for word in text.split(","):
        key, equals, value = word.partition("=")
        if equals and key in names:
            fields[names[key]] = value
        elif key in ("ro", "readonly") and value in ("", "true", "1"):
            options.append("ro")
        elif equals and key in ("bind-propagation", "propagation"):
            options.append(value)
        elif equals and key.startswith("tmpfs-"):
            options.append(f"{key.removeprefix('tmpfs-')}={value}")
        elif word:
            options.append(word)
    kind = fields.get("type", "bind")
    if not fields.get("destination", "").startswith("/"):
        hint = "for example type=bind,src=/srv/data,dst=/data,ro"
        raise Usage(f"read --mount {text!r}", because="it needs dst=, an absolute path in the container", hint=hint)
    if kind == "bind":
        fields["source"] = _host_path(fields.get("source", ""), f"read --mount {text!r}")
        options = ["rbind", *options]
    entry: dict[str, object] = {"destination": fields["destination"], "type": kind}
    entry["source"] = fields.get("source", kind)
    if options:
        entry["options"] = options
    return mount(entry)


def parse_volume(text: str) -> Edit:
    """-v SRC:DST[:ro|rw[,OPTION…]]."""
    source, _, rest = text.partition(":")
    destination, _, words = rest.partition(":")
    doing = f"read --volume {text!r}"
    if not destination.startswith("/"):
        raise Usage(doing, because="not SRC:DST[:ro], or DST is not absolute", hint="for example ./data:/data:ro")
    options = [word for word in words.split(",") if word]
    entry = {"destination": destination, "type": "bind", "source": _host_path(source, doing)}
    return mount(entry | {"options": ["rbind", *(options or ["rw"])]})


def parse_tmpfs(text: str) -> Edit:
    """--tmpfs DST[:OPTION,…]."""
    destination, _, words = text.partition(":")
    if not destination.startswith("/"):
        raise Usage(f"read --tmpfs {text!r}", because="it must be an absolute path in the container")
    options = ["nosuid", "nodev", "mode=1777", *(word for word in words.split(",") if word)]
    return mount({"destination": destination, "type": "tmpfs", "source": "tmpfs", "options": options})


def _host_path(source: str, doing: str) -> str:
    if not source:
        raise Usage(doing, because="it has no source", hint="for example src=/srv/data")
    whole = os.path.abspath(source)
    if not os.path.lexists(whole):
        raise Usage(doing, because=f"there is no {whole!r} on the host", hint=f"mkdir -p {quote(whole)}")
    return whole


class HostFiles(NamedTuple):
    """The contents of the host's files that name resolution needs; '' for a file that does not exist."""

    resolv_conf: str
    hosts: str

    @classmethod
    def read(cls) -> "HostFiles":
        """Those of this host, with symlinks followed.

        With systemd-resolved /etc/resolv.conf is a link to ../run/systemd/resolve/stub-resolv.conf, which names
        127.0.0.53. That works in the host's network namespace, but the link would dangle in the container's root.
        """
        real = [os.path.realpath(path) for path in ("/etc/resolv.conf", "/etc/hosts")]
        return cls(*(path if os.path.isfile(path) else "" for path in real))


def share_net(host: HostFiles) -> Edit:
    """The host's network: no network namespace, and the host's resolv.conf and hosts bound read-only."""

    def edit(spec: Spec) -> Spec:
        spec = without("network")(spec)
        for source, destination in ((host.resolv_conf, "/etc/resolv.conf"), (host.hosts, "/etc/hosts")):
            if source:
                spec = bind(source, destination, read_only=True)(spec)
        return spec

    return edit
