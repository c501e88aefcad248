"""How fast check.html opens with 100,000 findings, and how fast a plan of many files is applied and undone.

    python benchmarks/check_page.py [--findings 100000] [--files 10000] [--rounds 3]

The page is that of made findings (half groups of two, a tenth labels, the rest unusual pictures; no pictures
on the disk, so no thumbnails), opened in headless Chromium through playwright:

    ours    check.html: written, opened until its first findings can be used, filtered, one finding further
    plain   one HTML page with every finding in it, as a script would print it, opened until it is loaded

The plan moves every second file of a folder of 1,000-byte files to quarantine, and the rest to another class:

    ours     apply_plan, then undo: checks every row, writes the journal, flushes the folders
    shutil   a loop of shutil.move, and another one back: no check, no journal

Medians over the rounds; writes benchmarks/results/check_page.json. About a minute on two cores.
"""

from __future__ import annotations

import argparse
import html
import importlib.metadata
import json
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from classifold.datacheck.apply import apply_plan, undo
from classifold.datacheck.page import write_check_page
from classifold.datacheck.plan import Step, write_plan
from classifold.findings import Findings, Group, LabelSuspect, Neighbour, PictureFinding
from decode import describe_machine

RESULTS = Path(__file__).parent / "results" / "check_page.json"
PACKAGES = ("classifold", "playwright", "jinja2")
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--findings", type=int, default=100_000)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        pages = measure_pages(Path(scratch), args.findings, args.rounds)
        rounds = [measure_moves(Path(scratch) / f"moves{n}", args.files) for n in range(args.rounds)]
    report = {
        "command": "python benchmarks/check_page.py",
        "settings": {"findings": args.findings, "files": args.files, "rounds": args.rounds},
        "machine": describe_machine(),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "page": pages,
        "plan": {name: round(statistics.median(one[name] for one in rounds), 3) for name in rounds[0]},
    }
    print(json.dumps({name: report[name] for name in ("page", "plan")}, indent=2))
    args.output.parent.mkdir(exist_ok=True)
    args.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def make_findings(count: int) -> Findings:
    """Return the given number of findings, spread over a hundred classes."""
    chance = random.Random(0)
    groups = tuple(
        Group(
            kind=chance.choice(["exact", "near", "burst"]),
            files=(f"class {n % 100}/IMG_{n:06}.jpg", f"class {n % 100}/IMG_{n:06} copy.jpg"),
            labels=(f"class {n % 100}",) * 2,
            changes=("", "cropped"),
            reason="The same photograph, cropped.",
        )
        for n in range(count // 2)
    )
    labels = tuple(
        LabelSuspect(
            file=f"class {n % 100}/P_{n:06}.jpg",
            label=f"class {n % 100}",
            suggested=f"class {(n + 1) % 100}",
            certainty=1 - n / count,
            neighbours=tuple(
                Neighbour(file=f"class {m}/N_{m}.jpg", label=f"class {m}", similarity=0.9) for m in range(5)
            ),
        )
        for n in range(count // 10)
    )
    pictures = tuple(
        PictureFinding(
            file=f"class {n % 100}/B_{n:06}.jpg",
            kind=chance.choice(["blurred", "dark", "blank"]),
            reason=f"Sharpness {chance.random():.4f} is far below what is usual in this folder.",
        )
        for n in range(count - len(groups) - len(labels))
    )
    return Findings(source="pictures", groups=groups, labels=labels, pictures=pictures, num_pictures=count)


def write_plain(path: Path, findings: Findings) -> None:
    """Write one page with a row for every finding."""
    rows: list[tuple[str, str, str]] = [
        (", ".join(one.files), one.kind, one.reason) for one in findings.groups
    ]
    rows += [(one.file, "label", one.suggested) for one in findings.labels]
    rows += [(one.file, one.kind, one.reason) for one in findings.pictures]
    cells = (f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    path.write_text(f"<!doctype html><table>{''.join(cells)}</table>", encoding="utf-8")


def seconds(work: Callable[[], Any]) -> float:
    """Return how long something takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def measure_pages(scratch: Path, count: int, rounds: int) -> Mapping[str, Mapping[str, float]]:
    """Return seconds and megabytes of both pages, medians over the rounds."""
    from playwright.sync_api import sync_playwright

    findings = make_findings(count)
    ours, plain = scratch / "check.html", scratch / "plain.html"
    written = {
        "ours": seconds(lambda: write_check_page(ours, findings, max_pixels=10**8)),
        "plain": seconds(lambda: write_plain(plain, findings)),
    }
    with sync_playwright() as playwright:
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        found = [
            {"ours": open_ours(browser, ours), "plain": open_plain(browser, plain)} for _ in range(rounds)
        ]
        browser.close()
    return {
        way: {
            "write_s": round(written[way], 2),
            "megabytes": round((ours if way == "ours" else plain).stat().st_size / 1e6, 1),
            **_medians([one[way] for one in found]),
        }
        for way in ("ours", "plain")
    }


def _medians(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: round(statistics.median(one[name] for one in rounds), 3) for name in rounds[0]}


def open_ours(browser: Any, page_path: Path) -> dict[str, float]:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    taken = {"open_s": seconds(lambda: (page.goto(page_path.as_uri()), page.evaluate(_PAINTED)))}
    taken["filter_s"] = seconds(
        lambda: (page.select_option("#filter-kind", "blurred"), page.evaluate(_PAINTED))
    )
    taken["next_s"] = seconds(lambda: (page.keyboard.press("j"), page.evaluate(_PAINTED)))
    taken["heap_mb"] = page.evaluate("performance.memory.usedJSHeapSize / 1e6")
    page.close()
    return taken


def open_plain(browser: Any, page_path: Path) -> dict[str, float]:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    taken = {"open_s": seconds(lambda: (page.goto(page_path.as_uri()), page.evaluate(_PAINTED)))}
    page.close()
    return taken


# Answers after the next frame has been drawn.
_PAINTED = "new Promise(done => requestAnimationFrame(() => setTimeout(done)))"


def measure_moves(root: Path, count: int) -> dict[str, float]:
    """Return seconds for a plan and for loops of shutil.move over the same files."""
    folder = root / "data"
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
    for number in range(count):
        (folder / f"a/{number}.jpg").write_bytes(b"x" * 1000)
    steps = [
        Step(f"a/{n}.jpg", "quarantine") if n % 2 else Step(f"a/{n}.jpg", "move", "b") for n in range(count)
    ]
    write_plan(root / "plan.csv", steps)
    taken = {
        "ours_apply_s": seconds(lambda: apply_plan(folder, root / "plan.csv")),
        "ours_undo_s": seconds(lambda: undo(folder)),
    }
    (root / "gone/a").mkdir(parents=True)
    pairs = [
        (folder / f"a/{n}.jpg", (root / "gone/a" if n % 2 else folder / "b") / f"{n}.jpg")
        for n in range(count)
    ]
    taken["shutil_there_s"] = seconds(lambda: [shutil.move(one, other) for one, other in pairs])
    taken["shutil_back_s"] = seconds(lambda: [shutil.move(other, one) for one, other in pairs])
    shutil.rmtree(root)
    return taken


if __name__ == "__main__":
    main()
