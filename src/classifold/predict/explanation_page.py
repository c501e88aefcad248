"""The page of `predict --explain`: what each picture was named, why, and the training pictures like it."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from classifold.counts import count_of
from classifold.model_card import ModelCard
from classifold.pages import open_templates

if TYPE_CHECKING:
    from jinja2 import Environment


@dataclass
class PagePart:
    """How many pictures there are, and of what kind."""

    num_pictures: int = 0
    num_unknown: int = 0
    num_unreadable: int = 0
    num_shown: int = 0
    has_neighbours: bool = False

    def count(self, row: Mapping[str, Any]) -> None:
        """Count a picture, by its entry in explain.json."""
        self.num_pictures += 1
        self.num_unknown += bool(row["unknown"])
        self.num_unreadable += row["error"] is not None
        self.num_shown += bool(row["heat_map"] and row["heat_map"]["is_shown"])
        self.has_neighbours |= bool(row["neighbours"])

    def describe(self) -> str:
        """Return it in one sentence."""
        explained = self.num_pictures - self.num_unreadable
        parts = [f"{self.num_shown:,} of {count_of(explained, 'picture')} have a heat map"]
        if self.num_unknown:
            parts.append(f"{self.num_unknown:,} are unknown")
        if self.num_unreadable:
            parts.append(f"{self.num_unreadable:,} more could not be read")
        return "; ".join(parts) + "."


@dataclass(frozen=True, slots=True)
class Item:
    """A picture on the page, as text."""

    row: Mapping[str, Any]
    title: str
    alt: str
    figures: str
    reason: str = ""


def build_item(row: Mapping[str, Any]) -> Item:
    """Return a picture's part of the page from its entry in explain.json."""
    if row["error"] is not None:
        return Item(row, "could not be read", "", str(row["error"]))
    name = row["predicted_class"]
    share = f"{100 * row['confidence']:.1f} %"
    title = f"unknown (best guess: {name}, {share})" if row["unknown"] else f"{name}, {share}"
    return Item(
        row, title, _describe_picture(row, name), _describe_map(row["heat_map"]), _describe_reason(row)
    )


def _describe_reason(row: Mapping[str, Any]) -> str:
    """Return why a picture is unknown; empty if it is not."""
    if row["reason"] is None:
        return ""
    if row["reason"] == "distance":
        return "Unlike the training pictures: too far from them."
    return f"Unsure: below the minimum confidence, {100 * row['min_confidence']:.4g} %."


def _describe_picture(row: Mapping[str, Any], name: str) -> str:
    if row["heat_map"]["is_shown"]:
        return f"The picture with the places bright that speak for {name}"
    return f"The picture, named {name}, without a heat map"


def _describe_map(heat_map: Mapping[str, Any]) -> str:
    """Return the sentence below a picture: the figures of its map beside those of random maps."""
    deletion, insertion = heat_map["deletion"], heat_map["insertion"]
    figures = (
        f"deletion {deletion:.2f} (random maps {heat_map['random_deletion']:.2f}), "
        f"insertion {insertion:.2f} (random maps {heat_map['random_insertion']:.2f})"
    )
    if heat_map["is_shown"]:
        return f"Faithfulness of the heat map: {figures}."
    return f"No heat map: it was not clearly better than random ones: {figures}."


def page_name(number: int) -> str:
    """Return the file of a page, from 1."""
    return "index.html" if number == 1 else f"page-{number}.html"


def render_items(items: Sequence[Item], first: int) -> str:
    """Return pictures as HTML, numbered from `first`."""
    return _templates().get_template("explain_items.html.j2").render(items=items, first=first)


def render_page(
    items: str, number: int, num_pages: int, *, per_page: int, part: PagePart, card: ModelCard
) -> str:
    """Return a page as HTML; every text in it is escaped, and nothing outside its folder is loaded.

    Args:
        items: Its pictures, as `render_items` returns them.
        number: Of the page, from 1.
        num_pages: Number of all pages.
        per_page: Pictures of every page but the last.
        part: What all pages have.
        card: The model card.
    """
    from markupsafe import Markup

    from classifold import __version__

    links = [(page, page_name(page)) for page in range(1, num_pages + 1)]
    return (
        _templates()
        .get_template("explain.html.j2")
        .render(
            items=Markup(items),  # noqa: S704 - a template of ours made it and has escaped it
            number=number,
            per_page=per_page,
            links=links,
            summary=part.describe(),
            has_neighbours=part.has_neighbours,
            is_exact=bool(card.class_maps),
            run=card.run or "a model",
            version=__version__,
        )
    )


@functools.cache
def _templates() -> Environment:
    return open_templates("classifold.predict")
