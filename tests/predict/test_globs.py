from __future__ import annotations

import glob
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifold.predict.globs import expand_pattern, is_pattern

NAMES = ("a", "b", "ab", "a.jpg", "b.jpg", ".h", ".h.jpg")
PARTS = ("a", "*", "?", "a*", "*.jpg", "[ab]", "[!a]*", ".*", "**", "b")

PATTERNS = st.lists(st.sampled_from(PARTS), min_size=1, max_size=4).filter(
    lambda parts: is_pattern("".join(parts))
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with every name on three levels; names without a dot are folders on the first two."""
    root = tmp_path_factory.mktemp("tree")

    def fill(folder: Path, depth: int) -> None:
        for name in NAMES:
            if depth and name in ("a", "b", ".h"):
                (folder / name).mkdir()
                fill(folder / name, depth - 1)
            else:
                (folder / name).touch()

    fill(root, 2)
    return root


@given(parts=PATTERNS)
@settings(max_examples=300)
def test_a_pattern_matches_what_pythons_own_glob_matches(tree: Path, parts: list[str]) -> None:
    pattern = "/".join(parts)
    matched = list(glob.iglob(pattern, root_dir=tree, recursive=True))  # noqa: PTH207
    # Python also matches a file "a" by "a/**", as "a/".
    expected = {one.rstrip("/") for one in matched if not one.endswith("/") or (tree / one).is_dir()} - {""}
    if "**" in parts:
        expected = {one for one in expected if not (tree / one).is_dir()}
    found = [path for path, _ in expand_pattern(f"{glob.escape(str(tree))}/{pattern}")]
    assert len(found) == len(set(found))
    assert {os.path.relpath(one, tree) for one in found} == expected


def test_matches_come_by_name_and_the_files_of_a_folder_before_those_below_it(tree: Path) -> None:
    found = [os.path.relpath(path, tree) for path, _ in expand_pattern(f"{tree}/**/a.jpg")]
    assert found == ["a.jpg", "a/a.jpg", "a/a/a.jpg", "a/b/a.jpg", "b/a.jpg", "b/a/a.jpg", "b/b/a.jpg"]


def test_a_pattern_of_the_current_folder_gives_paths_without_a_dot(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tree)
    assert [path for path, _ in expand_pattern("*.jpg")] == ["a.jpg", "b.jpg"]
    assert [path for path, _ in expand_pattern("./a/*.jpg")] == ["a/a.jpg", "a/b.jpg"]


def test_links_in_a_circle_end_and_links_to_files_match(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.jpg").touch()
    (tmp_path / "sub" / "circle").symlink_to(tmp_path)
    (tmp_path / "link.jpg").symlink_to(tmp_path / "sub" / "a.jpg")
    found = [os.path.relpath(path, tmp_path) for path, _ in expand_pattern(f"{tmp_path}/**/*.jpg")]
    assert found == ["link.jpg", "sub/a.jpg"]


def test_a_folder_in_which_nothing_can_match_is_not_read(tmp_path: Path) -> None:
    for name in ("wanted", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.jpg").touch()
    read = []
    real = os.scandir

    def note(folder: str) -> object:
        read.append(Path(folder).name)
        return real(folder)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "scandir", note)
        assert len(list(expand_pattern(f"{tmp_path}/want*/*.jpg"))) == 1
    assert "other" not in read


def test_only_stars_question_marks_and_brackets_make_a_pattern() -> None:
    assert is_pattern("a*")
    assert is_pattern("a?")
    assert is_pattern("[a]")
    assert not is_pattern("photos/a+b (1).jpg")
