"""Exports a run's model to other formats: each is written, run beside model.onnx, and kept or refused."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from classifold import __version__, names
from classifold.atomic import check_has_folder, write_whole
from classifold.errors import DataError, Fault, RunError, UsageError, disk_errors
from classifold.exports.convert import check_calibration
from classifold.exports.figures import Figures, find_allowed, find_refusal
from classifold.exports.formats import ADDED_HINT, Target
from classifold.exports.job import Job, raise_faults, save_job
from classifold.exports.onnx_files import name_for_triton
from classifold.exports.pictures import ExportPictures, find_pictures
from classifold.exports.scratch import mend_exports, open_scratch, put_in_place
from classifold.exports.snippets import write_snippets
from classifold.model_card import parse_card
from classifold.predict.archives import is_archive, strip_ending
from classifold.predict.predictor import Predictor, load_predictor
from classifold.processes import run_module
from classifold.progress import say, show_progress

REFUSED_ENDING: Final = ".refused.json"
OUTPUT_ENDING: Final = "-exports"
DEFAULT_MAX_LOSS: Final = 0.01
_DATA_HINT = "name the folder of the three sets with --data DIR, or export without a check: --unchecked"


@dataclass(frozen=True)
class Wishes:
    """What an export is asked for besides the model and its formats.

    Attributes:
        output: The folder that the exports go into; None: beside the run, named after it.
        data_dir: Where the pictures are; None: where the run says.
        max_loss: The largest loss of accuracy that is accepted, 0..1.
        is_unchecked: Whether exports are kept without a check where there are no pictures.
        tfjs_script: The file tf.min.js for the page of TensorFlow.js; None: that of the earlier export, if it
            has one; else the user adds it.
    """

    output: Path | None = None
    data_dir: Path | None = None
    max_loss: float = DEFAULT_MAX_LOSS
    is_unchecked: bool = False
    tfjs_script: Path | None = None


@dataclass(frozen=True)
class Exported:
    """What became of one export.

    Attributes:
        name: Of its folder.
        folder: Where it is; None: it was refused, and nothing of it was kept.
        figures: How good it is; None: it was not checked.
        refusal: Why it was refused; empty if it was not.
        record: The file with all of this.
        notes: What is left for the user to do.
    """

    name: str
    folder: Path | None
    figures: Figures | None
    refusal: str
    record: Path
    notes: tuple[str, ...] = ()


def export_model(run: Path, targets: Sequence[Target], wishes: Wishes) -> list[Exported]:
    """Write exports of a model, and return what became of each.

    An export appears as a whole folder or not at all. An earlier export of the same format is replaced only
    by one that is not refused.

    Args:
        run: A run folder, or its model.onnx.
        targets: The formats; their packages are installed.
        wishes: Everything else.

    Raises:
        RunError: There is no model, or a file that a format is made from is missing or damaged.
        DataError: There are no pictures, or something else is in an export's place.
        UsageError: The exports would lie in the run folder.
        DiskError: The folder cannot be written.
    """
    predictor = load_predictor(run)
    if predictor.path is None:
        raise ValueError("a predictor of a file has a path")
    model = predictor.path.resolve()
    output = wishes.output or _choose_output(run)
    _check_sources(model.parent, targets)
    if output.is_dir():
        with disk_errors(output):
            mend_exports(output)
    _check_output(output, model.parent, targets)
    pictures = find_pictures(model, predictor.class_names, wishes.data_dir)
    if pictures is None and not wishes.is_unchecked:
        what = "the evaluation pictures of this run are not here, so an export could not be checked"
        raise DataError(Fault(str(run), what, _DATA_HINT))
    check_calibration(targets, len(pictures.training) if pictures else 0)
    with disk_errors(output):
        is_new = not output.exists()
        output.mkdir(exist_ok=True)
        try:
            done = []
            for count, one in enumerate(targets, start=1):
                say(f"exporting {one.name} ({count} of {len(targets)})")
                done.append(_export(one, model, predictor, output, pictures, wishes))
            return done
        finally:
            if is_new and not any(output.iterdir()):
                output.rmdir()


def _choose_output(run: Path) -> Path:
    """Return the folder beside a run that its exports go into, called as the user called the run.

    Args:
        run: A run folder or a link to one, its model.onnx, or its archive.
    """
    place = Path(os.path.abspath(run))  # noqa: PTH100 - Path.resolve would follow the link
    if is_archive(place) and place.is_file():
        return place.with_name(f"{strip_ending(place.name)}{OUTPUT_ENDING}")
    if place.is_file():
        # A link to a model says nothing of the folder that it lies in.
        place = place.resolve().parent if place.is_symlink() else place.parent
    return place.with_name(f"{place.name}{OUTPUT_ENDING}")


def _check_sources(run_dir: Path, targets: Sequence[Target]) -> None:
    """Refuse formats whose file of the run folder is missing.

    Raises:
        RunError: With each of them.
    """
    faults = [
        Fault(f"--to {one.format.name}", f"it is made from {one.format.source}, which is not in {run_dir}",
              "give the whole run folder")
        for one in targets
        if not (run_dir / one.format.source).is_file()
    ]  # fmt: skip
    if faults:
        raise RunError(*faults)


def _check_output(output: Path, run_dir: Path, targets: Sequence[Target]) -> None:
    """Refuse a folder that must not be written to, and files in an export's place that are no earlier export.

    Raises:
        UsageError: The folder is the run's own, or lies in it.
        DataError: With everything that is in the way.
        DiskError: The folder that it would be in does not exist.
    """
    place = output.resolve()
    if place == run_dir or run_dir in place.parents:
        what = "exports do not go into the run folder, which is packed and fetched as it is"
        raise UsageError(Fault(str(output), what, "choose another folder, or leave out --output"))
    if output.exists() and not output.is_dir():
        raise DataError(Fault(str(output), "it is a file, not a folder", "name a folder"))
    check_has_folder(output)
    in_the_way = [
        output / one.name
        for one in targets
        if os.path.lexists(output / one.name) and not (output / one.name / names.EXPORT_JSON).is_file()
    ]
    if in_the_way:
        what = "it is in the way and was not made by `classifold export`"
        raise DataError(*(Fault(str(one), what, "move it away, or choose --output") for one in in_the_way))


def _export(
    target: Target,
    model: Path,
    predictor: Predictor,
    output: Path,
    pictures: ExportPictures | None,
    wishes: Wishes,
) -> Exported:
    """Write, run and judge one export, and put it in its place or remove it."""
    with open_scratch(output, target.name) as scratch:
        job = Job(
            target=target,
            model=model,
            name=name_for_triton(predictor.card.run or model.parent.name),
            folder=scratch / "export",
            data_dir=None if wishes.data_dir is None else wishes.data_dir.resolve(),
            answer=scratch / "answer.json",
        )
        plan = scratch / "job.json"
        save_job(job, plan)
        with show_progress(f"{target.name}: writing the model", None, is_told=True):
            run_module("classifold.exports.convert", plan)
        raise_faults(job)
        notes = _add_files(job, wishes, earlier=output / target.name)
        figures, refusal = None, ""
        if pictures is not None:
            with show_progress(f"{target.name}: running it on the evaluation pictures", None, is_told=True):
                run_module("classifold.exports.measure", plan)
            raise_faults(job)
            figures, refusal = _judge(job, max_loss=wishes.max_loss)
        record = _build_record(job, figures, refusal, wishes, pictures)
        done = _deliver(job, output, record, figures, refusal)
        return done if done.refusal else replace(done, notes=notes)


def _add_files(job: Job, wishes: Wishes, *, earlier: Path) -> tuple[str, ...]:
    """Add what a program needs around the model, and return what is left for the user to add.

    Args:
        job: The export; its model is written.
        wishes: What the user asks for.
        earlier: Where an earlier export of the same format may be.
    """
    path = job.folder / names.CLASSES_JSON
    card = parse_card(path.read_text(encoding="utf-8"), where=path)
    if job.target.format.takes == "pixels":
        write_snippets(job.folder, card)
    added = job.target.format.added
    if not added:
        return ()
    source = wishes.tfjs_script or earlier / added
    if source.is_file():
        (job.folder / added).write_bytes(source.read_bytes())
        return ()
    return (f"the page of {job.target.name} needs {added} beside it, which is not there: {ADDED_HINT}",)


def _judge(job: Job, *, max_loss: float) -> tuple[Figures, str]:
    """Return what the process that ran the export found, and why it is refused, if it is."""
    answer: dict[str, Any] = json.loads(job.answer.read_text(encoding="utf-8"))
    figures = Figures.model_validate(answer["figures"])
    return figures, answer["broken"] or find_refusal(figures, max_loss=max_loss)


def _build_record(
    job: Job, figures: Figures | None, refusal: str, wishes: Wishes, pictures: ExportPictures | None
) -> dict[str, Any]:
    """Return the content of export.json."""
    return {
        "format": 1,
        "classifold": __version__,
        "export": job.target.name,
        "precision": job.target.precision,
        "takes": job.target.format.takes,
        "model": job.target.format.model.format(name=job.name),
        "run": job.name,
        "model_onnx_sha256": hashlib.sha256(job.model.read_bytes()).hexdigest(),
        "checked": figures is not None,
        "pictures_of_the_run": None if pictures is None else pictures.is_of_run,
        "max_loss": wishes.max_loss,
        "most_lost": None if figures is None else find_allowed(figures, max_loss=wishes.max_loss),
        "refusal": refusal or None,
        "figures": None if figures is None else figures.model_dump(mode="json"),
    }


def _deliver(
    job: Job, output: Path, record: dict[str, Any], figures: Figures | None, refusal: str
) -> Exported:
    """Move an export to its place, or keep its figures alone."""
    name, text = job.target.name, json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    refused = output / f"{name}{REFUSED_ENDING}"
    if refusal:
        with write_whole(refused) as partial:
            partial.write_text(text, encoding="utf-8")
        return Exported(name, None, figures, refusal, refused)
    (job.folder / names.EXPORT_JSON).write_text(text, encoding="utf-8")
    place = output / name
    put_in_place(job.folder, place)
    refused.unlink(missing_ok=True)
    return Exported(name, place, figures, "", place / names.EXPORT_JSON)
