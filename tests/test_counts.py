"""Counts in sentences have the noun and the verb that fit them."""

from __future__ import annotations

import pytest

from classifold.counts import choose, count_of


@pytest.mark.parametrize(
    ("count", "noun", "text"),
    [
        (1, "picture", "1 picture"),
        (0, "picture", "0 pictures"),
        (1200, "picture", "1,200 pictures"),
        (2, "class", "2 classes"),
        (2, "copy", "2 copies"),
        (2, "day", "2 days"),
        (2, "batch", "2 batches"),
    ],
)
def test_the_noun_follows_the_count(count, noun, text):
    assert count_of(count, noun) == text


def test_an_irregular_plural_is_given():
    assert count_of(3, "link to a folder", "links to folders") == "3 links to folders"


def test_the_verb_follows_the_count():
    assert [choose(count, "is", "are") for count in (0, 1, 2)] == ["are", "is", "are"]
