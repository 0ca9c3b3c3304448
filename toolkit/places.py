"""Where ctk keeps things. The environment is read here, once a call, and nowhere else.

| what                     | root                | user                                   | override      |
|--------------------------|---------------------|----------------------------------------|---------------|
| container records        | /run/ctk            | $XDG_RUNTIME_DIR/ctk                   | --root, CTK_ROOT |
| caches                   | /var/cache/ctk      | $XDG_CACHE_HOME/ctk, ~/.cache/ctk      | CTK_CACHE     |
| bundles made by `ctk up` | /var/lib/ctk        | $XDG_DATA_HOME/ctk, ~/.local/share/ctk | CTK_DATA      |

Source: XDG Base Directory Specification 0.8; FHS 3.0. Nothing is created here.
"""

import os


def runtime_root() -> str:
    """Folder of the container records; one sub-folder an id."""
    given = os.environ.get("CTK_ROOT")
    if given:
        return given
    if os.geteuid() == 0:
        return "/run/ctk"
    base = os.environ.get("XDG_RUNTIME_DIR") or f"/tmp/ctk-{os.geteuid()}"
    return base + "/ctk"


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
    return "/var/cache/ctk" if os.geteuid() == 0 else _user_dir("XDG_CACHE_HOME", ".cache")


def data_dir() -> str:
    """Folder of the bundles that `ctk up` makes."""
    given = os.environ.get("CTK_DATA")
    if given:
        return given
    return "/var/lib/ctk" if os.geteuid() == 0 else _user_dir("XDG_DATA_HOME", ".local/share")


def shipped(name: str) -> str:
    """Folder of data that comes with ctk: 'keyrings' or 'recipes'. In a wheel it is toolkit/share/NAME."""
    here = os.path.dirname(os.path.abspath(__file__))
    installed = os.path.join(here, "share", name)
    if os.path.isdir(installed):
        return installed
    checkout = os.path.dirname(here)
    return os.path.join(checkout, "vendor", name) if name == "keyrings" else os.path.join(checkout, name)
