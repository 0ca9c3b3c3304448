"""The folders where ctk keeps its files. The environment is read here, once a call, and nowhere else.

| what                     | root                | user                                   | override      |
|--------------------------|---------------------|----------------------------------------|---------------|
| container records        | /run/ctk            | $XDG_RUNTIME_DIR/ctk                   | --root, CTK_ROOT |
| caches                   | /var/cache/ctk      | $XDG_CACHE_HOME/ctk, ~/.cache/ctk      | CTK_CACHE     |
| bundles made by `ctk up` | /var/lib/ctk        | $XDG_DATA_HOME/ctk, ~/.local/share/ctk | CTK_DATA      |
| images                   | /var/lib/ctk/images | the same, and /images                  | CTK_IMAGES    |
| networks and leases      | /var/lib/ctk/networks | the same, and /networks              | CTK_NETWORKS  |

Source: XDG Base Directory Specification 0.8; FHS 3.0. Nothing is created here.
"""

import os


def runtime_root() -> str:
    """Folder of the container records; one sub-folder for each id."""
    given = os.environ.get("CTK_ROOT")
    if given:
        return given
    if not _is_user():
        return "/run/ctk"
    base = os.environ.get("XDG_RUNTIME_DIR") or f"/tmp/ctk-{os.geteuid()}"
    return base + "/ctk"


def _is_user() -> bool:
    """Whether to use an ordinary user's folders.

    Rootless podman calls its runtime as root of a user namespace. The rule is runc's: we are root in a namespace that
    the user owns, and the environment still has the user's XDG_RUNTIME_DIR.
    """
    if os.geteuid() != 0:
        return True
    if not os.environ.get("XDG_RUNTIME_DIR") or os.environ.get("USER") == "root":
        return False
    try:
        with open("/proc/self/uid_map") as file:
            return file.readline().split() != ["0", "0", "4294967295"]
    except OSError:
        return False


def _user_dir(variable: str, fallback: str) -> str:
    base = os.environ.get(variable)
    if not base or not base.startswith("/"):
        base = os.path.join(os.environ.get("HOME") or "/", fallback)
    return base + "/ctk"


def cache_dir() -> str:
    """Folder of caches: everything below it may be deleted at any time."""
    given = os.environ.get("CTK_CACHE")
    if given:
        return given
    return _user_dir("XDG_CACHE_HOME", ".cache") if _is_user() else "/var/cache/ctk"


def data_dir() -> str:
    """Folder of the bundles that `ctk up` makes."""
    given = os.environ.get("CTK_DATA")
    if given:
        return given
    return _user_dir("XDG_DATA_HOME", ".local/share") if _is_user() else "/var/lib/ctk"


def image_store() -> str:
    """Folder of the images that were pulled or built: an OCI layout, with unpacked layers beside it."""
    return os.environ.get("CTK_IMAGES") or os.path.join(data_dir(), "images")


def network_store() -> str:
    """Folder of the networks, and of the leases of their addresses."""
    return os.environ.get("CTK_NETWORKS") or os.path.join(data_dir(), "networks")


def bundle_dir(identity: str) -> str:
    """Folder of the bundle that `ctk up` makes for a container of that id."""
    return os.path.join(data_dir(), "bundles", identity)


def shipped(name: str) -> str:
    """Folder of data that comes with ctk: 'keyrings' or 'recipes'. In a wheel it is toolkit/share/NAME."""
    here = os.path.dirname(os.path.abspath(__file__))
    installed = os.path.join(here, "share", name)
    if os.path.isdir(installed):
        return installed
    checkout = os.path.dirname(here)
    return os.path.join(checkout, "vendor", name) if name == "keyrings" else os.path.join(checkout, name)
