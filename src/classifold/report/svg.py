"""Elements of an inline SVG drawing, every text and attribute escaped."""

from __future__ import annotations

from collections.abc import Iterable

from markupsafe import Markup


def element(tag: str, *children: str, **attributes: object) -> Markup:
    """Return `<tag ...>children</tag>`; `class_` is `class`, an underscore in a name is a dash.

    Children that are no Markup are text and get escaped; numbers are cut to two decimals.
    """
    written = Markup("").join(
        Markup(' {}="{}"').format(name.rstrip("_").replace("_", "-"), _short(value))
        for name, value in attributes.items()
    )
    return Markup("<{0}{1}>{2}</{0}>").format(tag, written, Markup("").join(children))


def text(content: str, x: float, y: float, **attributes: object) -> Markup:
    """Return a text element at (x, y)."""
    return element("text", content, x=x, y=y, **attributes)


def line(x1: float, y1: float, x2: float, y2: float, *, class_: str) -> Markup:
    """Return a straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def drawing(
    children: Iterable[str], *, width: float, height: float, title: str, description: str, name: str
) -> Markup:
    """Return an `<svg>` that is a picture to a screen reader, with its title and description.

    Args:
        children: What is drawn.
        width: Of the view box; the drawing scales to the width of the page.
        height: Of the view box.
        title: What it is.
        description: What it shows, in words.
        name: Unique in the page.
    """
    return element(
        "svg",
        element("title", title, id=f"{name}-title"),
        element("desc", description, id=f"{name}-desc"),
        *children,
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        aria_labelledby=f"{name}-title {name}-desc",
        class_="chart",
    )


def _short(value: object) -> object:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else value
