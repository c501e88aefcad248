from __future__ import annotations

import errno
import inspect
import re
from pathlib import Path

import pytest

from classifold import errors
from classifold.errors import (
    FAULT_LIMIT,
    ClassifoldError,
    DataError,
    DiskError,
    Fault,
    SettingsError,
    disk_errors,
    limit_faults,
)


def test_a_fault_is_one_line_with_where_what_and_got_then_the_cure() -> None:
    fault = Fault("setting EPOCHS", "expected a whole number", got="'x'", hint="write EPOCHS = 3")
    assert fault.format() == (
        "error: setting EPOCHS: expected a whole number, got 'x'\nhint: write EPOCHS = 3"
    )


def test_got_and_hint_are_left_out_where_there_is_none() -> None:
    assert Fault("data", "no such folder").format() == "error: data: no such folder"


def test_a_name_with_a_line_break_or_an_escape_cannot_break_the_line_or_steer_the_terminal() -> None:
    line = Fault("a\nb\x1b[2J\udcff", "no such file", hint="x\r").format()
    assert line == "error: a\\nb\\x1b[2J\\udcff: no such file\nhint: x\\r"


def test_names_of_any_script_are_shown_as_they_are() -> None:
    assert Fault("Blüten/花 é", "empty").format() == "error: Blüten/花 é: empty"


def test_an_error_shows_every_fault_in_order() -> None:
    error = DataError(Fault("a", "one"), Fault("b", "two", hint="cure"))
    assert str(error).splitlines() == ["error: a: one", "error: b: two", "hint: cure"]


def test_an_error_without_a_fault_is_a_bug_of_ours() -> None:
    with pytest.raises(ValueError, match="at least one fault"):
        DataError()


def test_the_tree_in_the_docstring_is_the_tree_of_classes_with_their_exit_codes() -> None:
    rows = re.findall(r"^[│├└─ ]*(\w+) +exit (\d+)", inspect.getdoc(errors) or "", re.MULTILINE)
    drawn = {name: int(code) for name, code in rows}
    classes = {name: one for name, one in vars(errors).items() if inspect.isclass(one)}
    real = {name: one.exit_code for name, one in classes.items() if issubclass(one, ClassifoldError)}
    assert drawn == real
    assert SettingsError.exit_code == 2


def test_writing_below_a_file_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(DiskError) as caught, disk_errors(tmp_path):
        (tmp_path / "runs" / "new").mkdir()
    (fault,) = caught.value.faults
    assert fault.where == str(tmp_path / "runs" / "new")
    assert fault.what == "it is a file, not a folder"
    assert fault.hint


def test_a_full_disk_is_told_with_the_file_where_the_system_names_none() -> None:
    with pytest.raises(DiskError) as caught, disk_errors("runs/one"), Path("/dev/full").open("w") as stream:
        stream.write("x" * 100_000)
    assert caught.value.faults[0].where == "runs/one"
    assert caught.value.faults[0].what == "the disk is full"


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EPERM, errno.EDQUOT, errno.EIO])
def test_other_refusals_of_the_disk_have_their_cure(number: int) -> None:
    with pytest.raises(DiskError) as caught, disk_errors("here"):
        raise OSError(number, "refused")
    assert caught.value.faults[0].hint


def test_what_is_no_refusal_of_the_disk_passes_through() -> None:
    with pytest.raises(FileNotFoundError), disk_errors("here"):
        raise FileNotFoundError(errno.ENOENT, "no such file")


def test_of_many_faults_the_first_are_shown_and_the_others_counted() -> None:
    faults = [Fault(str(number), "wrong") for number in range(FAULT_LIMIT + 1_234)]
    assert limit_faults(faults[:FAULT_LIMIT]) == faults[:FAULT_LIMIT]
    shown = limit_faults(faults, noun="picture", what="wrong too", hint="fix them")
    assert shown == [*faults[:FAULT_LIMIT], Fault("1,234 more pictures", "wrong too", hint="fix them")]
    assert limit_faults(faults)[-1].where == "1,234 more"
