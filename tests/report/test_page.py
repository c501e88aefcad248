from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from classifold.dataset.record import write_record
from classifold.dataset.scan import load_sets
from classifold.errors import DataError, DiskError
from classifold.report.page import write_report, write_report_of_training
from classifold.training.unfinished import partial_of

Make = Callable[..., Any]
VOID = {"meta", "link", "br", "img", "input"}


class Outline(HTMLParser):
    """Checks that tags are balanced, and collects elements and the text of table rows."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.text: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self.open or "script" in self.open:
            return
        self.text.append(data)
        if "tr" in self.open and self.rows and self.rows[-1]:
            self.rows[-1][-1] = (self.rows[-1][-1] + data).strip()

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def read(page: Path) -> tuple[str, Outline]:
    html = page.read_text(encoding="utf-8")
    return html, Outline(html)


def words(outline: Outline) -> str:
    return " ".join(" ".join(outline.text).split())


def test_the_page_tells_the_figures_of_the_run(make_run: Make) -> None:
    made = make_run()
    html, outline = read(write_report(made.run_dir))
    right = int((made.true == made.predicted).sum())
    assert html.startswith("<!doctype html>")
    assert f"Measured on 75 pictures that were not used in training: {right} were named correctly." in words(
        outline
    )
    metrics = json.loads((made.run_dir / "metrics.json").read_text())
    accuracy = next(row for row in outline.rows if row[0] == "Accuracy")
    assert accuracy[1] == f"{100 * metrics['scores']['accuracy']['value']:.1f}\u00a0%"
    weakest = min(metrics["per_class"], key=lambda row: row["f1"])
    header = next(i for i, row in enumerate(outline.rows) if row[:2] == ["Class", "Pictures"])
    shown = outline.rows[header + 1]
    assert shown[:2] == [weakest["class_name"], "15"]
    assert shown[3].startswith(f"{100 * weakest['precision']:.0f}\u00a0%")
    interval = f"{100 * weakest['recall_low']:.0f} to {100 * weakest['recall_high']:.0f}"
    assert shown[4] == f"{100 * weakest['recall']:.0f}\u00a0%{interval}"


def test_a_page_that_is_written_before_the_run_has_its_folder_bears_the_runs_name(make_run: Make) -> None:
    made = make_run(pictures=False)
    folder = partial_of(made.run_dir.with_name("petals-2026-01-01-00-00-00"))
    html, _ = read(write_report(made.run_dir.rename(folder)))
    assert "petals-2026-01-01-00-00-00" in html
    assert folder.name not in html


def test_the_confusion_matrix_stands_in_the_page_cell_by_cell(make_run: Make) -> None:
    made = make_run(pictures=False)
    _, outline = read(write_report(made.run_dir))
    matrix = json.loads((made.run_dir / "metrics.json").read_text())["confusion_matrix"]
    start = next(i for i, row in enumerate(outline.rows) if row[0].startswith("named"))
    shown = [row[1:] for row in outline.rows[start + 1 : start + 6]]
    assert shown == [[str(count) for count in row] for row in matrix]


def test_more_classes_than_can_be_read_become_a_drawing_and_a_list(make_run: Make) -> None:
    made = make_run([f"kind {i:03}" for i in range(110)], per_class=3, pictures=False)
    html, outline = read(write_report(made.run_dir))
    assert 'class="matrix' not in html
    squares = "".join(re.findall(r'<path d="([^"]+)" class="wrong"', html))
    mistakes = [
        count
        for i, row in enumerate(json.loads((made.run_dir / "metrics.json").read_text())["confusion_matrix"])
        for j, count in enumerate(row)
        if i != j and count
    ]
    assert squares.count("M") == len(mistakes)
    assert f"of {len(mistakes)} kinds of mistakes" in words(outline)
    assert {f"cell-{one['data-cell']}" for one in outline.all("rect") if "data-cell" in one} == {
        one["id"] for one in outline.all("div") if str(one.get("id")).startswith("cell-")
    }


@pytest.mark.parametrize("num_classes", [2, 13, 30])
def test_any_number_of_classes_makes_a_page(make_run: Make, num_classes: int) -> None:
    made = make_run([f"kind {i:03}" for i in range(num_classes)], per_class=2, pictures=False)
    html, _ = read(write_report(made.run_dir))
    assert 'class="matrix' in html


def test_the_surest_mistakes_are_shown_with_their_pictures(make_run: Make) -> None:
    made = make_run()
    _, outline = read(write_report(made.run_dir))
    pictures = [one for one in outline.all("img") if one["class"] == "large"]
    wrong = made.true != made.predicted
    assert len(pictures) == min(wrong.sum(), 12)
    assert all(str(picture["src"]).startswith("data:image/jpeg;base64,") for picture in pictures)
    surest = max(range(75), key=lambda i: made.probabilities[i].max() * wrong[i])
    names = made.class_names
    assert pictures[0]["alt"] == f"{names[made.true[surest]]}, named {names[made.predicted[surest]]}"


def test_pictures_that_have_moved_are_found_where_the_user_says(make_run: Make, tmp_path: Path) -> None:
    made = make_run()
    (made.data_dir / "evaluation").rename(tmp_path / "moved")
    html, outline = read(write_report(made.run_dir))
    assert not outline.all("img")
    absent = html.count("picture not here")
    assert absent > 12
    assert "--data DIR" in html
    html, outline = read(write_report(made.run_dir, data_dir=tmp_path / "moved"))
    assert len(outline.all("img")) == absent
    assert "--data DIR" not in html


def test_a_report_without_its_pictures_says_so_and_those_of_the_earlier_report_are_kept(
    make_run: Make, tmp_path: Path
) -> None:
    made = make_run()
    said: list[str] = []
    page = write_report(made.run_dir, tell=said.append)
    assert said == []
    html = page.read_text(encoding="utf-8")
    # The split has changed since.
    write_record(made.data_dir / "split.json", {"fingerprint": "another"}, {})
    count = len(set(re.findall(r'<span class="file" title="([^"]*)"', html)))
    assert write_report(made.run_dir, tell=said.append).read_text(encoding="utf-8") == html
    why = "no folder holds exactly the pictures of this run: "
    why += f"{made.data_dir} has changed since, or is not there"
    assert said == [f"{why}; the report shows {count} of {count} pictures, those of the earlier report"]
    page.unlink()
    write_report(made.run_dir, tell=said.append)
    cure = f"to show them: classifold report {made.run_dir} --data DIR"
    assert said[1:] == [f"{why}; the report shows 0 of {count} pictures; {cure}"]
    (tmp_path / "empty").mkdir()
    write_report(made.run_dir, data_dir=tmp_path / "empty", tell=said.append)
    assert said[2].startswith(
        f"the picture files were looked for in {tmp_path / 'empty'}; the report shows 0 "
    )


def test_nothing_but_a_thumbnail_is_taken_from_an_earlier_report(make_run: Make) -> None:
    made = make_run(pictures=False)
    page = write_report(made.run_dir)
    html = page.read_text(encoding="utf-8")
    tile = '<div class="absent">picture not here</div>'
    for image in ("file:///etc/passwd", "https://example.org/x.jpg", "data:image/svg+xml;base64,AAAA"):
        page.write_text(html.replace(tile, f'<img src="{image}" alt="">'), encoding="utf-8")
        assert not read(write_report(made.run_dir))[1].all("img")
    page.write_text(html.replace(tile, '<img src="data:image/jpeg;base64,AAAA" alt="">'), encoding="utf-8")
    assert read(write_report(made.run_dir))[1].all("img")
    page.write_bytes(b"\xff")
    assert not read(write_report(made.run_dir))[1].all("img")


@pytest.mark.parametrize("is_same", [True, False])
def test_a_run_that_was_trained_elsewhere_finds_the_same_sets_at_home(
    make_run: Make, tmp_path: Path, is_same: bool
) -> None:
    made = make_run()
    made.data_dir.rename(tmp_path / "home")
    environment = json.loads((made.run_dir / "environment.json").read_text())
    fingerprint = environment["data"]["fingerprint"] if is_same else "another"
    write_record(tmp_path / "home" / "split.json", {"fingerprint": fingerprint}, {"pictures": []})
    _, outline = read(write_report(made.run_dir, home_dir=tmp_path / "home"))
    assert bool(outline.all("img")) == is_same


def test_a_run_from_elsewhere_shows_no_pictures_of_a_folder_that_it_names(make_run: Make) -> None:
    made = make_run()
    record = made.data_dir / "split.json"
    for change in (record.unlink, lambda: write_record(record, {"fingerprint": "another"}, {})):
        change()
        (made.run_dir / "report.html").unlink(missing_ok=True)
        assert not read(write_report(made.run_dir))[1].all("img")
        assert read(write_report(made.run_dir, data_dir=made.data_dir))[1].all("img")
        assert read(write_report_of_training(made.run_dir))[1].all("img")


def test_a_run_without_a_fingerprint_shows_no_pictures_of_a_folder_that_it_names(make_run: Make) -> None:
    made = make_run()
    environment = json.loads((made.run_dir / "environment.json").read_text())
    environment["data"]["fingerprint"] = ""
    (made.run_dir / "environment.json").write_text(json.dumps(environment))
    write_record(made.data_dir / "split.json", {"fingerprint": ""}, {})
    assert not read(write_report(made.run_dir))[1].all("img")


def test_a_split_of_the_users_own_is_known_by_its_files(make_run: Make) -> None:
    made = make_run()
    (made.data_dir / "split.json").unlink()
    for name in ("training", "validation"):
        shutil.copytree(made.data_dir / "evaluation", made.data_dir / name)
    environment = json.loads((made.run_dir / "environment.json").read_text())
    environment["data"]["fingerprint"] = load_sets(made.data_dir).fingerprint
    (made.run_dir / "environment.json").write_text(json.dumps(environment))
    assert read(write_report(made.run_dir))[1].all("img")
    picture = next((made.data_dir / "training").rglob("*.jpg"))
    picture.write_bytes(picture.read_bytes() + b"more")
    (made.run_dir / "report.html").unlink()
    assert not read(write_report(made.run_dir))[1].all("img")


def test_a_run_sets_no_bound_above_the_default_to_the_pictures_that_are_read(make_run: Make) -> None:
    made = make_run()
    for stated, given, is_shown in (
        (10, None, False),
        (10**12, None, True),
        (10, 10**6, True),
        (10**6, 10, False),
    ):
        settings = json.loads((made.run_dir / "config.json").read_text()) | {"MAX_PIXELS": stated}
        (made.run_dir / "config.json").write_text(json.dumps(settings))
        (made.run_dir / "report.html").unlink(missing_ok=True)
        page = read(write_report(made.run_dir, max_pixels=given))[1]
        assert bool(page.all("img")) == is_shown


def test_a_data_folder_that_is_not_there_is_refused(make_run: Make, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        write_report(make_run(pictures=False).run_dir, data_dir=tmp_path / "nowhere")


def test_names_that_look_like_markup_stay_names(make_run: Make) -> None:
    evil = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{ 7 * 7 }}", "</style><b>&amp;"]
    made = make_run(evil, per_class=6, pictures=False, skill=0.5, name="<i>run")
    html, outline = read(write_report(made.run_dir))
    assert outline.all("script") == [{}]  # the page's own
    assert not outline.all("img")
    assert not outline.all("i")
    assert all(not name.startswith("on") for _, attributes in outline.elements for name in attributes)
    for name in evil:
        assert name in outline.text or any(name in row for row in outline.rows)
    assert "&lt;script&gt;alert(1)" in html


def test_names_with_control_characters_are_written_as_escapes(make_run: Make) -> None:
    made = make_run(["\x1b[31mred", "gr\u202een\x9b", "a\nb"], per_class=6, pictures=False, skill=0.5)
    html, outline = read(write_report(made.run_dir))
    assert not [char for char in html if unicodedata.category(char) in ("Cc", "Cf") and char != "\n"]
    for shown in ("\\x1b[31mred", "gr\\u202een\\x9b", "a\\nb"):
        assert shown in outline.text or any(shown in row for row in outline.rows)


def test_the_page_refers_to_nothing_outside_itself(make_run: Make) -> None:
    html, outline = read(write_report(make_run().run_dir))
    for _, attributes in outline.elements:
        for name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href"):
            if name in attributes:
                assert str(attributes[name]).startswith(("#", "data:"))
    assert not re.search(r"https?:|//[a-z]|@import|url\(", re.sub(r"base64,[A-Za-z0-9+/=]+", "", html))
    targets = {attributes.get("id") for _, attributes in outline.elements}
    assert {str(link["href"])[1:] for link in outline.all("a")} <= targets


def test_ids_are_unique_and_every_header_cell_has_a_scope(make_run: Make) -> None:
    _, outline = read(write_report(make_run(pictures=False).run_dir))
    ids = [attributes["id"] for _, attributes in outline.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert all(cell.get("scope") in ("row", "col") for cell in outline.all("th"))
    assert all(
        set(str(e["aria-labelledby"]).split()) <= set(ids)
        for _, e in outline.elements
        if "aria-labelledby" in e
    )
    assert len(outline.all("h1")) == 1
    for drawing in outline.all("svg"):
        assert drawing.get("role") == "img" or drawing.get("aria-hidden") == "true"


def test_changed_settings_stand_beside_their_defaults(make_run: Make) -> None:
    _, outline = read(write_report(make_run(pictures=False).run_dir))
    assert ["BATCH_SIZE", "16", '"auto"'] in outline.rows
    assert ["IMAGE_SIZE", "224"] in outline.rows


def test_what_a_recipe_decided_is_not_told_as_the_users_choice(make_run: Make) -> None:
    run_dir = make_run(pictures=False).run_dir
    settings = json.loads((run_dir / "config.json").read_text())
    settings |= {"RECIPE": "best", "EPOCHS": 16, "IMAGE_SIZE": 256}
    (run_dir / "config.json").write_text(json.dumps(settings))
    _, outline = read(write_report(run_dir))
    assert ["EPOCHS", "16 (by RECIPE)", "10"] in outline.rows
    assert ["IMAGE_SIZE", "256", "224"] in outline.rows
    assert ["RECIPE", '"best"', '"balanced"'] in outline.rows


def test_skipped_pictures_are_named_with_their_reason(make_run: Make) -> None:
    made = make_run(pictures=False)
    path = made.run_dir / "metrics.json"
    metrics = json.loads(path.read_text())
    metrics["unreadable"] = [{"path": f"daisy/{i}.jpg", "reason": f"reason {i}"} for i in range(60)]
    path.write_text(json.dumps(metrics))
    told = words(read(write_report(made.run_dir))[1])
    assert "60 pictures of the evaluation set could not be read ; the first 50" in told.replace(
        "read;", "read ;"
    )
    assert "reason 49" in told
    assert "reason 50" not in told


@pytest.mark.parametrize("epochs", [0, 1])
def test_a_run_with_hardly_any_epochs_makes_a_page(
    make_run: Make,
    history_rows: Make,
    save_history: Make,
    epochs: int,
) -> None:
    made = make_run(pictures=False)
    save_history(made.run_dir, history_rows(epochs, 0, best=1))
    told = words(read(write_report(made.run_dir))[1])
    assert ("1 epoch of training." if epochs else "No epochs were recorded.") in told


def test_the_strengths_tried_for_the_head_are_in_a_table_of_their_own_and_not_drawn_as_epochs(
    make_run: Make, history_rows: Make, save_history: Make
) -> None:
    made = make_run(pictures=False)
    rows = [row | {"penalty": 0.0} for row in history_rows(3, 4, best=6)]
    for row, penalty in zip(rows, (1.0, 0.3, 0.1), strict=False):
        row |= {"penalty": penalty, "learning_rate": ""}
    save_history(made.run_dir, rows)
    page = read(write_report(made.run_dir))[0]
    search = page.partition("<summary>The search for the head</summary>")[2].partition("</details>")[0]
    epochs = page.partition("<summary>The figures of every epoch</summary>")[2].partition("</details>")[0]
    assert re.findall(r'<th scope="row" class="number">([^<]+)', search) == ["1", "0.3", "0.1"]
    assert search.count("<td>yes</td>") == 1
    assert re.findall(r'<th scope="row" class="number">([^<]+)', epochs) == ["1", "2", "3", "4"]
    assert set(re.findall(r"<td>(head|fine[^<]*)</td>", epochs)) == {"fine-tuning"}
    assert "4 epochs; training loss ended" in page

    # A run of the head alone has no curve.
    save_history(made.run_dir, [row | {"best": "true" if row is rows[1] else "false"} for row in rows[:3]])
    page = read(write_report(made.run_dir))[0]
    assert "loss-chart" not in page
    assert "3 strengths of regularization; 0.3 was best" in page


def test_the_same_run_gives_the_same_page(make_run: Make) -> None:
    made = make_run()
    first = write_report(made.run_dir).read_bytes()
    assert write_report(made.run_dir).read_bytes() == first


def test_a_page_that_cannot_be_written_leaves_nothing_behind(make_run: Make) -> None:
    made = make_run(pictures=False)
    (made.run_dir / "report.html").mkdir()  # in the way
    before = sorted(path.name for path in made.run_dir.iterdir())
    with pytest.raises(DiskError, match="it is a folder, not a file"):
        write_report(made.run_dir)
    assert sorted(path.name for path in made.run_dir.iterdir()) == before


def test_the_report_needs_only_the_base_install(make_run: Make) -> None:
    made = make_run()
    program = (
        "import json, sys\nfrom pathlib import Path\nfrom classifold.report.page import write_report\n"
        "write_report(Path(sys.argv[1]))\nprint(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(made.run_dir)], capture_output=True, text=True, check=True
    )
    heavy = {"tensorflow", "keras", "sklearn", "cv2", "onnx", "onnxruntime", "scipy", "matplotlib"}
    assert heavy.isdisjoint(json.loads(done.stdout))


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """WCAG 2.2: (lighter + 0.05) / (darker + 0.05)."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def mix(over: str, under: str, share: float) -> str:
    top = [int(part) for part in over.split()]
    base = [int(under[i : i + 2], 16) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(share * a + (1 - share) * b):02x}" for a, b in zip(top, base, strict=True))


@pytest.mark.parametrize("scheme", [0, 1])
def test_text_is_legible_in_light_and_in_dark(make_run: Make, scheme: int) -> None:
    html = write_report(make_run(pictures=False).run_dir).read_text()
    block = re.findall(r":root \{(.*?)\}", html, re.DOTALL)[scheme]
    colours = dict(re.findall(r"--([\w-]+): ([^;]+);", block))
    for ink in ("ink", "muted", "accent", "wrong"):
        for ground in ("page", "surface"):
            assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)
    assert contrast(colours["caution-ink"], colours["caution"]) >= 4.5
    for heat in ("heat-right", "heat-wrong"):  # the strongest cell of the matrix
        cell = mix(colours[heat], colours["page"], float(colours["heat-top"]))
        assert contrast(colours["ink"], cell) >= 4.5, heat
