"""What `classifold check` found, as typed values: the content of check.json, written and read here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from classifold import __version__
from classifold.errors import DataError, Fault
from classifold.run_folder import MAX_JSON_BYTES

FORMAT = 1

GroupKind = Literal["conflict", "exact", "near", "burst"]
# A key names a picture below the checked folder, with / between its parts: daisy/1.jpg in a folder of
# classes, training/daisy/1.jpg in sets of the user's own, and in a listing as the listing's key.
Key = str


class _Value(BaseModel):
    # Fields of later releases are ignored; a number that is not finite would not be JSON.
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Interval(_Value):
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float


class Group(_Value):
    """Pictures that show the same photograph, or a burst of the same scene.

    Attributes:
        kind: "conflict": the same picture under two labels (exact or near); "exact": equal bytes or equal
            pixels; "near": the same photograph, changed (resized, cropped, mirrored...); "burst": photographs
            of one scene seconds apart, which are no copies.
        files: Keys of the pictures, at least two; the one to keep comes first.
        labels: Class of each file, in the same order.
        sets: Set of each file, in the same order; empty where no set is known.
        across: The different sets of the files, where there are several: copies are a leak then. Else empty.
        changes: How each file differs from the first, such as "cropped", "mirrored", "equal bytes".
        reason: One sentence that says what was found.
    """

    kind: GroupKind
    files: tuple[Key, ...] = Field(min_length=2)
    labels: tuple[str, ...]
    sets: tuple[str, ...] = ()
    across: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    reason: str = ""

    @property
    def is_leak(self) -> bool:
        """Return whether copies of one picture, under one label, lie in several sets."""
        return bool(self.across) and self.kind in ("exact", "near")


class Neighbour(_Value):
    """A picture that looks like another one to the backbone: its key, class and cosine similarity."""

    file: Key
    label: str
    similarity: float


class LabelSuspect(_Value):
    """A picture whose label is probably wrong.

    Attributes:
        file: Key of the picture.
        label: Its class.
        suggested: The class that the other pictures predict.
        certainty: Probability, 0 to 1, that the label is wrong.
        neighbours: The most similar pictures, nearest first.
    """

    file: Key
    label: str
    suggested: str
    certainty: float
    neighbours: tuple[Neighbour, ...] = ()


class Overlap(_Value):
    """Two classes that are hard to tell apart.

    Attributes:
        classes: Their names.
        count: Pictures of either that cross-validation takes for the other.
        share: `count` divided by the number of pictures of both classes, 0 to 1.
    """

    classes: tuple[str, str]
    count: int
    share: float


class Shortcut(_Value):
    """Something besides the subject that tells the class.

    Attributes:
        name: What tells it: "size", "format", "camera", "background", ...
        accuracy: Balanced accuracy of a model that sees nothing else, 0 to 1.
        chance: The same for permuted labels, on average.
        p: Probability of such an accuracy by chance, corrected for the number of things tried.
        reason: One sentence: what tells which class.
    """

    name: str
    accuracy: float
    chance: float
    p: float
    reason: str = ""


class PictureFinding(_Value):
    """Something unusual about one picture: its key, the kind ("blurred", "cut short", ...) and the reason."""

    file: Key
    kind: str
    reason: str


class KindCost(_Value):
    """How a finished run does on the pictures of one kind.

    Attributes:
        kind: The kind, as in `PictureFinding.kind`.
        count: Evaluation pictures of that kind.
        correct: How many of them the model names correctly.
        others: Accuracy on all other evaluation pictures, 0 to 1.
    """

    kind: str
    count: int
    correct: int
    others: float


class Drift(_Value):
    """A way in which a set differs from training.

    Attributes:
        set_name: The set.
        what: What differs: "size", "brightness", "share of class daisy", ...
        p: Probability of such a difference by chance, corrected for the number of things compared.
        reason: One sentence.
    """

    set_name: str
    what: str
    p: float
    reason: str = ""


class SetFindings(_Value):
    """What is known of the sets.

    Attributes:
        counts: Number of pictures by set and class, as split makes them or as they are.
        few: Classes with too few pictures, each with its number.
        imbalance: Pictures of the largest class divided by those of the smallest; None without two classes.
        drift: Differences between the sets that chance does not explain.
        interval_width: Width of the 95 % interval of an accuracy on this evaluation set, 0 to 1.
        smallest_difference: The smallest difference in accuracy between two models that this evaluation set
            can show, 0 to 1.
        training_minutes: Estimated minutes of a training on this machine; None where unknown.
        job_minutes: The same on the configured SageMaker machine.
        job_price: Estimated price of that job in US dollars.
        notes: Sentences for the user.
    """

    counts: Mapping[str, Mapping[str, int]] = {}
    few: Mapping[str, int] = {}
    imbalance: float | None = None
    drift: tuple[Drift, ...] = ()
    interval_width: float | None = None
    smallest_difference: float | None = None
    training_minutes: float | None = None
    job_minutes: float | None = None
    job_price: float | None = None
    notes: tuple[str, ...] = ()


class Effect(_Value):
    """The accuracy with and without the evaluation pictures that spoil it, from kept features.

    Attributes:
        accuracy: On all evaluation pictures.
        without_leaks: On those that have no copy in training or validation.
        num_leaks: Evaluation pictures that have one.
        num_evaluation: All evaluation pictures.
        reason: One sentence with these numbers.
    """

    accuracy: Interval
    without_leaks: Interval
    num_leaks: int
    num_evaluation: int
    reason: str = ""


class Findings(_Value):
    """Everything that a check found; the content of check.json.

    Attributes:
        format: Version of this content.
        classifold: Version of the program.
        source: Path of the checked folder or listing.
        fingerprint: Hash of the pictures' names, sizes and times: what was checked.
        num_pictures: Pictures that were found.
        groups: Copies, conflicts and bursts, the most harmful first: across sets before within one.
        labels: Labels that are probably wrong, most certain first.
        estimate: How many labels are wrong, with an interval; None where labels were not checked.
        overlaps: Pairs of classes that are hard to tell apart, the worst first.
        shortcuts: What tells the class without the subject, the strongest first.
        pictures: What is unusual about single pictures, sorted by kind and key.
        costs: What each kind of picture costs a finished run.
        sets: Sizes, balance and drift of the sets, and what the evaluation set can show.
        effect: The accuracy with and without leaks; None without features or without leaks.
        skipped: Parts of the check that did not run, each with the reason and the cure.
        notes: Remarks for the user, one sentence each.
    """

    format: int = FORMAT
    classifold: str = __version__
    source: str
    fingerprint: str = ""
    num_pictures: int = 0
    groups: tuple[Group, ...] = ()
    labels: tuple[LabelSuspect, ...] = ()
    estimate: Interval | None = None
    overlaps: tuple[Overlap, ...] = ()
    shortcuts: tuple[Shortcut, ...] = ()
    pictures: tuple[PictureFinding, ...] = ()
    costs: tuple[KindCost, ...] = ()
    sets: SetFindings = SetFindings()
    effect: Effect | None = None
    skipped: Mapping[str, str] = {}
    notes: tuple[str, ...] = ()

    @property
    def skipped_parts(self) -> dict[str, list[str]]:
        """Return the parts of the check that did not run, by the reason: several may have the same one."""
        parts: dict[str, list[str]] = {}
        for name, reason in self.skipped.items():
            parts.setdefault(reason, []).append(name)
        return parts

    @property
    def leaks(self) -> tuple[Group, ...]:
        """Return the copies across sets; a picture with two labels is none of them, but a conflict."""
        return tuple(one for one in self.groups if one.is_leak)

    @property
    def conflicts(self) -> tuple[Group, ...]:
        """Return the groups under two labels, across sets or not."""
        return tuple(one for one in self.groups if one.kind == "conflict")

    @property
    def copies(self) -> tuple[Group, ...]:
        """Return the copies within a set, or in a folder that is not split."""
        return tuple(one for one in self.groups if one.kind in ("exact", "near") and not one.across)

    @property
    def bursts(self) -> tuple[Group, ...]:
        """Return the bursts, across sets or not."""
        return tuple(one for one in self.groups if one.kind == "burst")

    def to_json(self) -> dict[str, Any]:
        """Return the content of check.json."""
        return self.model_dump(mode="json")


def read_findings(path: Path) -> Findings:
    """Return what a check.json holds.

    Raises:
        DataError: It cannot be read, is damaged, or was written in another format.
    """
    hint = "run `classifold check` again"
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise DataError(Fault(str(path), "it is too large for a check.json", hint=hint))
        # Python's own parser: pydantic's refuses the half characters that stand for bytes of a name that is
        # not UTF-8.
        found = Findings.model_validate(json.loads(path.read_bytes()))
    except OSError as error:
        raise DataError(Fault(str(path), f"it cannot be read: {error.strerror}", hint=hint)) from error
    except (ValueError, RecursionError) as error:  # a ValidationError is a ValueError
        raise DataError(Fault(str(path), "it is damaged, or not a check.json", hint=hint)) from error
    if found.format != FORMAT:
        raise DataError(Fault(str(path), f"it has format {found.format}, expected {FORMAT}", hint=hint))
    return found
