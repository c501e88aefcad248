"""Make README's pictures from a real run: report and server in a browser, and a terminal session as it was.

    python docs/pictures.py                  draws flowers, trains on them, and takes both pictures
    python docs/pictures.py FOLDER           the same with pictures of your own
    python docs/pictures.py --keep WORK      leaves the session in WORK; from there it is drawn again at once

It needs what scripts/test installs, and Chromium on the PATH. Nothing is made up: each command runs in a
terminal of its own, 90 columns wide, and what it leaves on the screen is drawn.
"""

from __future__ import annotations

import argparse
import codecs
import fcntl
import json
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Sequence
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
COLUMNS, ROWS = 90, 45
# Of long answers the first and last lines are drawn; a line says how many are left out between them.
KEPT_LINES = {"check": (15, 0), "train": (19, 8)}
# The report's pictures: its width in CSS pixels, what is shown of its mistakes, the sharpness of each.
SERVER_WIDTH = 900
REPORT_WIDTH, MISTAKES_HEIGHT, SCALE, MISTAKES_SCALE, COLOURS = 1080, 640, 2, 1.4, 128
MAX_BYTES = 10**6
_CODES = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])|\x1b\].*?(?:\x07|\x1b\\)|\x1b[=>]|\r\n|[\r\n\b]")
# As rich draws a terminal, but with the reader's own fonts: rich's own would be fetched from a server.
SVG = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">
<title>A terminal session: check, train, predict and open a report</title>
<style>
.{unique_id}-matrix {{
  font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px; line-height: {line_height}px; white-space: pre;
}}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect width="{terminal_width}" height="{terminal_height}"/>
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


class Screen:
    """What a terminal without end shows after an answer: colours, lines that were drawn over, a cursor."""

    def __init__(self) -> None:
        self._cells: list[list[tuple[str, str]]] = [[]]
        self._row = self._column = 0
        self._style = ""

    def feed(self, text: str) -> None:
        """Take in what a program wrote."""
        place = 0
        for found in _CODES.finditer(text):
            self._write(text[place : found.start()])
            self._obey(found)
            place = found.end()
        self._write(text[place:])

    def _write(self, text: str) -> None:
        line = self._cells[self._row]
        for char in text:
            if self._column == COLUMNS:  # as a terminal does, only when something follows a full line
                line = self._begin_line()
            line += [(" ", "")] * (self._column + 1 - len(line))
            line[self._column] = char, self._style
            self._column += 1

    def _begin_line(self) -> list[tuple[str, str]]:
        self._row, self._column = self._row + 1, 0
        self._cells += [[] for _ in range(self._row + 1 - len(self._cells))]
        return self._cells[self._row]

    def _obey(self, found: re.Match[str]) -> None:
        count = int(found[1]) if (found[1] or "").isdigit() else 1
        if found[0] == "\r":
            self._column = 0
        elif found[0] in ("\n", "\r\n"):
            self._begin_line()
        elif found[2] == "A":
            self._row = max(0, self._row - count)
        elif found[2] == "K":
            # 2 clears the whole line, nothing or 0 what is right of the cursor.
            del self._cells[self._row][0 if found[1] == "2" else self._column :]
        elif found[2] == "m":
            self._style = "" if found[1] in ("", "0") else f"{self._style}\x1b[{found[1]}m"

    def lines(self) -> list[str]:
        """Return the lines with their colours as escape codes, without empty ones at the end."""
        shown = [_join_cells(line).rstrip() for line in self._cells]
        while shown and not shown[-1]:
            shown.pop()
        return shown


def _join_cells(line: Sequence[tuple[str, str]]) -> str:
    """Return a line of cells as text; each change of style is written as a reset and the new style."""
    parts, before = [], ""
    for char, style in line:
        parts.append(f"\x1b[0m{style}{char}" if style != before else char)
        before = style
    return "".join(parts) + ("\x1b[0m" if before else "")


def run_in_terminal(words: Sequence[str], *, folder: Path) -> list[str]:
    """Run a command in a terminal of its own and return what it leaves on the screen, line by line."""
    main, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    # Neither the width of the terminal that this runs in nor its wishes about colours.
    left_out = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "PYTHONPATH")
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    environment |= {"TERM": "xterm-256color", "BROWSER": "true"}
    process = subprocess.Popen(
        words, cwd=folder, env=environment, stdin=side, stdout=side, stderr=side, start_new_session=True
    )
    os.close(side)
    screen, decoder = Screen(), codecs.getincrementaldecoder("utf-8")("replace")
    try:
        # Linux reports the end of the terminal as an error, macOS as an empty answer.
        while data := os.read(main, 65536):
            screen.feed(decoder.decode(data))
    except OSError:
        pass
    os.close(main)
    lines = screen.lines()
    if process.wait():
        raise SystemExit("\n".join([f"error: {' '.join(words)}: exit code {process.returncode}", *lines]))
    return lines


def shorten(lines: Sequence[str], *, first: int, last: int) -> list[str]:
    """Return the lines without those between the first and the last ones; a line says how many these are."""
    more = len(lines) - first - last
    if more < 2:
        return list(lines)
    return [*lines[:first], f"\x1b[2m  … {more} lines are left out here …\x1b[0m", *lines[first + more :]]


