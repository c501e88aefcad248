"""What a check found is found again for the same pictures, and only for them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from classifold import kept_findings
from classifold.findings import Findings, Interval
from classifold.kept_findings import find_kept, keep_findings
from classifold.user_cache import find_cache_dir


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "classifold" / "checks"


FOUND = Findings(source="photos", fingerprint="abc", estimate=Interval(value=3.0, low=1.0, high=6.0))


def test_what_was_found_is_found_again_for_the_same_pictures_and_kind(cache):
    keep_findings(FOUND, kind="full")
    assert find_kept("abc", kind="full") == FOUND
    assert find_kept("abc", kind="quick") is None
    assert find_kept("abd", kind="full") is None


def test_findings_without_a_fingerprint_are_not_kept(cache):
    keep_findings(Findings(source="photos"), kind="full")
    assert not cache.exists()
    assert find_kept("", kind="full") is None


def test_those_of_another_version_and_damaged_ones_count_as_none(cache):
    keep_findings(FOUND, kind="full")
    (path,) = cache.iterdir()
    path.write_text(json.dumps(FOUND.to_json() | {"classifold": "0.0.1"}))
    assert find_kept("abc", kind="full") is None
    path.write_text("{")
    assert find_kept("abc", kind="full") is None


def test_a_cache_that_cannot_be_written_is_no_reason_to_stop(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    keep_findings(FOUND, kind="full")
    assert find_kept("abc", kind="full") is None


def test_the_oldest_go_first(cache, monkeypatch):
    monkeypatch.setattr(kept_findings, "_MOST_KEPT", 2)
    for number, name in enumerate("abc"):
        keep_findings(FOUND.model_copy(update={"fingerprint": name}), kind="full")
        for path in cache.iterdir():
            if path.stat().st_mtime > 1000:
                os.utime(path, (number, number))
    assert [find_kept(name, kind="full") is None for name in "abc"] == [True, False, False]


def test_a_relative_cache_folder_does_not_count(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    assert find_cache_dir("checks") == tmp_path / ".cache" / "classifold" / "checks"
