from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import classifold
from classifold.comparison.compare import compare_runs
from classifold.comparison.result import Comparison
from classifold.comparison.runs import letter_of, name_folders
from classifold.errors import Fault, RunError, UsageError

Rows = Callable[..., list[tuple[str, str, str]]]
WriteRun = Callable[..., Path]


def compare(*runs: Path, **options: Any) -> Comparison:
    return compare_runs(runs, runs_dir=Path("runs"), **options)


def faults_of(*runs: Path, **options: Any) -> Sequence[Fault]:
    with pytest.raises(RunError) as caught:
        compare(*runs, **options)
    return caught.value.faults


def test_pictures_on_which_two_runs_differ_are_counted_and_told_in_words(two_runs: tuple[Path, Path]) -> None:
    found = compare(*two_runs)
    (pair,) = found.pairs
    assert (pair.both_right, pair.better, pair.worse, pair.both_wrong) == (13, 7, 3, 1)
    assert pair.accuracy.value == pytest.approx(4 / 24)
    assert pair.p_value == pytest.approx(0.34375)
    assert pair.can_be_chance
    assert found.sentences[0].startswith(
        "B is better on 7 pictures and worse on 3. This could be chance (p = 0.34). "
        "Its accuracy is 16.7 points higher (95 % interval: "
    )
    assert pair.better_pictures[0] == "cat/000.jpg"
    assert sum(row.better for row in pair.classes) == 7


def test_what_is_unlikely_to_be_chance_is_told_so(write_run: WriteRun, answer: Rows) -> None:
    found = compare(write_run("a", answer(range(9))), write_run("b", answer()))
    assert "is unlikely to be chance (p = 0.004)" in found.sentences[0]


def test_too_few_differing_pictures_are_told_to_say_nothing(write_run: WriteRun, answer: Rows) -> None:
    found = compare(write_run("a", answer([0, 1])), write_run("b", answer()))
    assert (
        "The runs differ on only 2 pictures: even if one were better on all of them, it could be chance."
        in found.sentences[0]
    )


def test_runs_that_never_differ_are_told_so(write_run: WriteRun, answer: Rows) -> None:
    found = compare(write_run("a", answer([3])), write_run("b", answer([3])))
    assert found.sentences[0] == (
        "B and A are right on the same 23 pictures, and wrong on the same 1: no difference."
    )
    assert found.pairs[0].p_value == 1


def test_several_runs_are_compared_with_the_first_and_corrected_for_their_number(
    write_run: WriteRun, answer: Rows
) -> None:
    runs = [write_run("base", answer(range(7))), write_run("b", answer()), write_run("c", answer(range(6)))]
    found = compare(*runs)
    assert [(pair.letter, pair.against) for pair in found.pairs] == [("B", "A"), ("C", "A")]
    assert found.pairs[0].corrected_p_value == pytest.approx(2 * found.pairs[0].p_value)
    assert any("corrected for 2 comparisons (Holm)" in note for note in found.notes)


def test_a_run_of_the_first_format_is_compared_with_one_of_the_second(two_runs: tuple[Path, Path]) -> None:
    earlier, later = compare(*two_runs).runs
    assert (earlier.coverage, earlier.unseen_refused) == (None, None)
    assert later.coverage is not None
    assert later.coverage.value == pytest.approx(20 / 24)


def test_only_differences_in_settings_data_and_versions_are_listed(write_run: WriteRun, answer: Rows) -> None:
    data = {"fingerprint": "f2", "counts": {"training": {"cat": 90}}}
    found = compare(
        write_run("a", answer(), RUNS_DIR="a"),
        write_run(
            "b", answer(), RUNS_DIR="b", EPOCHS=3, NEW_SETTING=1, environment={"python": "3.12", "data": data}
        ),
    )
    assert [one.name for one in found.settings] == ["EPOCHS", "NEW_SETTING", "RUNS_DIR"]
    assert found.settings[0].values == {"A": 10, "B": 3}
    assert found.settings[1].values == {"B": 1}
    assert {one.name for one in found.data} == {"training pictures", "evaluation pictures", "fingerprint"}
    assert [one.name for one in found.environment] == ["Python"]
    assert any("other data, or on another division" in note for note in found.notes)


