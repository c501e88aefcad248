"""Applying a plan and taking it back: whole or not at all, whatever ends the process in between."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifold.datacheck.apply import apply_plan, undo
from classifold.datacheck.journal import Journal
from classifold.datacheck.places import find_class_folders, list_quarantines
from classifold.datacheck.plan import Step, write_plan
from classifold.errors import ClassifoldError, DataError


def quarantine_of(folder: Path) -> Path:
    return list_quarantines(folder)[0]


ROOT_USER = os.geteuid() == 0


def make_folder(root: Path, files: Mapping[str, str]) -> Path:
    """Write files with given contents, each with a time of its own."""
    for number, (name, content) in enumerate(files.items()):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        os.utime(path, ns=(10**18 + number, 10**18 + number * 10**9 + 123_456_789))
    return root


def tree_of(root: Path) -> dict[str, tuple[bytes, int, int]]:
    """Return every file below a folder: content, time and mode."""
    return {
        str(path.relative_to(root)): (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_mode)
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    files = {
        "daisy/1.jpg": "a",
        "daisy/2.jpg": "b",
        "daisy/sub/3.jpg": "c",
        "rose/1.jpg": "d",
        "rose/4.jpg": "e",
    }
    return make_folder(tmp_path / "flowers", files)


@pytest.fixture
def plan_for(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a plan: `plan_for(("daisy/1.jpg", "move", "rose"), ...)`."""

    def write(*rows: tuple[str, ...], name: str = "plan.csv") -> Path:
        write_plan(tmp_path / name, [Step(*row) for row in rows])  # type: ignore[arg-type]
        return tmp_path / name

    return write


def faults_of(call: Callable[[], Any]) -> list[tuple[str, str, str]]:
    with pytest.raises(ClassifoldError) as caught:
        call()
    return [(fault.where, fault.what, fault.hint) for fault in caught.value.faults]


def test_a_plan_moves_files_and_undo_brings_them_back_with_names_and_times(
    folder: Path, plan_for: Callable[..., Path]
) -> None:
    before = tree_of(folder)
    plan = plan_for(
        ("daisy/sub/3.jpg", "quarantine"),
        ("daisy/2.jpg", "move", "rose"),
        ("daisy/1.jpg", "move", "rose"),
        ("rose/4.jpg", "keep", "daisy"),
    )
    done = apply_plan(folder, plan)
    assert (done.num_quarantined, done.num_moved) == (1, 2)
    assert set(tree_of(folder)) == {"rose/1.jpg", "rose/4.jpg", "rose/2.jpg", "rose/1-from-daisy.jpg"}
    assert [Path(new).name for _, new in done.renamed] == ["1-from-daisy.jpg"]
    assert (quarantine_of(folder) / "daisy/sub/3.jpg").read_text() == "c"
    answer = undo(folder)
    assert (answer.num_files, answer.num_left) == (3, 0)
    assert tree_of(folder) == before
    assert not quarantine_of(folder).exists()


def test_plans_are_undone_last_first(folder: Path, plan_for: Callable[..., Path]) -> None:
    states = [tree_of(folder)]
    apply_plan(folder, plan_for(("daisy/1.jpg", "move", "rose")))
    states.append(tree_of(folder))
    apply_plan(folder, plan_for(("rose/1-from-daisy.jpg", "quarantine"), ("rose/4.jpg", "move", "daisy")))
    assert undo(folder).num_left == 1
    assert tree_of(folder) == states[1]
    assert undo(folder).num_left == 0
    assert tree_of(folder) == states[0]
    assert (
        faults_of(lambda: undo(folder))[0][1] == "no plan has moved a file here, so there is nothing to undo"
    )


def test_undo_in_a_copy_changes_only_the_copy_and_a_renamed_folder_is_undone(
    folder: Path, plan_for: Callable[..., Path]
) -> None:
    before = tree_of(folder)
    plan = plan_for(("daisy/1.jpg", "quarantine"), ("daisy/sub/3.jpg", "move", "rose"))
    apply_plan(folder, plan)
    after = tree_of(folder)
    copy = folder.with_name("copy")
    shutil.copytree(folder, copy)
    shutil.copytree(quarantine_of(folder), quarantine_of(copy))
    assert undo(copy).num_files == 2
    assert tree_of(copy) == before
    assert not quarantine_of(copy).exists()
    assert tree_of(folder) == after
    renamed = folder.with_name("renamed")
    quarantine_of(folder).rename(quarantine_of(renamed))
    folder.rename(renamed)
    assert undo(renamed).num_files == 2
    assert tree_of(renamed) == before
    assert not quarantine_of(renamed).exists()


