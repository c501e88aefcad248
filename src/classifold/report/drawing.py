"""Draws with SVG: elements, scales, grids and bars, from which the charts of the pages are made."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from classifold.printable import without_control

WIDTH, HEIGHT = 400, 260
LEFT, RIGHT, TOP, BOTTOM = 50, 14, 28, 40


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps numbers to coordinates of the drawing, along one axis."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the coordinate of `value`."""
        span = self.high - self.low or 1
        return self.start + (value - self.low) / span * (self.end - self.start)


def nice_ticks(low: float, high: float, *, ceiling: float | None = None) -> list[float]:
    """Return 3 to 8 evenly spaced round figures that enclose `low` and `high`.

    Args:
        low: The smallest figure to show.
        high: The largest figure to show.
        ceiling: Largest allowed tick.
    """
    if high - low < 1e-9:
        low, high = low - 0.05, high + 0.05
    rough = (high - low) / 4
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * size for factor in (1, 2, 2.5, 5, 10) if factor * size >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = [round(index * step, 10) for index in range(first, last + 1)]
    return [tick for tick in ticks if ceiling is None or tick <= ceiling + 1e-9]


def draw_grid(ticks: Sequence[float], up: Scale, as_text: Callable[[float], str]) -> list[Markup]:
    """Draw a line and its figure for each tick of the upright axis."""
    parts = []
    for tick in ticks:
        y = up(tick)
        parts.append(line(LEFT, y, WIDTH - RIGHT, y, class_="grid"))
        parts.append(text(as_text(tick), LEFT - 6, y + 4, class_="tick", text_anchor="end"))
    return parts


def write_ticks(ticks: Sequence[float], *, as_percent: bool) -> Callable[[float], str]:
    """Return a function that writes ticks with enough decimals to differ from their neighbours."""
    scale, unit = (100, " %") if as_percent else (1, "")
    step = (ticks[1] - ticks[0]) * scale
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    decimals += abs(step * 10**decimals - round(step * 10**decimals)) > 1e-6
    return lambda value: f"{value * scale:.{decimals}f}{unit}"


def element(tag: str, *children: str, **attributes: object) -> Markup:
    """Return `<tag ...>children</tag>`; `class_` is `class`, an underscore in a name is a dash.

    Children that are not Markup are text and get escaped; numbers are rounded to two decimals.
    """
    written = Markup("").join(
        Markup(' {}="{}"').format(name.rstrip("_").replace("_", "-"), _short(value))
        for name, value in attributes.items()
    )
    return Markup("<{0}{1}>{2}</{0}>").format(
        tag, written, Markup("").join(without_control(child) for child in children)
    )


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
        children: The elements of the drawing.
        width: Width of the view box; the drawing scales to the width of the page.
        height: Height of the view box.
        title: Title for screen readers.
        description: The content in words, for screen readers.
        name: Identifier that is unique in the page.
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


def draw_interval(value: float | None, low: float | None, high: float | None) -> Markup:
    """Draw a bar from 0 to `value` with its interval as a whisker; decoration beside the figures."""
    if value is None:
        return Markup("")
    width, height = 120, 16
    along = Scale(0, 1, 1, width - 1)
    parts = [
        element("rect", x=0, y=3, width=width, height=10, rx=2, class_="track"),
        element("rect", x=0, y=3, width=along(min(max(value, 0.0), 1.0)), height=10, rx=2, class_="bar"),
    ]
    if low is not None and high is not None:
        start, end = along(max(low, 0.0)), along(min(high, 1.0))
        parts.append(line(start, 8, end, 8, class_="whisker"))
        parts += [line(x, 4.5, x, 11.5, class_="whisker") for x in (start, end)]
    return element("svg", *parts, viewBox=f"0 0 {width} {height}", class_="meter", aria_hidden="true")