def test_other_evaluation_pictures_are_refused_and_the_common_ones_counted(
    write_run: WriteRun, answer: Rows
) -> None:
    rows = answer()
    strange = [("cat/new.jpg", "cat", "cat"), ("hen/001.jpg", "hen", "hen")]
    second = write_run("b", [rows[0], ("cat/001.jpg", "cat", "cat"), *rows[2:20], *strange])
    relabelled = [("dog/001.jpg", "hen", "hen"), *rows[2:]]
    third = write_run("c", relabelled)
    first = write_run("a", rows)
    faults = faults_of(first, second, third)
    assert "19 pictures in both, 5 only in a, 3 only here" in faults[0].what
    assert "(such as cat/001.jpg, " in faults[0].what
    assert "22 pictures in both, 1 only in a, 1 in another class" in faults[1].what
    assert faults[0].hint == "--common compares on the 18 pictures that all runs have"


def test_the_common_pictures_alone_are_compared_where_that_is_asked_for(
    write_run: WriteRun, answer: Rows
) -> None:
    first, second = write_run("a", answer([0, 1])), write_run("b", answer([0], count=12))
    found = compare(first, second, only_common=True)
    assert (found.num_pictures, found.is_common_only) == (12, True)
    assert [run.accuracy.value for run in found.runs] == [10 / 12, 11 / 12]
    assert found.runs[0].balanced_accuracy is None
    assert (found.pairs[0].better, found.pairs[0].worse) == (1, 0)


def test_runs_without_a_common_picture_cannot_be_compared(write_run: WriteRun, answer: Rows) -> None:
    others = [(f"{key}.png", true, said) for key, true, said in answer()]
    (fault,) = faults_of(write_run("a", answer()), write_run("b", others), only_common=True)
    assert fault.hint == "no picture is in all of them: train the runs on the same split"


def test_the_order_of_the_rows_does_not_matter(write_run: WriteRun, answer: Rows) -> None:
    rows = answer([0, 1])
    shuffled = random.Random(3).sample(answer([1]), len(rows))
    (pair,) = compare(write_run("a", rows), write_run("b", shuffled)).pairs
    assert (pair.better, pair.worse) == (1, 0)


def test_other_classes_are_named_and_the_common_pictures_compared(write_run: WriteRun, answer: Rows) -> None:
    more = ("cat", "dog", "hen", "owl")
    second = write_run("b", [*answer([0]), ("owl/1.jpg", "owl", "owl")], class_names=more)
    found = compare(write_run("a", answer()), second, only_common=True)
    assert any("B also knows owl, unlike A" in note for note in found.notes)
    assert found.pairs[0].log_loss is not None


def test_the_same_run_counts_once(two_runs: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(two_runs[0])
    found = compare(*two_runs, tmp_path / "link")
    assert len(found.runs) == 2
    assert "1 run given more than once, and compared once" in found.notes
    with pytest.raises(UsageError, match="the same run is given several times"):
        compare(two_runs[0], two_runs[0])
    with pytest.raises(UsageError, match="expected two runs or more, got 1 run"):
        compare(two_runs[0])


def test_every_folder_that_is_no_finished_run_is_named(two_runs: tuple[Path, Path], tmp_path: Path) -> None:
    stopped = tmp_path / "runs" / "stopped.interrupted"
    stopped.mkdir()
    faults = faults_of(two_runs[0], stopped, tmp_path / "absent", two_runs[0].parent)
    assert [fault.what for fault in faults] == [
        "this run was interrupted and has no scores yet",
        "no such run folder",
        "this folder holds 2 runs, and is not a run itself",
    ]
    assert faults[0].hint == "finish it: classifold train --resume"


def test_a_name_in_the_folder_of_runs_stands_for_the_run(two_runs: tuple[Path, Path]) -> None:
    found = compare_runs([Path("first"), Path("second")], runs_dir=two_runs[0].parent)
    assert [run.path for run in found.runs] == [str(one) for one in two_runs]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("cat/000.jpg,cat,cat", "the row does not have one cell per column"),
        ("cat/x.jpg,cat,cat,high,true,0,0,0", "a cell is damaged"),
        ("cat/000.jpg,cat,cat,0.8,true,0,0,0", "it lists a picture twice: cat/000.jpg"),
        ("cat/new.jpg,cat,cat,0.8,true,0,0,0", "it does not match metrics.json: 21 of 25 right here"),
    ],
)
def test_a_damaged_table_of_predictions_is_refused(two_runs: tuple[Path, Path], line: str, what: str) -> None:
    with (two_runs[1] / "predictions.csv").open("a") as lines:
        lines.write(f"{line}\n")
    for order in (two_runs, two_runs[::-1]):
        (fault,) = faults_of(*order)
        assert what in fault.what