def test_a_volume_that_has_another_path_outside_of_its_container_is_undone(
    folder: Path, plan_for: Callable[..., Path]
) -> None:
    before = tree_of(folder)
    inside = list_quarantines(folder)[1]
    apply_plan(folder, plan_for(("daisy/1.jpg", "quarantine")), quarantine=inside)
    host = folder.rename(folder.with_name("volume"))
    assert undo(host).num_files == 1
    assert tree_of(host) == before


def test_a_journal_that_leads_out_of_the_folders_is_refused(
    folder: Path, plan_for: Callable[..., Path]
) -> None:
    apply_plan(folder, plan_for(("daisy/1.jpg", "quarantine")))
    (path,) = (quarantine_of(folder) / ".plans").iterdir()
    path.write_text(path.read_text().replace("daisy/1.jpg", "../1.jpg"))
    assert "the journal of the plan is damaged" in faults_of(lambda: undo(folder))[0][1]


def test_undo_after_a_plan_without_a_move_leaves_the_earlier_plan_and_names_it(
    folder: Path, plan_for: Callable[..., Path]
) -> None:
    before = tree_of(folder)
    empty = plan_for(("rose/1.jpg", "keep"), name="empty.csv")
    apply_plan(folder, empty)
    assert not quarantine_of(folder).exists()
    apply_plan(folder, plan_for(("daisy/1.jpg", "quarantine"), name="first.csv"))
    after = tree_of(folder)
    apply_plan(folder, empty)
    done = undo(folder)
    assert (done.plan, done.num_files, done.num_left) == ("empty.csv", 0, 1)
    assert (done.next_plan, done.next_files) == ("first.csv", 1)
    assert tree_of(folder) == after
    assert (undo(folder).plan, tree_of(folder)) == ("first.csv", before)


def test_the_same_plan_again_does_nothing(folder: Path, plan_for: Callable[..., Path]) -> None:
    plan = plan_for(("daisy/1.jpg", "quarantine"))
    assert not apply_plan(folder, plan).is_repeated
    after = tree_of(folder)
    assert apply_plan(folder, plan).is_repeated
    assert tree_of(folder) == after


def test_a_plan_applied_in_a_container_is_undone_outside_of_it(
    folder: Path, plan_for: Callable[..., Path]
) -> None:
    before = tree_of(folder)
    _, inside = list_quarantines(folder)  # where it is while the folder is a volume of its own
    apply_plan(folder, plan_for(("daisy/1.jpg", "quarantine")), quarantine=inside)
    assert (folder / ".quarantine/daisy/1.jpg").is_file()
    apply_plan(folder, plan_for(("daisy/2.jpg", "quarantine"), name="second.csv"))
    assert (folder / ".quarantine/daisy/2.jpg").is_file()
    assert undo(folder).num_left == 1
    undo(folder)
    assert tree_of(folder) == before


def test_the_plan_of_another_folder_is_told_in_one_sentence(
    folder: Path, plan_for: Callable[..., Path]
) -> None:
    plan = plan_for(*((f"other/{number}.jpg", "quarantine") for number in range(50)))
    told = faults_of(lambda: apply_plan(folder, plan))
    assert [what for _, what, _ in told] == [f"none of its 50 files is in {folder}"]


def test_classes_in_nested_folders_are_found_by_their_names(
    tmp_path: Path, plan_for: Callable[..., Path]
) -> None:
    folder = make_folder(tmp_path / "fruit", {"Apple/Gala/1.jpg": "1", "Pear/Abate/2.jpg": "2"})
    before = tree_of(folder)
    plan = plan_for(("Gala/1.jpg", "move", "Abate"), ("Abate/2.jpg", "quarantine"))
    class_folders = find_class_folders(folder)
    assert class_folders == {"Gala": "Apple/Gala", "Abate": "Pear/Abate"}
    apply_plan(folder, plan, class_folders=class_folders)
    assert set(tree_of(folder)) == {"Pear/Abate/1.jpg"}
    undo(folder)
    assert tree_of(folder) == before


