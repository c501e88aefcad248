"""What SageMaker shows of a failure file is its beginning: cause, cure, and nothing cut in two."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from classifold import names
from classifold.errors import DataError, Fault, JobError
from classifold.sagemaker.failure_file import cut, describe_bug, describe_fault, read_faults


def shown(text: str) -> str:
    """Return what SageMaker shows."""
    return text[: names.FAILURE_LIMIT]


def test_one_mistake_is_its_cause_and_its_cure() -> None:
    text = describe_fault(DataError(Fault("data", "no pictures", hint="add some")))
    assert text == "error: data: no pictures\nhint: add some\n"


def test_of_many_mistakes_the_first_is_whole_and_the_others_are_named_as_far_as_they_fit() -> None:
    faults = [Fault(f"picture {n}.jpg", "x" * 100, hint="mend it") for n in range(30)]
    lines = shown(describe_fault(DataError(*faults))).split("\n\n")[0].splitlines()
    assert lines[0] == f"error: picture 0.jpg: {'x' * 100}"
    assert lines[1] == "hint: mend it"
    assert lines[2].startswith("error: picture 1.jpg")
    num_named = sum(line.startswith("error:") for line in lines)
    assert lines[-1] == f"and {30 - num_named} more, in the log"


def test_an_endless_cause_leaves_room_for_the_cure() -> None:
    error = JobError(Fault("training", "ä" * 5000, hint="raise VOLUME_GB"))
    text = describe_fault(error)
    assert "hint: raise VOLUME_GB" in shown(text)
    assert "ä" * 5000 in text


@given(st.text(), st.integers(3, 50))
def test_a_cut_is_valid_and_no_longer_than_asked(text: str, limit: int) -> None:
    short = cut(text, limit)
    assert len(short.encode()) <= limit
    assert short == text or short.endswith("...") or "\\u" in short


@settings(max_examples=50)
@given(st.lists(st.tuples(st.text(min_size=1), st.text(), st.text()), min_size=1, max_size=12))
def test_the_cause_stands_in_what_is_shown_whatever_the_faults(rows: list[tuple[str, str, str]]) -> None:
    error = JobError(*(Fault(*row) for row in rows))
    head = describe_fault(error).partition("\n\n")[0]
    assert len(head.strip("\n").encode()) <= names.FAILURE_LIMIT
    assert head.startswith("error: ")


def test_a_bug_shows_the_exception_then_the_innermost_calls_then_everything() -> None:
    def inner() -> None:
        raise ValueError("the reason")

    def outer(depth: int) -> None:
        outer(depth - 1) if depth else inner()

    try:
        outer(60)
    except ValueError as error:
        text = describe_bug(error)
    lines = text.splitlines()
    assert lines[0] == "ValueError: the reason"
    assert "in inner: raise ValueError" in lines[1]
    assert "in outer" in lines[2]
    assert "mistake in classifold itself" in shown(text)
    assert text.endswith("ValueError: the reason\n")
    assert "Traceback (most recent call last)" in text


def test_a_bug_with_an_endless_message_still_shows_where_it_was() -> None:
    try:
        raise RuntimeError("y" * 10_000)
    except RuntimeError as error:
        text = describe_bug(error)
    assert "test_failure_file.py" in shown(text)
    assert "mistake in classifold itself" in shown(text)


def test_faults_are_read_back_from_the_file() -> None:
    faults = [Fault("setting EPOCHS", "expected a whole number", got="'x'", hint="write 3"), Fault("a", "b")]
    found = read_faults(describe_fault(DataError(*faults)), where="the job")
    assert [fault.format() for fault in found] == [fault.format() for fault in faults]


def test_every_fault_is_read_back_where_the_beginning_holds_only_some() -> None:
    faults = [Fault(f"picture {n}", "z" * 90, hint="mend it") for n in range(30)]
    assert read_faults(describe_fault(DataError(*faults)), where="the job") == faults


def test_of_a_bug_the_exception_is_read_back() -> None:
    try:
        raise KeyError("gone")
    except KeyError as error:
        found = read_faults(describe_bug(error), where="the job")
    assert [(fault.where, fault.what) for fault in found] == [("the job", "KeyError: 'gone'")]


def test_nothing_is_read_from_an_empty_file() -> None:
    assert read_faults(" \n", where="the job") == []


def test_a_mistake_about_a_name_that_utf_8_cannot_say_can_be_written(tmp_path: Path) -> None:
    try:
        raise ValueError("rose\udcff.jpg")
    except ValueError as error:
        text = describe_bug(error)
    (tmp_path / "failure").write_text(text, encoding="utf-8")
    assert text.startswith("ValueError: rose\\udcff.jpg")
    assert text.count("rose\\udcff.jpg") >= 2