def test_a_table_without_rows_is_refused(two_runs: tuple[Path, Path]) -> None:
    table = two_runs[0] / "predictions.csv"
    table.write_text(table.read_text().splitlines()[0] + "\n")
    (fault,) = faults_of(*two_runs)
    assert fault.what == "it lists no picture"


def test_time_is_compared_on_the_same_machine_only(write_run: WriteRun, answer: Rows) -> None:
    slow = {"seconds": {"head": 150.0}}
    found = compare(write_run("a", answer()), write_run("b", answer(), environment=slow))
    assert found.sentences[1] == "B took 2.5 times as long to train as A."
    other = compare(write_run("c", answer()), write_run("d", answer(), environment={**slow, "cpu_count": 64}))
    assert len(other.sentences) == 1
    assert any("different machines" in note for note in other.notes)


def test_size_is_that_of_the_model_and_unknown_without_one(two_runs: tuple[Path, Path]) -> None:
    (two_runs[1] / "model.onnx").unlink()
    assert [run.model_mb for run in compare(*two_runs).runs] == [2.0, None]


def test_the_cost_is_what_the_job_was_billed_and_else_unknown(two_runs: tuple[Path, Path]) -> None:
    (two_runs[1] / "job.json").write_text('{"usd": 1.25}')
    assert [run.usd for run in compare(*two_runs).runs] == [None, 1.25]
    (two_runs[0] / "job.json").write_text('{"usd": null}')
    (two_runs[1] / "job.json").write_text("{")
    (fault,) = faults_of(*two_runs)
    assert "not JSON" in fault.what


def test_letters_go_on_after_z() -> None:
    assert [letter_of(place) for place in (0, 1, 25, 26, 27, 701, 702)] == [
        "A",
        "B",
        "Z",
        "AA",
        "AB",
        "ZZ",
        "AAA",
    ]


def test_folders_of_the_same_name_get_as_much_of_the_path_as_tells_them_apart() -> None:
    folders = [Path("/x/a/runs/one"), Path("/x/b/runs/one"), Path("/x/b/runs/two")]
    assert name_folders(folders) == ["a/runs/one", "b/runs/one", "two"]


def test_python_compares_too_and_its_hints_are_in_python(
    two_runs: tuple[Path, Path], write_run: WriteRun
) -> None:
    found = classifold.compare(*two_runs)
    assert repr(found) == "Comparison(A first, B second, 24 pictures)"
    other = write_run("other", [("cat/000.jpg", "cat", "cat")])
    with pytest.raises(classifold.ClassifoldError) as caught:
        classifold.compare(classifold.Run(two_runs[0]), other)
    assert caught.value.faults[0].hint == "common=True compares on the 1 picture that all runs have"
    assert classifold.compare(two_runs[0], other, common=True).num_pictures == 1


def test_the_result_can_be_read_back_from_its_json(two_runs: tuple[Path, Path]) -> None:
    found = compare(*two_runs)
    assert Comparison.model_validate_json(found.model_dump_json()) == found


def test_a_run_that_somebody_copied_and_renamed_differs_on_nothing(two_runs: tuple[Path, Path]) -> None:
    copy = shutil.copytree(two_runs[0], two_runs[0].with_name("copy"))
    found = compare(two_runs[0], copy)
    assert (found.settings, found.data, found.environment) == ((), (), ())
    assert json.loads((copy / "metrics.json").read_text())["format"] == 1


@pytest.mark.parametrize(
    "content", ["", "[1]", '{"usd": "a"}', '{"usd": -1}', '{"usd": NaN}', '{"usd": 1' + "0" * 400 + "}"]
)
def test_a_damaged_price_is_refused_with_its_file(two_runs: tuple[Path, Path], content: str) -> None:
    path = two_runs[1] / "job.json"
    path.write_text(content)
    (fault,) = faults_of(*two_runs)
    assert fault.where == str(path)


def test_something_else_in_place_of_the_price_is_refused(two_runs: tuple[Path, Path]) -> None:
    (two_runs[1] / "job.json").mkdir()
    (fault,) = faults_of(*two_runs)
    assert "not an ordinary file" in fault.what