def test_every_row_that_cannot_be_followed_is_named_and_nothing_moves(
    folder: Path, plan_for: Callable[..., Path]
) -> None:
    (folder / "daisy/link.jpg").symlink_to("1.jpg")
    (folder.parent / "elsewhere").mkdir()
    (folder.parent / "elsewhere/1.jpg").write_text("x")
    (folder / "linked").symlink_to(folder.parent / "elsewhere")
    make_folder(quarantine_of(folder), {"daisy/2.jpg": "old"})
    before = tree_of(folder)
    plan = plan_for(
        ("daisy/1.jpg", "move", "roze"),
        ("daisy/sub/3.jpg", "move", "roze"),
        ("../secret", "quarantine"),
        ("/etc/passwd", "quarantine"),
        ("daisy/none.jpg", "quarantine"),
        ("daisy/link.jpg", "quarantine"),
        ("linked/1.jpg", "quarantine"),
        ("rose/1.jpg", "move", "linked"),
        ("rose/4.jpg", "move"),
        ("daisy/2.jpg", "quarantine"),
        ("daisy", "quarantine"),
        ("daisy/1.jpg/x", "quarantine"),
    )
    told = {
        where.rpartition("row ")[2]: (what, hint)
        for where, what, hint in faults_of(lambda: apply_plan(folder, plan))
    }
    assert told["2 and 1 other"] == ("there is no such class folder", "did you mean rose?")
    assert told["4"][0] == told["5"][0] == "it is not a path below the folder"
    assert told["6"][0] == told["13"][0] == "there is no such file: it was moved, renamed or deleted"
    assert told["7"][0] == "it is a link, and only files are moved"
    assert told["8"][0] == "its folder is a link, and the file is elsewhere"
    assert told["9"][0] == "the class folder is a link"
    assert told["10"][0] == "the action is move, but the column `to` is empty"
    assert told["11"][0] == "a file of this name is in the quarantine folder already"
    assert told["12"][0] == "it is not a file"
    assert tree_of(folder) == before


def test_faults_of_reading_and_of_following_a_plan_are_told_together_in_the_order_of_rows(
    folder: Path, tmp_path: Path
) -> None:
    rows = ("daisy/none.jpg,move,rose", "daisy/1.jpg,delete,", "daisy/2.jpg,move,roze", "../x,quarantine,")
    twice = ("rose/1.jpg,keep,", "rose/1.jpg,quarantine,")
    (tmp_path / "plan.csv").write_text("\n".join(("file,action,to", *rows, *twice)))
    told = faults_of(lambda: apply_plan(folder, tmp_path / "plan.csv"))
    assert [(where.rpartition("row ")[2], what) for where, what, _ in told] == [
        ("2", "there is no such file: it was moved, renamed or deleted"),
        ("3", "the action is not known"),
        ("4", "there is no such class folder"),
        ("5", "it is not a path below the folder"),
        ("7", "it names the same file as row 6"),
    ]


def test_a_file_stays_in_its_class_only_once(folder: Path, plan_for: Callable[..., Path]) -> None:
    plan = plan_for(("daisy/1.jpg", "move", "daisy"))
    assert faults_of(lambda: apply_plan(folder, plan))[0][1] == "it is in this class already"


def test_pictures_move_within_their_set_or_to_the_set_that_is_named(
    tmp_path: Path, plan_for: Callable[..., Path]
) -> None:
    files = {
        f"{part}/{name}/{part}{i}.jpg": f"{part}{name}{i}"
        for part in ("train", "test")
        for name in "ab"
        for i in "12"
    }
    folder = make_folder(tmp_path / "own", files)
    for path in folder.rglob("*.jpg"):  # a split is recognized by its pictures
        assert path.is_file()
    plan = plan_for(
        ("training/a/train1.jpg", "move", "b"),
        ("train/a/train2.jpg", "move", "train/b"),
        ("evaluation/b/test1.jpg", "move", "training/a"),
    )
    apply_plan(folder, plan)
    moved = {str(path.relative_to(folder)) for path in folder.rglob("*.jpg")} - set(files)
    assert moved == {"train/b/train1-from-a.jpg", "train/b/train2-from-a.jpg", "train/a/test1.jpg"}
    undo(folder)
    assert {str(path.relative_to(folder)) for path in folder.rglob("*.jpg")} == set(files)


