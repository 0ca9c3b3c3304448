"""The words of an error that the system gave."""

import errno
import os

from toolkit.errors import reason, reason_and_path


def test_it_begins_small_and_an_error_without_a_number_has_its_own_words() -> None:
    assert reason(OSError(errno.ENOENT, os.strerror(errno.ENOENT))) == "no such file or directory"
    assert reason(TimeoutError("timed out")) == "timed out"


def test_a_files_name_stays_as_it_is() -> None:
    error = OSError(errno.ENOENT, os.strerror(errno.ENOENT), "/Data/README")
    assert reason_and_path(error) == "no such file or directory ('/Data/README')"
    assert reason_and_path(OSError(errno.EPERM, "Not yours")) == "not yours"
