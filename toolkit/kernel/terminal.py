"""Pseudo-terminals: pty(7), ioctl_tty(2), termios(3)."""

import errno
import fcntl
import os

TIOCGWINSZ = 0x5413
TIOCSWINSZ = 0x5414
TIOCSCTTY = 0x540E
TIOCGPTPEER = 0x5441
TIOCSPTLCK = 0x40045431
_TCGETS, _TCSETS, _ONLCR, _ICANON = 0x5401, 0x5402, 0o4, 0o2
_TERMIOS_SIZE = 64  # the kernel's struct termios has 36 bytes, and more on some machines


def open_peer(master: int) -> int:
    """Another descriptor of the slave of `master`, opened with O_NOCTTY. Raises OSError."""
    return fcntl.ioctl(master, TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)


def end_of_input(master: int) -> "tuple[bool, bytes]":
    """(is the terminal in canonical mode?, the character that ends its input: VEOF, Ctrl-D unless it was changed)."""
    try:
        settings = fcntl.ioctl(master, _TCGETS, bytes(_TERMIOS_SIZE))
    except OSError:
        return True, b"\x04"
    # Four 32-bit words of flags, the last of them c_lflag; a byte c_line; then c_cc, with VEOF at index 4.
    return bool(int.from_bytes(settings[12:16], "little") & _ICANON), settings[21:22].strip(b"\0") or b"\x04"


def get_size(fd: int) -> bytes:
    """The window size as the kernel's struct winsize. Raises OSError if `fd` is not a terminal."""
    return fcntl.ioctl(fd, TIOCGWINSZ, bytes(8))


def set_size(fd: int, size: bytes) -> None:
    """Set the window size from a struct winsize. Raises OSError."""
    fcntl.ioctl(fd, TIOCSWINSZ, size)


def winsize(rows: int, columns: int) -> bytes:
    """A struct winsize."""
    return rows.to_bytes(2, "little") + columns.to_bytes(2, "little") + bytes(4)


def raw(fd: int) -> "list[object] | None":
    """Put the terminal into raw mode (cfmakeraw(3)); returns the settings for `restore`, None if the terminal is gone.

    Its output is still processed, because the container's terminal sends bare newlines (`keep_newlines`).
    """
    import termios

    try:
        before = termios.tcgetattr(fd)
        mode = termios.tcgetattr(fd)
    except termios.error:
        return None
    mode[0] &= ~(
        termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP
        | termios.INLCR | termios.IGNCR | termios.ICRNL | termios.IXON
    )  # fmt: skip
    mode[2] = mode[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
    mode[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
    mode[6][termios.VMIN] = 1
    mode[6][termios.VTIME] = 0
    return before if _set(fd, mode) else None


def keep_newlines(fd: int) -> None:
    """Make a pty pass newlines on unchanged, not as carriage return and newline (ONLCR). Raises OSError.

    Then a container with a terminal prints the same into our pipe or file as one without.
    """
    settings = bytearray(fcntl.ioctl(fd, _TCGETS, bytes(_TERMIOS_SIZE)))
    flags = int.from_bytes(settings[4:8], "little") & ~_ONLCR  # the second of four 32-bit flag words: c_oflag
    settings[4:8] = flags.to_bytes(4, "little")
    fcntl.ioctl(fd, _TCSETS, bytes(settings))


def restore(fd: int, settings: "list[object]") -> None:
    """Undo `raw`; does nothing if the terminal is gone."""
    _set(fd, settings)


def _set(fd: int, settings: "list[object]") -> bool:
    """tcsetattr(3) at once: waiting until all output is written would take forever on a terminal that is stopped."""
    import termios

    while True:
        try:
            termios.tcsetattr(fd, termios.TCSANOW, settings)  # type: ignore[arg-type]
        except termios.error as error:
            if error.args[0] == errno.EINTR:  # stopped and continued by a shell, or a handled signal
                continue
            return False
        return True
