"""Certificate authorities and client certificates of single registries: containers-certs.d(5), and docker's certs.d.

In a folder named HOST[:PORT], the files *.crt are authorities, and X.cert with X.key is our certificate.
"""

import os

from toolkit.fetch.tls import Tls

_FOLDERS = ("/etc/containers/certs.d", "/etc/docker/certs.d")


def of(server: str, *, verify: bool = True) -> Tls | None:
    """The settings in the first folder that exists for a server (HOST[:PORT]); None if nothing differs."""
    own = os.path.join(os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config"), "containers/certs.d")
    for top in (own, *_FOLDERS):
        folder = f"{top}/{server}"
        try:
            names = sorted(os.listdir(folder))
        except OSError:
            continue
        authorities = tuple(f"{folder}/{name}" for name in names if name.endswith(".crt"))
        ours = [name for name in names if name.endswith(".cert")]
        if not ours:
            return Tls(authorities, verify=verify)
        certificate = f"{folder}/{ours[0]}"
        return Tls(authorities, certificate, certificate.removesuffix(".cert") + ".key", verify)
    return None if verify else Tls(verify=False)
