"""What check.html says at its top and in its tables: what to do first, the figures, the classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from classifold.counts import choose, count_of
from classifold.datacheck.cases import Case, count_kinds
from classifold.datacheck.plan import UNREADABLE_KINDS
from classifold.findings import Findings
from classifold.names import SETS
from classifold.printable import make_printable
from classifold.report.data_check import describe_cost
from classifold.report.drawing import draw_interval, drawing, element
from classifold.report.sentences import percent

MOST_CLASSES = 30  # in the drawing; the table has all
_BAR, _ROW, _LABEL = 250, 24, 140


@dataclass(frozen=True, slots=True)
class Advice:
    """One thing to do: what was found, what follows, and the kind of case to look at ("" for none)."""

    title: str
    text: str
    kind: str


@dataclass(frozen=True, slots=True)
class Tile:
    """A figure at the top of the page."""

    label: str
    value: str
    detail: str


@dataclass(frozen=True, slots=True)
class ClassRow:
    """A class in the table: pictures in each set, and how many cases of each kind touch it."""

    name: str
    counts: Sequence[int]
    copies: int
    labels: int
    unusual: int


def build_advice(findings: Findings, cases: Sequence[Case]) -> list[Advice]:
    """Return what to do, the most harmful finding first.

    Args:
        findings: What was found.
        cases: The cases of these findings.
    """
    counts = count_kinds(cases)
    found = [
        _advise_leaks(findings, counts.get("leak", 0)),
        _advise(counts, "conflict", "picture is under two labels", "Decide which label is right."),
        _advise_labels(findings),
        *_advise_shortcuts(findings),
        _advise_unreadable(counts),
        _advise_copies(counts),
        *_advise_unusual(findings, counts),
        _advise_few(findings),
        *(
            Advice(f"The {one.set_name} set differs from training in {one.what}", one.reason, "")
            for one in findings.sets.drift
        ),
    ]
    return [one for one in found if one is not None]


def _advise_leaks(findings: Findings, count: int) -> Advice | None:
    if not count:
        return None
    title = f"{count_of(count, 'photograph')} {choose(count, 'is', 'are')} in more than one set"
    text = "The score counts pictures that the model has seen. Quarantine the copies in one of the sets."
    if findings.effect is not None:
        effect = findings.effect
        text = effect.reason or (
            f"Accuracy {percent(effect.accuracy.value)}; without the {effect.num_leaks:,} evaluation "
            f"pictures that have a copy elsewhere {percent(effect.without_leaks.value)}."
        )
    return Advice(title, text, "leak")


def _advise(counts: dict[str, int], kind: str, what: str, text: str) -> Advice | None:
    count = counts.get(kind, 0)
    if not count:
        return None
    noun, _, rest = what.partition(" is ")
    return Advice(f"{count_of(count, noun)} {choose(count, 'is', 'are')} {rest}", text, kind)


def _advise_labels(findings: Findings) -> Advice | None:
    count = len(findings.labels)
    if not count:
        return None
    text = "Look at the most certain ones first; the plan moves only those that are nearly sure."
    if findings.estimate is not None:
        one = findings.estimate
        text = f"About {one.value:,.0f} labels are wrong ({one.low:,.0f} to {one.high:,.0f}). {text}"
    return Advice(f"{count_of(count, 'label')} {choose(count, 'is', 'are')} probably wrong", text, "label")


def _advise_shortcuts(findings: Findings) -> list[Advice]:
    return [
        Advice(
            f"The class can be told by {one.name} alone",
            f"{one.reason or one.name}. By chance it would be {percent(one.chance, decimals=0)}. A model may "
            "learn this instead of the subject.",
            "",
        )
        for one in findings.shortcuts
    ]


def _advise_unreadable(counts: dict[str, int]) -> Advice | None:
    kinds = [kind for kind in counts if kind in UNREADABLE_KINDS]
    count = sum(counts[kind] for kind in kinds)
    if not count:
        return None
    return Advice(f"{count_of(count, 'picture')} cannot be read", "The plan quarantines them.", kinds[0])


def _advise_copies(counts: dict[str, int]) -> Advice | None:
    exact, near = counts.get("exact", 0), counts.get("near", 0)
    if not exact + near:
        return None
    text = "The plan quarantines exact copies. Near copies stay, and the split keeps them in one set."
    return Advice(
        f"{count_of(exact + near, 'group')} of copies within one set", text, "exact" if exact else "near"
    )


def _advise_unusual(findings: Findings, counts: dict[str, int]) -> list[Advice]:
    costs = {one.kind: one for one in findings.costs}
    advice = []
    for kind, count in Counter(one.kind for one in findings.pictures).most_common():
        if kind in UNREADABLE_KINDS or kind not in counts:
            continue
        cost = costs.get(kind)
        text = "Check whether they belong in the data."
        if cost is not None:
            sentence = describe_cost(cost)
            text = f"{sentence[0].upper()}{sentence[1:]}."
        advice.append(Advice(f"{count_of(count, 'picture')}: {kind}", text, kind))
    return advice


def _advise_few(findings: Findings) -> Advice | None:
    few = findings.sets.few
    if not few:
        return None
    named = ", ".join(f"{name} ({count:,})" for name, count in list(few.items())[:5])
    more = f" and {len(few) - 5:,} more" if len(few) > 5 else ""
    verb = choose(len(few), "has", "have")
    return Advice(f"{count_of(len(few), 'class')} {verb} too few pictures", f"{named}{more}.", "")


def build_headline(advice: Sequence[Advice]) -> str:
    """Return the headline: the most harmful finding, or that there is none."""
    return f"{advice[0].title}." if advice else "Nothing was found that needs your attention."


def build_tiles(findings: Findings, cases: Sequence[Case]) -> list[Tile]:
    """Return the figures at the top.

    Args:
        findings: What was found.
        cases: The cases of these findings.
    """
    counts = count_kinds(cases)
    tiles = [Tile("Pictures", f"{findings.num_pictures:,}", f"{len(cases):,} findings")]
    if findings.effect is not None:
        effect = findings.effect
        detail = f"{percent(effect.accuracy.value)} with them"
        tiles.append(Tile("Accuracy without leaks", percent(effect.without_leaks.value), detail))
    copies = sum(counts.get(kind, 0) for kind in ("leak", "exact", "near"))
    tiles.append(Tile("Groups of copies", f"{copies:,}", f"{counts.get('leak', 0):,} across sets"))
    estimate = findings.estimate
    detail = f"about {estimate.value:,.0f} in all" if estimate else "not checked"
    tiles.append(
        Tile("Suspect labels", f"{len(findings.labels):,}", detail if not findings.labels or estimate else "")
    )
    tiles.append(Tile("Unusual pictures", f"{len(findings.pictures):,}", ""))
    return tiles


def build_classes(findings: Findings, cases: Sequence[Case]) -> tuple[list[str], list[ClassRow]]:
    """Return the names of the sets that are known, and the classes by name.

    Args:
        findings: What was found.
        cases: The cases of these findings.
    """
    counts = findings.sets.counts
    set_names = [name for name in SETS if name in counts] + sorted(set(counts) - set(SETS))
    touched: dict[str, Counter[str]] = {name: Counter() for part in counts.values() for name in part}
    for case in cases:
        sort = {
            "label": "labels",
            "leak": "copies",
            "exact": "copies",
            "near": "copies",
            "conflict": "copies",
        }
        for label in {file.label for file in case.files if file.label}:
            touched.setdefault(label, Counter())[sort.get(case.kind, "unusual")] += 1
    return set_names, [
        ClassRow(
            name,
            [counts[one].get(name, 0) for one in set_names],
            found["copies"],
            found["labels"],
            found["unusual"],
        )
        for name, found in sorted(touched.items())
    ]


def draw_classes(set_names: Sequence[str], rows: Sequence[ClassRow]) -> Markup:
    """Draw the number of pictures of each class as bars, one colour for each set; "" without numbers.

    Args:
        set_names: Names of the sets.
        rows: The classes; the first `MOST_CLASSES` are drawn, the largest first.
    """
    largest = sorted((row for row in rows if sum(row.counts)), key=lambda row: -sum(row.counts))[
        :MOST_CLASSES
    ]
    if not largest:
        return Markup("")
    most = sum(largest[0].counts)
    parts: list[Markup] = []
    for place, row in enumerate(largest):
        y, x = place * _ROW, float(_LABEL)
        full = make_printable(row.name)
        name = full if len(full) <= 18 else f"{full[:17]}…"
        parts.append(element("text", name, x=_LABEL - 8, y=y + 16, text_anchor="end"))
        for number, (set_name, count) in enumerate(zip(set_names, row.counts, strict=True)):
            width = count / most * _BAR
            tip = element("title", f"{full}, {make_printable(set_name)}: {count:,}")
            parts.append(
                element("rect", tip, x=x, y=y + 4, width=width, height=15, class_=f"set{number % 3}")
            )
            x += width
        parts.append(element("text", f"{sum(row.counts):,}", x=x + 6, y=y + 16))
    words = make_printable(
        f"{largest[0].name} has {most:,} pictures, {largest[-1].name} {sum(largest[-1].counts):,}."
    )
    return drawing(
        parts,
        width=_LABEL + _BAR + 60,
        height=len(largest) * _ROW,
        title="Pictures of each class",
        description=words,
        name="class-bars",
    )


def draw_share(value: float) -> Markup:
    """Draw a bar for a share, 0 to 1; decoration beside the figure."""
    return draw_interval(value, None, None)