def test_names_that_are_not_utf8_or_not_composed_are_found(
    tmp_path: Path, plan_for: Callable[..., Path]
) -> None:
    folder = make_folder(tmp_path / "odd", {"a/cafe\u0301.jpg": "1", "a/=1+1.jpg": "2", "b/x.jpg": "3"})
    strange = os.fsencode(folder / "a") + b"/\xff\n.jpg"
    with open(strange, "wb") as file:  # noqa: PTH123 - a Path would be the same
        file.write(b"4")
    before = {os.fsencode(path) for path in folder.rglob("*")}
    rows = [("a/caf\u00e9.jpg", "quarantine"), ("a/%FF\n.jpg", "move", "b"), ("a/=1+1.jpg", "move", "b")]
    apply_plan(folder, plan_for(*rows))
    assert os.path.exists(os.fsencode(folder / "b") + b"/\xff\n.jpg")  # noqa: PTH110
    assert (folder / "b/=1+1.jpg").read_text() == "2"
    undo(folder)
    assert {os.fsencode(path) for path in folder.rglob("*")} == before


def test_undo_refuses_with_every_reason_where_files_changed(
    folder: Path, plan_for: Callable[..., Path]
) -> None:
    apply_plan(
        folder,
        plan_for(
            ("daisy/1.jpg", "quarantine"), ("daisy/2.jpg", "move", "rose"), ("rose/4.jpg", "quarantine")
        ),
    )
    (quarantine_of(folder) / "daisy/1.jpg").write_text("changed")
    (folder / "rose/2.jpg").unlink()
    (folder / "rose/4.jpg").write_text("a new one")
    state = tree_of(folder.parent)
    assert [what for _, what, _ in faults_of(lambda: undo(folder))] == [
        "the file changed since it was moved here",
        "the file was moved here and is gone",
        "another file has taken the original place of a moved one",
    ]
    assert tree_of(folder.parent) == state


def test_a_split_made_here_is_refused(folder: Path, plan_for: Callable[..., Path]) -> None:
    (folder / "split.json").write_text('{"format": 3,\n"pictures": []}\n')
    told = faults_of(lambda: apply_plan(folder, plan_for(("daisy/1.jpg", "quarantine"))))
    assert told[0][1] == "the folder holds a split made by classifold"


def test_a_folder_that_another_process_reads_is_not_changed(
    folder: Path, plan_for: Callable[..., Path]
) -> None:
    import fcntl

    number = os.open(folder, os.O_RDONLY)
    fcntl.flock(number, fcntl.LOCK_SH)
    try:
        told = faults_of(lambda: apply_plan(folder, plan_for(("daisy/1.jpg", "quarantine"))))
    finally:
        os.close(number)
    assert told[0][1] == "another process of classifold uses the folder"


