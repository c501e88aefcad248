"""Checkpoints: read back bit for bit, never taken when damaged, refused for another run; and whole runs."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from classifold.errors import DiskError, RunError
from classifold.machine import memory_bytes
from classifold.training.beginning import load_beginning, save_beginning
from classifold.training.checkpoints import (
    Checkpoints,
    CheckpointWriter,
    SavedRun,
    pack_saved,
    unpack_saved,
)
from classifold.training.facts import check_facts
from classifold.training.journal import EpochRow
from classifold.training.scaling import Scaling
from classifold.training.state import RunState, StageState
from made_runs import leave_out_progress

FACTS = {
    "settings": {"EPOCHS": 3, "BACKBONE": "tiny"},
    "data": "abc",
    "class_names": ["a", "b"],
    "backend": "tensorflow",
    "versions": {"keras": "3.0"},
}


def make(number: int = 1, *, size: int = 6) -> RunState:
    """A state whose arrays tell its number."""
    arrays = [np.full((2, size), number, np.float32), np.array(number, np.int64), np.zeros((0, 3), np.uint32)]
    row = EpochRow("head", number, 0.1, math.nan, math.inf, 1 / 3, 1e-300, 0.5, True, 0.25, 7)
    inside = StageState(
        recent=(arrays, arrays[:1]),
        kept=arrays,
        optimizer=arrays,
        seeds=[np.array([1, 2**32 - 1], np.uint32)],
        before=0,
        scaling=Scaling(np.arange(3, dtype=np.float32), np.ones(3, np.float32)),
    )
    return RunState(stage=1, rows=(row,) * number, weights=arrays, seeds=arrays[1:2], inside=inside)


def expect_same(one: Any, other: Any) -> None:
    """Two values of dataclasses, sequences, arrays and numbers are the same, to the last bit."""
    if isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        assert one.tobytes() == other.tobytes()
    elif hasattr(one, "__dataclass_fields__"):
        for name in one.__dataclass_fields__:
            expect_same(getattr(one, name), getattr(other, name))
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            expect_same(a, b)
    else:
        assert repr(one) == repr(other)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints"


def save(folder: Path, state: RunState, *, host: str = "", checkpoints: Any = None) -> Checkpoints:
    checkpoints = checkpoints or Checkpoints(folder, host=host)
    checkpoints.save(state, facts=FACTS, seconds={"head": 1.5})
    return checkpoints


def load(folder: Path, *, host: str = "") -> tuple[SavedRun | None, list[str]]:
    notes: list[str] = []
    return Checkpoints(folder, host=host).load(tell=notes.append), notes


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Writing and reading


def test_what_was_saved_is_loaded_bit_for_bit(folder):
    for state in (make(3), replace(make(2), inside=None), replace(make(4), stage=0)):
        save(folder, state)
        found, notes = load(folder)
        assert notes == []
        expect_same(found.state, state)
        assert found.facts == FACTS
        assert found.seconds == {"head": 1.5}
        shutil.rmtree(folder)


def test_the_state_of_a_stage_without_scaling_has_none(folder):
    state = make()
    save(folder, replace(state, inside=replace(state.inside, scaling=None, before=None)))
    found, _ = load(folder)
    assert found.state.inside.scaling is None
    assert found.state.inside.before is None


ARRAYS = st.lists(
    hnp.arrays(
        st.sampled_from([np.dtype(name) for name in ("f4", "f8", "f2", "i8", "u4", "?")]),
        hnp.array_shapes(min_dims=0, max_dims=3, max_side=4),
    ),
    max_size=4,
)


@settings(max_examples=30, deadline=None)
@given(weights=ARRAYS, kept=ARRAYS, recent=st.lists(ARRAYS, min_size=1, max_size=12))
def test_arrays_of_any_kind_and_number_come_back_in_their_order(tmp_path_factory, weights, kept, recent):
    folder = tmp_path_factory.mktemp("any") / "checkpoints"
    inside = StageState(recent=tuple(recent), kept=kept, optimizer=[], seeds=[])
    state = RunState(0, make().rows, weights, [], inside)
    save(folder, state)
    found, _ = load(folder)
    expect_same(found.state, state)


def test_nothing_saved_is_nothing_found(folder):
    assert load(folder) == (None, [])


def test_a_line_says_where_the_run_goes_on(folder):
    save(folder, make(3))
    found, _ = load(folder)
    line = replace(found, written=found.written.replace(2026, 1, 2, 3, 4, 5)).describe()
    assert line == "resumed from epoch 3 of the head (checkpoint of 2026-01-02 03:04:05 UTC)"


def test_epochs_of_fine_tuning_and_tries_of_the_head_are_each_counted_from_1():
    tries = tuple(replace(make().rows[0], epoch=n, penalty=0.1**n) for n in (1, 2))
    tuned = tuple(replace(make().rows[0], epoch=n, stage="fine_tune") for n in (3, 4, 5))
    assert replace(make(), rows=tries).describe() == "try 2 of the head (regularization 0.01)"
    assert replace(make(), rows=(*tries, *tuned)).describe() == "epoch 3 of fine-tuning"


def test_two_generations_are_kept_in_two_plain_files_each(folder):
    checkpoints = save(folder, make(1))
    for number in (2, 3, 4):
        save(folder, make(number), checkpoints=checkpoints)
    assert files(folder) == [f"checkpoint-{n:06d}.{end}" for n in (3, 4) for end in ("bin", "json")]
    head = json.loads((folder / "checkpoint-000004.json").read_text())
    assert head["rows"][0]["val_loss"] == "inf"
    assert list(head["files"]) == ["checkpoint-000004.bin"]
    # Nothing but arrays: no pickle that could run code.
    assert b"numpy" not in (folder / "checkpoint-000004.bin").read_bytes()


def test_several_machines_share_a_folder_without_touching_each_others_files(folder):
    first, second = (save(folder, make(n), host=f"algo-{n}") for n in (1, 2))
    for _ in range(3):
        save(folder, make(1), checkpoints=first)
    save(folder, make(2), checkpoints=second)
    assert len(files(folder)) == 8
    assert all(name.startswith(("algo-1-checkpoint-", "algo-2-checkpoint-")) for name in files(folder))
    assert len(load(folder, host="algo-2")[0].state.rows) == 2
    assert load(folder, host="algo-3") == (None, [])


def test_what_a_killed_writer_left_is_cleared_away(folder):
    save(folder, make(1))
    left = folder / ".checkpoint-000002.bin.123-abc.partial"
    left.write_bytes(b"half")
    (folder / "notes.txt").write_text("the user's own")
    checkpoints = Checkpoints(folder)
    assert checkpoints.load(tell=pytest.fail) is not None
    save(folder, make(2), checkpoints=checkpoints)
    assert not left.exists()
    assert (folder / "notes.txt").exists()


# Damage


def damage_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("end", ["json", "bin"])
@pytest.mark.parametrize("harm", [damage_bit, cut, empty, Path.unlink])
def test_a_damaged_newest_generation_gives_way_to_the_one_before_and_is_named(harm, end, folder):
    checkpoints = save(folder, make(1))
    save(folder, make(2), checkpoints=checkpoints)
    harm(folder / f"checkpoint-000002.{end}")
    found, notes = load(folder)
    expect_same(found.state, make(1))
    assert len(notes) == 1
    assert str(folder / "checkpoint-000002.json") in notes[0]


def forge(folder: Path, change: Callable[[dict[str, Any]], Any], *, data: bytes | None = None) -> None:
    """Change the newest generation's JSON, and its arrays, so that every checksum is right."""
    path = max(folder.glob("*.json"))
    head = json.loads(path.read_text())
    del head["sha256"]
    if data is not None:
        path.with_suffix(".bin").write_bytes(data)
        files = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        head["files"] = {path.with_suffix(".bin").name: files}
    change(head)
    signed = hashlib.sha256(json.dumps(head, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps({**head, "sha256": signed}))


def put(*place: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    """Return a change of a checkpoint's JSON: the value at a place in it."""

    def change(head: Any) -> None:
        for key in place[:-1]:
            head = head[key]
        head[place[-1]] = value

    return change


FORGED = {
    "no state": (lambda head: [head.pop(key) for key in ("stage", "rows", "arrays")], "stage is wrong"),
    "no files": (lambda head: head.pop("files"), "does not say what"),
    "files of another kind": (put("files", value=[]), "does not say what"),
    "objects for numbers": (put("arrays", "weights", 0, 0, value="|O"), "unknown kind of number: '|O'"),
    "a record for numbers": (
        put("arrays", "weights", 0, 0, value="i4,i4"),
        "unknown kind of number: 'i4,i4'",
    ),
    "no kind at all": (put("arrays", "weights", 0, 0, value="((("), "unknown kind of number"),
    "a huge array": (put("arrays", "weights", 0, 1, value=[1 << 39, 1 << 39]), "bytes, expected"),
    "a negative side": (put("arrays", "weights", 0, 1, value=[-1]), "arrays.weights.0.1.0 is wrong"),
    "many sides": (put("arrays", "weights", 0, 1, value=[1] * 70), "arrays.weights.0.1 is wrong"),
    "another size": (put("arrays", "weights", 0, 1, value=[2, 5]), "bytes, expected"),
    "a group less": (lambda head: head["arrays"].pop("kept"), "it has no kept"),
    "half a scaling": (lambda head: head["arrays"]["scaling"].pop(), "a scaling must be two arrays"),
    "a row of its own": (put("rows", 0, value={"stage": 1}), "a row does not belong to an epoch"),
    "a row of other kinds": (put("rows", 0, "epoch", value="x"), "a row does not belong to an epoch"),
    "an epoch before all": (put("inside", "before", value=99), "has no row"),
    "a number that is a list": (put("inside", "step", value=[1]), "inside.step is wrong"),
    "a stage that is a text": (put("stage", value="head"), "stage is wrong"),
    "no time": (put("written", value="soon"), "written is wrong"),
    "facts that are a list": (put("facts", value=[]), "facts is wrong"),
    "settings that are a list": (put("facts", "settings", value=[]), "facts.settings is wrong"),
    "a plan of its own": (put("facts", "plan", value={"rm": "-rf"}), "facts.plan"),
    "seconds that are a text": (put("seconds", value={"head": "x"}), "seconds.head is wrong"),
}


@pytest.mark.parametrize(("change", "words"), FORGED.values(), ids=FORGED)
def test_a_forged_generation_gives_way_to_the_one_before_and_is_named(change, words, folder):
    checkpoints = save(folder, make(1))
    save(folder, make(2), checkpoints=checkpoints)
    forge(folder, change)
    found, [note] = load(folder)
    assert "checkpoint-000002.json cannot be used: " in note
    assert words in note
    assert "\n" not in note
    expect_same(found.state, make(1))


def test_a_file_that_would_fill_the_memory_is_not_read(folder, monkeypatch):
    save(folder, make(1))
    with (folder / "checkpoint-000001.bin").open("wb") as file:
        file.truncate(memory_bytes())
    found, [note, _] = load(folder)
    assert found is None
    assert f"checkpoint-000001.bin has {memory_bytes():,} bytes, more than" in note
    (folder / "checkpoint-000001.json").write_text(" " * 17_000_000)
    assert "has 17,000,000 bytes, more than 16,000,000" in load(folder)[1][0]
    (folder / "checkpoint-000001.json").write_text("[" * 1_000_000)
    assert "it is damaged (" in load(folder)[1][0]


@pytest.mark.parametrize("end", ["json", "bin"])
def test_links_pipes_and_folders_are_no_checkpoints(end, folder, tmp_path: Path):
    for kind in ("link", "pipe", "folder"):
        checkpoints = save(folder, make(1))
        save(folder, make(2), checkpoints=checkpoints)
        path = folder / f"checkpoint-000002.{end}"
        path.rename(tmp_path / "aside")
        if kind == "link":
            path.symlink_to(tmp_path / "aside")
        elif kind == "pipe":
            os.mkfifo(path)
        else:
            path.mkdir()
        found, [note] = load(folder)
        assert len(found.state.rows) == 1
        assert ("is a link" if kind == "link" else "is not an ordinary file") in note
        shutil.rmtree(folder)


def test_where_nothing_whole_is_left_training_begins_anew_and_that_is_said(folder):
    save(folder, make(1))
    (folder / "checkpoint-000001.bin").unlink()
    found, notes = load(folder)
    assert found is None
    assert "training starts from scratch" in notes[-1]


def test_what_follows_a_damaged_generation_never_replaces_the_last_good_one(folder):
    checkpoints = save(folder, make(1))
    save(folder, make(2), checkpoints=checkpoints)
    cut(folder / "checkpoint-000002.bin")
    again = Checkpoints(folder)
    again.load(tell=lambda _: None)
    save(folder, make(3), checkpoints=again)
    assert files(folder) == [f"checkpoint-{n:06d}.{end}" for n in (1, 3) for end in ("bin", "json")]


def test_a_checkpoint_of_a_later_form_is_refused(folder):
    from classifold.training.checkpoints import _sign

    save(folder, make(1))
    path = folder / "checkpoint-000001.json"
    head = json.loads(path.read_text())
    del head["sha256"]
    head["format"] = 3
    path.write_text(json.dumps({**head, "sha256": _sign(head)}))
    with pytest.raises(RunError, match="another version"):
        load(folder)


WRITER = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from test_checkpoints import FACTS, make
from classifold.training.checkpoints import Checkpoints

checkpoints = Checkpoints(Path(sys.argv[1]))
# Killed between its two files, a generation is half there, which is told and no damage.
found = checkpoints.load(tell=lambda note: "is missing" in note or sys.exit(f"damaged: {note}"))
number = len(found.state.rows) if found else 0
print("begun", flush=True)
while True:
    number += 1
    checkpoints.save(make(number, size=200_000), facts=FACTS, seconds={})
    print("saved", flush=True)
"""


def test_a_writer_killed_at_any_moment_leaves_a_whole_generation(folder):
    generator, reached = np.random.default_rng(0), 0
    for _ in range(6):
        places = [str(place) for place in Path(__file__).parents[:2]]  # this file's and made_runs'
        command = [sys.executable, "-c", WRITER, str(folder), *places]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert [process.stdout.readline() for _ in range(2)] == ["begun\n", "saved\n"]
            time.sleep(generator.uniform(0.02, 0.2))
            process.kill()
        found, notes = load(folder)
        # The file that was being written may be half there, under a name that nobody looks at.
        assert all("is missing" in note for note in notes)
        number = len(found.state.rows) if found else 0
        assert number >= reached
        if found:
            expect_same(found.state.weights, make(number, size=200_000).weights)
        reached = number
    assert reached > 3


# What must be the same


def test_the_same_facts_are_taken_without_a_word(folder):
    save(folder, make())
    found, _ = load(folder)
    assert check_facts(found, {**FACTS, "pictures": ["x"]}) == []


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"settings": {"EPOCHS": 9, "BACKBONE": "tiny"}}, ["EPOCHS", "3", "9"]),
        ({"settings": {"EPOCHS": 1, "BACKBONE": "x"}}, ["EPOCHS", "BACKBONE", "tiny"]),
        ({"data": "xyz"}, ["other pictures"]),
        ({"class_names": ["a", "c"]}, ["other classes"]),
        ({"backend": "jax"}, ["engine"]),
    ],
)
def test_other_settings_or_data_are_refused_with_all_that_differs(changed, words, folder):
    save(folder, make())
    found, _ = load(folder)
    with pytest.raises(RunError) as error:
        check_facts(found, {**FACTS, **changed})
    text = str(error.value)
    assert all(word in text for word in words)
    assert f"remove {folder}" in text


def test_other_versions_are_remarked_upon(folder):
    save(folder, make())
    found, _ = load(folder)
    (note,) = check_facts(found, {**FACTS, "versions": {"keras": "3.1"}})
    assert "keras 3.1" in note
    assert "3.0" in note


def test_every_setting_of_model_and_training_counts_and_no_other(tiny, sets_dir: Path):
    from classifold.dataset.scan import load_sets
    from classifold.training.facts import build_facts

    found = build_facts(tiny(), load_sets(sets_dir), backend="tensorflow")["settings"]
    assert {
        "SAMPLE_BITS",
        "BACKBONE",
        "IMAGE_SIZE",
        "RANDOM_SEED",
        "EPOCHS",
        "DROPOUT",
        "ERASING_PROBABILITY",
    } <= set(found)
    free = {"RUNS_DIR", "TAGS", "INSTANCE_TYPE", "CACHE_GB", "NUM_WORKERS", "TOP_K", "SPOT", "DATA_LOCAL_DIR"}
    assert not free & set(found)
    json.dumps(found)


# Writing while training goes on


@pytest.fixture
def write(folder: Path) -> Callable[..., Any]:
    """write() -> a writer, and what it told."""

    def write(where: Path = folder, **options: Any) -> Any:
        notes: list[str] = []
        writer = CheckpointWriter(
            Checkpoints(where), facts=FACTS, count_seconds=dict, tell=notes.append, **options
        )
        return writer, notes

    return write


def test_the_first_state_is_saved_and_those_right_after_it_are_not(write, folder):
    writer, _ = write()
    states = [make(n) for n in range(1, 6)]
    for state in states:
        writer.offer(state)
        time.sleep(0.1)
    assert len(load(folder)[0].state.rows) == 1
    # At an interruption the last one is saved whatever the time.
    assert writer.save(states[-1])
    assert len(load(folder)[0].state.rows) == 5
    before = files(folder)
    assert writer.save(states[-1])
    assert files(folder) == before


def test_what_was_found_is_not_written_again(write, folder):
    state = make()
    writer, _ = write(saved=state)
    assert writer.save(state)
    assert not folder.exists()


def test_a_folder_that_cannot_be_written_is_told_of_once_and_tried_again(write, tmp_path: Path):
    (tmp_path / "file").write_text("")
    where = tmp_path / "file" / "checkpoints"
    writer, notes = write(where)
    assert not writer.save(make(1))
    assert not writer.save(make(2))
    assert len(notes) == 1
    assert str(tmp_path / "file") in notes[0]
    assert "training continues" in notes[0]
    (tmp_path / "file").unlink()
    assert writer.save(make(3))
    assert len(load(where)[0].state.rows) == 3


def test_a_full_disk_leaves_the_last_good_generation(write, mount):
    disk = mount("size=1m")
    writer, notes = write(disk)
    assert writer.save(make(1))
    assert not writer.save(make(2, size=200_000))
    assert "the disk is full" in notes[0]
    found, damaged = load(disk)
    assert len(found.state.rows) == 1
    assert damaged == []
    assert files(disk) == ["checkpoint-000001.bin", "checkpoint-000001.json"]


def test_a_disk_that_becomes_read_only_leaves_the_last_good_generation(write, mount):
    disk = mount("size=9m")
    writer, notes = write(disk)
    assert writer.save(make(1))
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    assert not writer.save(make(2))
    assert "read-only" in notes[0]
    assert len(load(disk)[0].state.rows) == 1


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match="file"):
        load(tmp_path / "file")


# Runs


def without_seconds(rows: Any) -> list[EpochRow]:
    return [replace(row, seconds=0.0) for row in rows]


@pytest.mark.parametrize(
    "settings",
    [
        {"DROPOUT": 0.4, "HEAD_LAYERS": (6,), "AVERAGED_EPOCHS": 2},
        # Room for some of the augmented versions only, or new ones each epoch.
        {"CACHE_GB": 0.0004, "AUGMENTATION_VARIANTS": 3, "OPTIMIZER": "sgd"},
        {"FINE_TUNE_SHARE": 1.0, "AUGMENTATION_VARIANTS": 0, "CACHE_GB": 0.0},
    ],
    ids=str,
)
def test_a_run_that_goes_on_from_any_state_ends_with_the_same_bits(settings, learn, folder):
    straight, states, facts = learn(**settings)
    assert len(states) == 4 + 1 + 3 + 1
    weights = straight.classifier.model.get_weights()
    # Within the head's stage, between the stages, within the second.
    for place in (1, 4, 6):
        Checkpoints(folder).save(states[place], facts=facts, seconds={})
        found = Checkpoints(folder).load(tell=pytest.fail)
        again, more, _ = learn(found, **settings)
        assert len(more) == len(states) - 1 - place
        assert without_seconds(again.state.rows) == without_seconds(straight.state.rows)
        expect_same(again.classifier.model.get_weights(), weights)
        shutil.rmtree(folder)


def test_a_state_of_other_shapes_is_one_error_wherever_it_is_taken_up(learn, folder):
    settings = {"HEAD_LAYERS": (6,), "HEAD_EPOCHS": 1, "EPOCHS": 2}
    _, states, facts = learn(**settings)
    searched = learn(HEAD_EPOCHS=1, EPOCHS=1)[1]
    other = [np.zeros((1, 2), np.float32)]
    cases = [
        *((states[0], {name: other}, settings) for name in ("optimizer", "kept")),
        *((states[-2], {name: other}, settings) for name in ("optimizer", "seeds")),
        (states[0], {"recent": (other,)}, settings),
        (states[0], {"recent": (), "step": 1}, settings),
        (states[0], {"scaling": Scaling(np.zeros(2, np.float32), np.ones(2, np.float32))}, settings),
        *((searched[0], {name: other}, {"HEAD_EPOCHS": 1, "EPOCHS": 1}) for name in ("kept", "optimizer")),
    ]
    for state, change, chosen in cases:
        assert state.inside is not None
        changed = replace(state, inside=replace(state.inside, **change))
        Checkpoints(folder).save(changed, facts={**facts, "settings": {}}, seconds={})
        found = Checkpoints(folder).load(tell=pytest.fail)
        with pytest.raises(RunError, match="its arrays do not fit the network"):
            learn(found, **chosen)


@pytest.mark.parametrize(
    "settings",
    [
        {"DROPOUT": 0.4, "HEAD_LAYERS": (6,), "HEAD_EPOCHS": 1, "EPOCHS": 1},
        {"HEAD_PENALTIES": (0.3, 0.1, 0.03), "EPOCHS": 1, "CLASS_WEIGHTS": "balanced"},
    ],
    ids=str,
)
def test_a_run_goes_on_from_the_middle_of_an_epoch_with_the_same_bits(settings, learn, folder):
    straight, states, facts = learn(at_every_step=True, **settings)
    weights = straight.classifier.model.get_weights()
    inside = [place for place, state in enumerate(states) if state.inside and state.inside.step]
    searching = [place for place, state in enumerate(states) if state.inside and not state.inside.recent]
    assert len(inside) >= 5
    for place in (inside[0], inside[len(inside) // 2], inside[-1], *searching[1:2]):
        Checkpoints(folder).save(states[place], facts=facts, seconds={})
        found = Checkpoints(folder).load(tell=pytest.fail)
        again, _, _ = learn(found, **settings)
        assert without_seconds(again.state.rows) == without_seconds(straight.state.rows)
        expect_same(again.classifier.model.get_weights(), weights)
        shutil.rmtree(folder)


def test_an_interruption_within_an_epoch_leaves_the_state_after_its_latest_step(learn, folder, monkeypatch):
    from classifold.training.fit import StageTraining

    settings = {"DROPOUT": 0.4, "HEAD_LAYERS": (6,), "HEAD_EPOCHS": 1, "EPOCHS": 1}
    straight, _, facts = learn(**settings)
    step, calls, built = StageTraining._learn, list[int](), list[Any]()

    def interrupt(training: Any, *batch: Any) -> None:
        calls.append(training.step)
        if len(calls) == 8:
            raise KeyboardInterrupt
        step(training, *batch)

    with monkeypatch.context() as patch:
        patch.setattr(StageTraining, "_learn", interrupt)
        with pytest.raises(KeyboardInterrupt):
            learn(built=built, **settings)
    # Five batches are an epoch: the seventh is the second of fine-tuning, and nobody asked for its state yet.
    state = built[0].state
    assert (state.stage, state.inside.step) == (1, 2)
    Checkpoints(folder).save(state, facts=facts, seconds={})
    again, _, _ = learn(Checkpoints(folder).load(tell=pytest.fail), **settings)
    assert without_seconds(again.state.rows) == without_seconds(straight.state.rows)
    expect_same(again.classifier.model.get_weights(), straight.classifier.model.get_weights())


@pytest.fixture
def marked(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[int]]:
    """marked(3) -> a list that grows with each block that is computed; after the third comes Ctrl-C."""
    from classifold.training.array_cache import CachedArray

    mark = CachedArray.mark

    def marked(last: int = 0) -> list[int]:
        sizes: list[int] = []

        def count(cached: CachedArray, indices: Any) -> None:
            mark(cached, indices)
            sizes.append(len(indices))
            if len(sizes) == last:
                raise KeyboardInterrupt

        monkeypatch.setattr(CachedArray, "mark", count)
        return sizes

    return marked


def test_what_was_computed_of_the_pictures_is_not_computed_again(learn, marked, tmp_path: Path, folder):
    straight, states, facts = learn()
    expected = straight.classifier.model.get_weights()
    for last in (1, 4):  # of five: two sets' pictures, the validation's outputs, those of two versions
        cache_dir, sizes = tmp_path / f"shelf{last}", marked(last)
        with pytest.raises(KeyboardInterrupt):
            learn(cache_dir=cache_dir)
        assert len(sizes) == last
        rest = marked()
        again, _, _ = learn(cache_dir=cache_dir)
        assert len(rest) == 5 - last
        expect_same(again.classifier.model.get_weights(), expected)
        assert not cache_dir.exists()
    # With other settings nothing of it is of use.
    for seed, last in ((42, 4), (5, 2), (42, 4)):
        sizes = marked(last)
        with pytest.raises(KeyboardInterrupt):
            learn(cache_dir=tmp_path / "shelf", RANDOM_SEED=seed)
        assert len(sizes) == last
    # Where fine-tuning goes on in its third epoch, with the first version again, nothing is missing.
    Checkpoints(folder).save(states[6], facts=facts, seconds={})
    rest = marked()
    again, _, _ = learn(Checkpoints(folder).load(tell=pytest.fail), cache_dir=tmp_path / "shelf")
    assert rest == []
    expect_same(again.classifier.model.get_weights(), expected)


def test_where_nothing_can_be_kept_of_the_pictures_training_goes_on(learn, tmp_path: Path):
    (tmp_path / "shelf").write_text("in the way")
    learning, _, _ = learn(cache_dir=tmp_path / "shelf", EPOCHS=1)
    assert learning.state.has_best


def test_a_line_names_the_batch_where_a_run_goes_on(folder):
    inside = replace(make().inside, step=17, stage="fine_tune")
    save(folder, replace(make(2), inside=inside))
    assert (
        load(folder)[0]
        .describe()
        .startswith("resumed from batch 17 of epoch 1 of fine-tuning (checkpoint of ")
    )


def test_what_one_host_found_another_has_bit_for_bit(folder):
    state = make(3)
    sums = (float("nan"), 2.5)
    save(folder, replace(state, inside=replace(state.inside, step=4, sums=sums, stage="head")))
    found = load(folder)[0]
    other = unpack_saved(pack_saved(found))
    assert (other.folder, other.facts, other.written, other.start_over) == (
        found.folder,
        found.facts,
        found.written,
        found.start_over,
    )
    assert str(other.state.rows) == str(found.state.rows)  # nan is not equal to itself
    assert other.state.inside.step == 4
    assert str(other.state.inside.sums) == str(sums)
    expect_same(other.state.weights, found.state.weights)
    expect_same(other.state.inside.optimizer, found.state.inside.optimizer)


def test_a_state_inside_an_epoch_is_due_when_its_time_has_come(write):
    assert not write(minutes=60.0)[0].is_due()
    assert not write(minutes=0.0)[0].is_due()
    writer, _ = write(minutes=0.0001)
    time.sleep(0.1)
    assert writer.is_due()
    writer.offer(make())
    writer.wait()
    assert not writer.is_due()


def test_the_best_so_far_is_put_together_from_any_state(learn, tiny, sets_dir: Path, keras):
    from classifold.dataset.scan import load_sets
    from classifold.training.stages import put_kept
    from made_runs import answer_set

    learning, states, _ = learn()
    sets = load_sets(sets_dir)
    for state in states:
        put_kept(learning.classifier, state, tiny())
        shares, labels = answer_set(learning.classifier.model, sets, "validation", size=32)
        loss = -np.log(shares[np.arange(len(labels)), labels]).mean()
        (best,) = [row for row in state.rows if row.best]
        assert loss == pytest.approx(best.val_loss, abs=2e-3)


DRIVER = """
import json, os, signal, sys
from pathlib import Path
from classifold.settings.loader import build_config
from classifold.errors import ClassifoldError
from classifold.training.run import train_model

order = json.loads(sys.argv[1])

class Killer:
    '''Sends this process a signal at a line of its log.'''
    def __init__(self, stream): self.stream, self.count = stream, 0
    def __getattr__(self, name): return getattr(self.stream, name)
    def write(self, text):
        self.stream.write(text)
        self.stream.flush()
        is_epoch = text.startswith(("head epoch ", "fine-tuning epoch "))
        self.count += is_epoch
        if self.count == order["line"] and is_epoch:
            os.kill(os.getpid(), order["signal"])

if order["line"]:
    sys.stderr = Killer(sys.stderr)
try:
    summary = train_model(build_config({**order["config"], "HEAD_LAYERS": ()}), name="run",
                          checkpoint_dir=Path(order["checkpoints"]))
    print(summary.run_dir)
except ClassifoldError as error:
    print(getattr(error, "kept", None))
    print(error, file=sys.__stderr__)
    sys.exit(error.exit_code)
"""


@pytest.fixture
def drive(finished: Any, tmp_path: Path, folder: Path) -> Callable[..., Any]:
    """drive(line=3, signal=SIGTERM) -> a run in a process of its own, with the settings of `finished`."""
    config = {**finished.config, "RUNS_DIR": str(tmp_path / "runs"), "TAGS": {}}
    config.pop("HEAD_LAYERS")

    def drive(*, line: int = 0, how: signal.Signals = signal.SIGTERM, **changed: Any) -> Any:
        kept = {name: tuple(x) if isinstance(x, list) else x for name, x in config.items()}
        order = {"line": line, "signal": how, "config": {**kept, **changed}, "checkpoints": str(folder)}
        return subprocess.Popen(
            [sys.executable, "-c", DRIVER, json.dumps(order)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )

    return drive


def test_a_run_interrupted_killed_and_stopped_in_its_export_is_the_straight_run_in_the_end(
    drive, finished, children, folder, tmp_path: Path, keras
):
    # 1. SIGTERM within the third epoch of the head.
    out, err = drive(line=3).communicate(timeout=600)
    kept = tmp_path / "runs" / "run.interrupted"
    assert out.splitlines() == [str(kept)], err
    assert "interrupted after epoch 3 of the head" in err
    assert str(folder) in err
    assert (kept / "model.keras").exists()

    # 2. SIGKILL within fine-tuning.
    process = drive(line=3, how=signal.SIGKILL)
    _, err = process.communicate(timeout=600)
    assert process.returncode == -signal.SIGKILL
    assert "note: resumed from epoch 3 of the head (checkpoint of 20" in err
    assert next(line for line in err.splitlines() if " epoch " in line and " of 4: " in line).startswith(
        "head epoch 4 of 4: "
    )

    # 3. SIGTERM while every format is written.
    process = drive()
    end = time.monotonic() + 600
    working = tmp_path / "runs" / ".run.partial"
    while not ((working / "model.keras").exists() and children(process.pid)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)
    since = time.monotonic()
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=600)
    assert time.monotonic() - since < 60
    assert out.splitlines() == [str(kept)], err
    assert not working.exists()

    # 4. To the end.
    process = drive()
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    assert "resumed from epoch 3 of fine-tuning" in err
    assert "\nfine-tuning epoch " not in err
    run = Path(out.strip())
    assert files(tmp_path / "runs") == ["run"]
    expect_same_runs(run, finished.run_dir, keras)
    assert not [name for name in files(folder) if name.startswith(".")]
    assert len(files(folder)) <= 4

    # Other settings would not be the same run.
    process = drive(EPOCHS=4)
    _, err = process.communicate(timeout=600)
    assert process.returncode == 1
    assert "this run is there already" in err
    run.rename(run.with_name("other"))
    process = drive(EPOCHS=4, CACHE_GB=0.5)
    _, err = process.communicate(timeout=600)
    assert process.returncode == 1
    assert f"error: setting EPOCHS: the checkpoint in {folder} was made with 3, got 4" in err
    assert err.count("error:") == 1


OUTPUTS_DRIVER = """
import json, os, signal, sys
from pathlib import Path
from classifold.settings.loader import build_config
from classifold.errors import ClassifoldError
from classifold.training import array_cache
from classifold.training.run import train_model

order = json.loads(sys.argv[1])
marks, mark = [], array_cache.CachedArray.mark

def count(cached, indices):
    mark(cached, indices)
    marks.append(cached.array.shape)
    if len(marks) == order["mark"]:
        os.kill(os.getpid(), order["signal"])

array_cache.CachedArray.mark = count
try:
    train_model(build_config(order["config"]), name="run", is_resumable=True)
except ClassifoldError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
finally:
    print(len(marks))
"""


@pytest.fixture
def compute(tiny: Callable[..., Any], sets_dir: Path, tmp_path: Path) -> Callable[..., Any]:
    """compute("folder", mark=3) -> a run that is ended once so many blocks of its pictures are computed."""

    def compute(runs: str, *, mark: int = 0, how: signal.Signals = signal.SIGKILL, **settings: Any) -> Any:
        config = tiny(
            SPLIT_LOCAL_DIR=str(sets_dir), RUNS_DIR=str(tmp_path / runs), CHECKPOINT_MINUTES=1e-4, **settings
        ).model_dump(mode="json", exclude_defaults=True)
        kept = {name: tuple(x) if isinstance(x, list) else x for name, x in config.items()}
        order = {"mark": mark, "signal": how, "config": kept}
        return subprocess.run(
            [sys.executable, "-c", OUTPUTS_DRIVER, json.dumps(order)],
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    return compute


@pytest.mark.slow
def test_an_end_before_anything_is_learned_keeps_what_was_computed(compute, tmp_path: Path):
    stopped = compute("runs", mark=2, how=signal.SIGINT)
    assert stopped.returncode == 130
    looking, starting, *lines = leave_out_progress(stopped.stderr)
    assert looking.startswith("looking for the pictures in ")
    assert starting.startswith("starting TensorFlow (")
    assert lines == [
        "error: training: interrupted before anything was learned; what was computed of the pictures is kept",
        "hint: to resume where it stopped, with the same settings: classifold train --resume run",
    ]
    state = tmp_path / "runs" / ".run.checkpoint"
    assert files(state) == ["began.json", "outputs"]

    # Other settings are refused, and what was computed stays.
    refused = compute("runs", EPOCHS=4, ROTATION_RANGE=0.01)
    assert refused.returncode == 1
    assert "error: setting EPOCHS: run began with 3, got 4" in refused.stderr
    assert "error: setting ROTATION_RANGE: run began with " in refused.stderr
    hint = "hint: set it back to resume from there; or: without --resume a run starts from scratch"
    assert hint in refused.stderr
    assert files(state) == ["began.json", "outputs"]

    whole = compute("runs")
    assert whole.returncode == 0, whole.stderr
    assert "note: there is no checkpoint to resume from: the run starts from scratch" in whole.stderr
    assert "note: what an earlier start computed from the pictures is used again" in whole.stderr
    # Of five blocks two were there; one is of the evaluation, and two are looked at once more to calibrate.
    assert int(whole.stdout) == 6
    assert files(tmp_path / "runs") == ["run"]


@pytest.mark.parametrize("harm", ["", "{", "[]", "{}", '{"settings": 1, "versions": {}, "backend": "jax"}'])
def test_a_record_of_the_beginning_that_cannot_be_read_is_none(harm: str, folder: Path):
    save_beginning(folder, FACTS)
    assert load_beginning(folder) == FACTS
    (folder / "began.json").write_text(harm)
    assert load_beginning(folder) is None
    (folder / "began.json").unlink()
    assert load_beginning(folder) is None


def expect_same_runs(one: Path, other: Path, keras: Any) -> None:
    """Weights, history and predictions are the same to the last bit."""
    models = [keras.models.load_model(path / "model.keras", compile=False) for path in (one, other)]
    expect_same(*(model.get_weights() for model in models))
    assert (one / "predictions.csv").read_bytes() == (other / "predictions.csv").read_bytes()
    histories = [(path / "history.csv").read_text().splitlines() for path in (one, other)]
    place = histories[0][0].split(",").index("seconds")
    rows = [[line.split(",")[:place] + line.split(",")[place + 1 :] for line in lines] for lines in histories]
    assert rows[0] == rows[1]
    metrics = [json.loads((path / "metrics.json").read_text()) for path in (one, other)]
    assert metrics[0] == metrics[1]
