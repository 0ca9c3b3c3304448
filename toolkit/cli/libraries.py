"""The installed libraries, which the launcher leaves out (`python3 -S`): making them importable takes some 8 ms."""

import sys


def add() -> None:
    """Make them importable, if they are not yet."""
    if sys.flags.no_site and "site" not in sys.modules:
        import site

        site.main()