@pytest.mark.skipif(ROOT_USER, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_named(folder: Path, plan_for: Callable[..., Path]) -> None:
    plan = plan_for(("daisy/1.jpg", "quarantine"), ("rose/1.jpg", "quarantine"))
    before = tree_of(folder)
    (folder / "rose").chmod(0o555)
    try:
        assert faults_of(lambda: apply_plan(folder, plan))[0][1] == "permission denied"
    finally:
        (folder / "rose").chmod(0o755)
    assert tree_of(folder) == before
    assert not quarantine_of(folder).exists()


def test_a_damaged_journal_is_named(folder: Path, plan_for: Callable[..., Path]) -> None:
    apply_plan(folder, plan_for(("daisy/1.jpg", "quarantine")))
    (path,) = (quarantine_of(folder) / ".plans").iterdir()
    path.write_text(path.read_text().splitlines()[0] + "\n")
    assert "the journal of the plan is damaged" in faults_of(lambda: undo(folder))[0][1]


def test_a_copy_to_another_disk_keeps_content_time_and_mode(
    folder: Path, plan_for: Callable[..., Path], tmp_path: Path
) -> None:
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second disk")
    quarantine = other / f"classifold-test-{os.getpid()}"
    (folder / "daisy/1.jpg").chmod(0o640)
    before = tree_of(folder)
    try:
        apply_plan(folder, plan_for(("daisy/1.jpg", "quarantine")), quarantine=quarantine)
        moved = quarantine / "daisy/1.jpg"
        assert stat.S_IMODE(moved.stat().st_mode) == 0o640
        assert moved.stat().st_mtime_ns == before["daisy/1.jpg"][1]
        assert "daisy/1.jpg" not in tree_of(folder)
        undo(folder, quarantine=quarantine)
        assert not quarantine.exists()
    finally:
        shutil.rmtree(quarantine, ignore_errors=True)
    assert tree_of(folder) == before


POOR = """
import errno, sys
from pathlib import Path
from classifold.datacheck.apply import apply_plan, undo

def refuse(event, arguments):
    if event == "os.link":
        raise OSError(errno.EPERM, "Operation not permitted")

sys.addaudithook(refuse)
folder, plan = map(Path, sys.argv[1:])
apply_plan(folder, plan)
print(sorted(str(path.relative_to(folder)) for path in folder.rglob("*.jpg")))
undo(folder)
"""


def test_a_disk_without_locks_and_hard_links_will_do(
    folder: Path,
    plan_for: Callable[..., Path],
    run_python: Callable[..., Any],
    poor_disk: Callable[..., dict[str, str]],
) -> None:
    before = tree_of(folder)
    plan = plan_for(("daisy/1.jpg", "move", "rose"), ("daisy/2.jpg", "quarantine"))
    answer = run_python("-c", POOR, folder, plan, env=poor_disk(lock_error=errno.ENOLCK))
    assert answer.code == 0, answer.err
    assert answer.out.strip() == str(["daisy/sub/3.jpg", "rose/1-from-daisy.jpg", "rose/1.jpg", "rose/4.jpg"])
    assert tree_of(folder) == before


NAMES = ("a/1.jpg", "a/2.jpg", "a/x/1.jpg", "b/1.jpg", "b/2.jpg", "c/1.jpg")
ROWS = st.tuples(
    st.sampled_from((*NAMES, "a/gone.jpg", "../1.jpg")),
    st.sampled_from(("keep", "quarantine", "quarantine", "move", "move", "move")),
    st.sampled_from(("a", "b", "c", "c", "none")),
)


@settings(max_examples=60)
@given(plans=st.lists(st.lists(ROWS, max_size=5, unique_by=lambda row: row[0]), min_size=1, max_size=3))
def test_whatever_plans_say_no_file_is_lost_and_all_can_be_undone(
    tmp_path_factory: pytest.TempPathFactory, plans: list[list[tuple[str, Any, str]]]
) -> None:
    root = tmp_path_factory.mktemp("plans")
    folder = make_folder(root / "data", {name: f"the content of {name}" for name in NAMES})
    states = [tree_of(folder)]
    for number, rows in enumerate(plans):
        plan = root / f"{number}.csv"
        write_plan(plan, [Step(*row) for row in rows])
        before = tree_of(root)
        try:
            done = apply_plan(folder, plan)
        except DataError:
            assert tree_of(root) == before
            continue
        if (done.num_moved + done.num_quarantined or len(states) > 1) and not done.is_repeated:
            states.append(tree_of(folder))
        files = {
            **tree_of(folder),
            **{f"q/{key}": one for key, one in tree_of(quarantine_of(folder)).items()},
        }
        contents = sorted(one[0] for key, one in files.items() if ".plans" not in key)
        assert contents == sorted(f"the content of {name}".encode() for name in NAMES)
    for state in reversed(states[:-1]):
        undo(folder)
        assert tree_of(folder) == state
    assert not quarantine_of(folder).exists()
    shutil.rmtree(root)


# A child process is killed before its n-th change of the disk, for every n; then the plan is finished or
# taken back. Changes are counted by an audit hook, so the code runs as it is.
KILLED = """
import errno, json, os, shutil, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_apply import make_folder, tree_of
from classifold.datacheck.apply import apply_plan, undo
from classifold.datacheck.journal import Journal
from classifold.errors import ClassifoldError

root, far = Path(sys.argv[2]), Path(sys.argv[3])
plan, files = root / "plan.csv", json.loads(sys.argv[4])
EVENTS = {"os.link", "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.utime", "shutil.copyfile"}

def fork(call, step, how):
    # Returns 0, something else for an exception, or the signal that killed it.
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    left = [step]
    def hook(event, arguments):
        if event in EVENTS:
            left[0] -= 1
            if left[0] == -1 and how == "Ctrl-C":
                raise KeyboardInterrupt
            if left[0] == -1 and how == "full disk":
                raise OSError(errno.ENOSPC, "no space", str(arguments[0]))
            if left[0] < 0 and how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)
    sys.stderr = open(os.devnull, "w")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        call()
    except BaseException:
        os._exit(1)
    finally:
        os._exit(0)

wrong, steps = [], 0
for quarantine in (root / "q", far):
    ways = ("apply, apply", "apply, undo", "undo, undo", "undo, apply")
    for way in ways if quarantine == far else ways[1:3]:
        for step in range(1000):
            for place in (root / "data", quarantine):
                shutil.rmtree(place, ignore_errors=True)
            folder = make_folder(root / "data", files)
            before = tree_of(folder)
            first, second = way.split(", ")
            do = {"apply": lambda: apply_plan(folder, plan, quarantine=quarantine),
                  "undo": lambda: undo(folder, quarantine=quarantine)}
            if first == "undo":
                do["apply"]()
            killed = fork(do[first], step, "kill") == signal.SIGKILL
            both = {one[0] for tree in (tree_of(folder), tree_of(quarantine)) for one in tree.values()}
            if not both >= {one[0] for one in before.values()}:
                wrong.append((str(quarantine), way, step, "a file is lost"))
            try:
                do[second]()
            except ClassifoldError as error:
                if "nothing to undo" not in str(error):
                    wrong.append((str(quarantine), way, step, str(error)))
            after = tree_of(folder)
            if second == "undo":
                if after != before:
                    wrong.append((str(quarantine), way, step, sorted(after)))
            else:
                if "a/1.jpg" in after or "b/2.jpg" not in after:
                    wrong.append((str(quarantine), way, step, sorted(after)))
                undo(folder, quarantine=quarantine)
                if tree_of(folder) != before:
                    wrong.append((str(quarantine), way, step, "undone wrongly"))
            if quarantine.exists():
                wrong.append((str(quarantine), way, step, "left behind"))
            if not killed:
                break
            steps += 1
# What the process itself notices is taken back at once.
for quarantine, how in ((root / "q", "Ctrl-C"), (far, "full disk")):
    for step in range(1000):
        for place in (root / "data", quarantine):
            shutil.rmtree(place, ignore_errors=True)
        folder = make_folder(root / "data", files)
        before = tree_of(folder)
        code = fork(lambda: apply_plan(folder, plan, quarantine=quarantine), step, how)
        if code == 0:
            if len(tree_of(folder)) != 2:
                wrong.append((str(quarantine), how, step, "not applied"))
            undo(folder, quarantine=quarantine)
        if tree_of(folder) != before or quarantine.exists():
            wrong.append((str(quarantine), how, step, sorted(tree_of(folder)), quarantine.exists()))
        if code == 0:
            break
        steps += 1
print(json.dumps([steps, wrong]))
"""


def test_a_plan_is_finished_or_taken_back_after_a_kill_at_any_step(
    tmp_path: Path, plan_for: Callable[..., Path], run_python: Callable[..., Any]
) -> None:
    files = {"a/1.jpg": "1", "a/2.jpg": "2", "a/deep/3.jpg": "3", "b/4.jpg": "4"}
    plan_for(("a/1.jpg", "quarantine"), ("a/deep/3.jpg", "quarantine"), ("a/2.jpg", "move", "b"))
    shared = Path("/dev/shm")
    far = (shared if shared.is_dir() else tmp_path) / f"classifold-test-{os.getpid()}"
    try:
        answer = run_python("-c", KILLED, Path(__file__).parent, tmp_path, far, json.dumps(files))
    finally:
        shutil.rmtree(far, ignore_errors=True)
    assert answer.code == 0, answer.err
    steps, wrong = json.loads(answer.out)
    assert wrong == []
    assert steps > 60


def test_a_disk_that_refuses_in_the_middle_leaves_everything_as_it_was(
    folder: Path, plan_for: Callable[..., Path]
) -> None:
    plan = plan_for(("daisy/1.jpg", "quarantine"), ("daisy/2.jpg", "quarantine"))
    before = tree_of(folder)
    # A file where the folder of the quarantined pictures has to be.
    make_folder(quarantine_of(folder), {"daisy": "a file"})
    assert faults_of(lambda: apply_plan(folder, plan))[0][1] == "it is a file, not a folder"
    assert tree_of(folder) == before
    assert Journal(quarantine_of(folder), folder).count() == 0