def draw_session(parts: Sequence[tuple[str, Sequence[str]]]) -> str:
    """Return a session as SVG: each command after a prompt, and its answer below it."""
    from rich.console import Console
    from rich.text import Text

    console = Console(
        width=COLUMNS,
        record=True,
        file=StringIO(),
        force_terminal=True,
        color_system="truecolor",
        legacy_windows=False,
    )
    for number, (command, lines) in enumerate(parts):
        if number:
            console.print()
        console.print(Text.assemble(("$ ", "bold green"), (command, "bold")))
        first, last = KEPT_LINES.get(command.split()[1], (len(lines), 0))
        for line in shorten(lines, first=first, last=last):
            console.print(Text.from_ansi(line), no_wrap=True, crop=True)
    return console.export_svg(title="classifold", code_format=SVG, unique_id="session")


def prepare(work: Path, pictures: Path | None) -> None:
    """Put the pictures into `work` as `photos`; without any, draw flowers."""
    if pictures:
        shutil.copytree(pictures, work / "photos")
    else:
        run_in_terminal(["classifold", "example", "photos"], folder=work)


def find_run(work: Path) -> Path:
    """Return the run folder of a session."""
    (run,) = (path.parent for path in (work / "runs").glob("*/report.html"))
    return run


def take_session(work: Path) -> list[tuple[str, list[str]]]:
    """Run the four commands in `work`, which holds `photos`; return each with its answer."""
    first = ("classifold check photos/", "classifold train photos/")
    parts = [(command, run_in_terminal(command.split(), folder=work)) for command in first]
    place = find_run(work).relative_to(work)
    files = (work / "photos-split" / "evaluation").rglob("*")
    picture = next(path for path in sorted(files) if path.is_file())
    shutil.copy(picture, work / f"new{picture.suffix}")
    last = (f"classifold predict {place} new{picture.suffix}", f"classifold report {place}")
    return parts + [(command, run_in_terminal(command.split(), folder=work)) for command in last]


def take_report(run: Path) -> None:
    """Take two pictures of a report: its top, and its mistakes where there are some."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=find_chromium(), args=["--headless", "--no-sandbox"]
        )
        for name, scale in (("report", SCALE), ("report-mistakes", MISTAKES_SCALE)):
            size = {"width": REPORT_WIDTH, "height": MISTAKES_HEIGHT}
            page = browser.new_page(viewport=size, device_scale_factor=scale, color_scheme="light")
            page.goto((run / "report.html").resolve().as_uri())
            clip = find_top(page) if name == "report" else find_mistakes(page)
            if clip:
                shot = page.screenshot(full_page=True, clip={"x": 0, "width": REPORT_WIDTH, **clip})
                save_small(shot, IMAGES / f"{name}.png")
        browser.close()


def take_server(run: Path, picture: Path) -> None:
    """Take a picture of the server's page with the answer for a picture, and why."""
    from playwright.sync_api import sync_playwright

    words = [sys.executable, "-P", "-m", "classifold", "serve", str(run), "--port", "0"]
    sets = run.parents[1] / "photos-split"
    server = subprocess.Popen([*words, "--data", str(sets)], stderr=subprocess.PIPE, text=True)
    try:
        address = next(found[0] for line in server.stderr if (found := re.search(r"http://\S+/", line)))
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=find_chromium(), args=["--headless", "--no-sandbox"]
            )
            page = browser.new_page(
                viewport={"width": SERVER_WIDTH, "height": 900},
                device_scale_factor=MISTAKES_SCALE,
                color_scheme="light",
            )
            page.goto(address)
            page.set_input_files("#choose", str(picture))
            page.locator(".explanation").wait_for()
            page.locator("h1").click()  # the focus leaves no mark in the picture
            save_small(page.screenshot(full_page=True), IMAGES / "serve.png")
            browser.close()
    finally:
        server.terminate()
        server.wait()


def find_chromium() -> str:
    """Return the browser on the PATH."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if not found:
        raise SystemExit("error: Chromium is not on the PATH\nhint: apt-get install chromium")
    return found


def find_top(page: Any) -> dict[str, float]:
    """Return the part of the report above its contents: the answer, the scores, and what to be careful of."""
    return {"y": 0, "height": page.locator("nav").first.bounding_box()["y"]}


def find_mistakes(page: Any) -> dict[str, float] | None:
    """Return the first misclassified pictures as rows; None if there are none."""
    mistakes = page.locator("section#mistakes")
    if not mistakes.locator("img").count():
        return None
    box = mistakes.bounding_box()
    return {"y": box["y"], "height": min(box["height"], MISTAKES_HEIGHT)}


def save_small(shot: bytes, target: Path) -> None:
    """Write a screenshot as a PNG of few colours."""
    from PIL import Image

    with Image.open(BytesIO(shot)) as picture:
        few = picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
        few.save(target, optimize=True)


def main() -> int:
    """Make the pictures and return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pictures", nargs="?", type=Path, help="a folder with one sub-folder per class")
    parser.add_argument("--keep", type=Path, metavar="WORK", help="leave the session's folder here")
    wanted = parser.parse_args()
    # The commands of this environment, whatever else is on the PATH.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        work = wanted.keep or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        kept = work / "session.json"
        if not kept.exists():
            prepare(work, wanted.pictures)
            kept.write_text(json.dumps(take_session(work)), encoding="utf-8")
        parts = json.loads(kept.read_text(encoding="utf-8"))
        (IMAGES / "session.svg").write_text(draw_session(parts), encoding="utf-8")
        take_report(find_run(work))
        take_server(find_run(work), next(work.glob("new.*")))
    sizes = {path.name: path.stat().st_size for path in sorted(IMAGES.iterdir())}
    for name, size in sizes.items():
        print(f"docs/images/{name}: {size / 1000:.0f} kB")
    return 0 if sum(sizes.values()) <= MAX_BYTES else 1


if __name__ == "__main__":
    sys.exit(main())
