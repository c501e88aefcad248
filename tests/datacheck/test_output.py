"""A check leaves a page for a person and a file for a script, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from classifold.datacheck.check import Checked
from classifold.datacheck.output import write_output
from classifold.dataset.check import CheckReport
from classifold.errors import DiskError
from classifold.findings import Findings, read_findings
from classifold.names import CHECK_HTML, CHECK_JSON
from classifold.settings.loader import build_config
from made_findings import HOSTILE, make_findings

REPORT = CheckReport("photos", {}, None, (), ())


def build(findings: Findings, paths: dict[str, Path] | None = None) -> Checked:
    return Checked(REPORT, findings, {key: str(path) for key, path in (paths or {}).items()})


def test_the_findings_are_read_back_as_they_were(tmp_path):
    findings, paths = make_findings(tmp_path / "photos")
    page = write_output(build(findings, paths), build_config({}), tmp_path / "new" / "out")
    assert page == tmp_path / "new" / "out" / CHECK_HTML
    assert read_findings(page.with_name(CHECK_JSON)) == findings
    assert sorted(one.name for one in page.parent.iterdir()) == [CHECK_HTML, CHECK_JSON]
    assert "data:image/" in page.read_text()


def test_a_second_check_replaces_its_own_files_and_leaves_others(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for number in (1, 2):
        write_output(build(Findings(source="x", num_pictures=number)), build_config({}), tmp_path)
    assert json.loads((tmp_path / CHECK_JSON).read_text())["num_pictures"] == 2
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_names_that_are_no_unicode_are_written_too(tmp_path):
    findings = Findings(source="bad \udcff name", notes=(*HOSTILE, "\udc80"))
    page = write_output(build(findings), build_config({}), tmp_path)
    assert page.is_file()
    assert read_findings(tmp_path / CHECK_JSON) == findings


def test_a_folder_that_cannot_be_made_is_named_with_the_way_out(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError) as error:
        write_output(build(Findings(source="x")), build_config({}), tmp_path / "file" / "out")
    assert "the folder cannot be made: Not a directory" in str(error.value)
    assert error.value.faults[0].hint == "name another folder with --output"


def test_a_disk_that_takes_nothing_is_an_error_of_the_disk():
    with pytest.raises(DiskError):
        write_output(build(Findings(source="x")), build_config({}), Path("/proc/self/out"))
