"""The text of check.html: what it says first, that it stays small, and that no name can become markup."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifold.datacheck import thumbnails
from classifold.datacheck.cases import Case, CaseFile, build_cases
from classifold.datacheck.page import encode_json, read_thumbnails, write_check_page
from classifold.datacheck.thumbnails import make_thumbnails
from classifold.findings import Findings, PictureFinding
from made_findings import HOSTILE, make_findings, make_hostile

MAX_PIXELS = 10**8


class Elements(HTMLParser):
    """Counts the elements of a page and notes their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs


def write(tmp_path: Path, findings: Findings, **options: object) -> str:
    page = tmp_path / "check.html"
    write_check_page(page, findings, max_pixels=MAX_PIXELS, **options)  # type: ignore[arg-type]
    return page.read_text(encoding="utf-8")


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    answer: dict[str, Any] = json.loads(found[1])
    return answer


def test_the_commands_of_the_page_name_the_checked_folder(tmp_path: Path) -> None:
    pictures = (PictureFinding(file="a/1.jpg", kind="blurred", reason="little detail"),)
    page = write(tmp_path, Findings(source="/data/my <photos>", pictures=pictures))
    command = "classifold check '/data/my <photos>'"
    for option in ("--plan plan.csv", "--apply plan.csv", "--undo"):
        assert f"{command} {option}</span>" in html.unescape(page)
    assert data_of(page)["command"] == command


def test_the_most_harmful_finding_is_the_headline_and_the_first_advice(tmp_path: Path) -> None:
    findings, paths = make_findings(tmp_path / "own")
    page = write(tmp_path, findings, paths=paths)
    assert "<h1>1 photograph is in more than one set.</h1>" in page
    titles = re.findall(r"<li><h3>(.*?)</h3>", page)
    assert titles == [
        "1 photograph is in more than one set",
        "2 labels are probably wrong",
        "The class can be told by size alone",
        "1 picture cannot be read",
        "1 group of copies within one set",
        "1 picture: blurred",
        "1 class has too few pictures",
    ]
    assert "Accuracy 96.1 %; without 41 leaks 88.3 %." in page
    assert "The model gets 4 of 12 right, and 91\u00a0% of the other pictures." in page


def test_cases_come_in_the_order_of_harm(tmp_path: Path) -> None:
    findings, _ = make_findings(tmp_path)
    kinds = [case.kind for case in build_cases(findings)]
    assert kinds == ["leak", "label", "label", "unreadable", "exact", "blurred"]


def test_nothing_found_is_said_so(tmp_path: Path) -> None:
    page = write(tmp_path, Findings(source="flowers", num_pictures=3))
    assert "Nothing was found that needs your attention." in page
    assert "<script" not in page


def test_names_from_files_are_never_markup(tmp_path: Path) -> None:
    page = write(tmp_path, make_hostile(str(tmp_path)))
    elements = Elements()
    elements.feed(page)
    assert elements.tags.count("script") == 2
    assert "img" not in elements.tags
    assert not [name for name, _ in elements.attributes if name.startswith("on")]
    assert not [value for name, value in elements.attributes if name == "href" and "script:" in str(value)]
    assert "\u202e" not in re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert [name for name in data_of(page)["classes"] if name in HOSTILE]


def test_only_our_script_may_run_and_nothing_may_be_loaded(tmp_path: Path) -> None:
    page = write(tmp_path, make_findings(tmp_path / "own")[0])
    policy = re.search(r'Content-Security-Policy" content="(.*?)"', page)
    script = re.search(r"<script>(.*)</script>", page, re.DOTALL)
    assert policy
    assert script
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    wanted = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    assert policy[1].replace("&#39;", "'") == wanted
    assert not re.search(r"https?://", page)


@given(
    st.recursive(
        st.text() | st.none() | st.integers(), lambda part: st.lists(part) | st.dictionaries(st.text(), part)
    )
)
def test_embedded_json_says_the_same_and_cannot_end_its_element(value: object) -> None:
    text = encode_json(value)
    assert json.loads(text) == value
    assert not set("<>&\u2028\u2029") & set(text)


def test_what_has_no_thumbnail_is_said_and_why(tmp_path: Path) -> None:
    findings, paths = make_findings(tmp_path / "own")
    assert "1 picture of 10 has no thumbnail" in write(tmp_path, findings, paths=paths)
    assert "not files of this machine" in write(tmp_path, findings)


def test_pictures_are_named_by_addresses_relative_to_the_page(tmp_path: Path) -> None:
    findings, paths = make_findings(tmp_path / "own")
    paths["training/rose/4.jpg"] = tmp_path / "javascript:x"
    data = data_of(write(tmp_path, findings, paths=paths))
    assert data["base"] == "./own/"
    assert list(data["urls"].values()) == ["./javascript%3Ax"]
    assert str(tmp_path) not in json.dumps(data["urls"])


def test_a_picture_of_several_findings_is_read_once(tmp_path: Path) -> None:
    findings, paths = make_findings(tmp_path / "own")
    twice = findings.model_copy(update={"groups": findings.groups * 2})
    data = data_of(write(tmp_path, twice, paths=paths))
    assert len(data["thumbs"]) == len(set(data["keys"])) - 1  # the one that cannot be read has none
    small = Findings(source=findings.source, pictures=findings.pictures)
    assert data_of(write(tmp_path, small, paths=paths))["thumbs"].keys() == {"1"}


def test_thumbnails_of_an_earlier_page_are_kept_while_the_pictures_are_the_same(tmp_path: Path) -> None:
    findings, paths = make_findings(tmp_path / "own")
    first = data_of(write(tmp_path, findings, paths=paths))
    for path in paths.values():
        path.write_bytes(b"")  # they cannot be read again
    assert data_of(write(tmp_path, findings, paths=paths))["thumbs"] == first["thumbs"]
    changed = findings.model_copy(update={"fingerprint": "f2"})
    assert data_of(write(tmp_path, changed, paths=paths))["thumbs"] == {}
    for content in ("", "no page", '<script type="application/json" id="data">[1]</script>'):
        (tmp_path / "check.html").write_text(content)
        assert read_thumbnails(tmp_path / "check.html", "f1") == {}


def test_thumbnails_are_bounded_and_every_kind_gets_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    findings, paths = make_findings(tmp_path)
    cases = build_cases(findings)
    monkeypatch.setattr(thumbnails, "MAX_NUMBER", 5)
    found = make_thumbnails(cases, paths, max_pixels=MAX_PIXELS)
    assert len(found) == 5
    assert {"training/daisy/0.jpg", "training/daisy/3.jpg"} <= found.keys()
    size = max(map(len, found.values()))
    monkeypatch.setattr(thumbnails, "MAX_BYTES", 3 * size)
    assert sum(map(len, make_thumbnails(cases, paths, max_pixels=MAX_PIXELS).values())) <= 3 * size


def test_a_picture_that_is_gone_or_broken_has_no_thumbnail(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    case = Case("near", "", "", [CaseFile("a/gone.jpg"), CaseFile("a/broken.jpg")])
    paths = {"a/gone.jpg": tmp_path / "gone.jpg", "a/broken.jpg": tmp_path / "broken.jpg"}
    assert make_thumbnails([case], paths, max_pixels=MAX_PIXELS) == {}


def test_a_group_with_fewer_labels_than_files_shows_every_file() -> None:
    findings = Findings.model_validate(
        {"source": "x", "groups": [{"kind": "exact", "files": ["a/1", "a/2", "a/3"], "labels": ["a"]}]}
    )
    (case,) = build_cases(findings)
    assert [file.key for file in case.files] == ["a/1", "a/2", "a/3"]
