"""Words for people."""

import pytest

from toolkit import text


@pytest.mark.parametrize(("count", "words"), [(0, "0 layers"), (1, "1 layer"), (2, "2 layers")])
def test_a_number_and_its_word(count: int, words: str) -> None:
    assert text.counted(count, "layer") == words
