"""Findings as a check would make them, with pictures on the disk to go with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from classifold.findings import (
    Effect,
    Findings,
    Group,
    Interval,
    KindCost,
    LabelSuspect,
    Neighbour,
    Overlap,
    PictureFinding,
    SetFindings,
    Shortcut,
)


def draw(path: Path, *, seed: int, mirrored: bool = False) -> None:
    """Save a picture of smooth colours that differs with its seed."""
    random = np.random.default_rng(seed)
    small = Image.fromarray(random.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    picture = small.resize((320, 240), Image.Resampling.BICUBIC)
    path.parent.mkdir(parents=True, exist_ok=True)
    (ImageOps.mirror(picture) if mirrored else picture).save(path, quality=85)


def make_findings(folder: Path) -> tuple[Findings, dict[str, Path]]:
    """Draw the pictures of an own split below `folder`; return what a check finds, and the paths by key."""
    keys = [f"training/{name}/{number}.jpg" for name in ("daisy", "rose") for number in range(6)]
    keys += ["evaluation/daisy/7.jpg", "evaluation/rose/8.jpg"]
    for seed, key in enumerate(keys):
        draw(folder / key, seed=seed)
    draw(folder / "evaluation/daisy/7.jpg", seed=0, mirrored=True)
    draw(folder / "training/daisy/2.jpg", seed=1)
    near = Group(
        kind="near",
        files=("training/daisy/0.jpg", "evaluation/daisy/7.jpg"),
        labels=("daisy", "daisy"),
        sets=("training", "evaluation"),
        across=("evaluation", "training"),
        changes=("", "mirrored"),
        reason="The same photograph, mirrored.",
    )
    exact = Group(
        kind="exact",
        files=("training/daisy/1.jpg", "training/daisy/2.jpg"),
        labels=("daisy", "daisy"),
        sets=("training", "training"),
        changes=("", "equal bytes"),
        reason="Equal bytes.",
    )
    neighbours = tuple(Neighbour(file=f"training/rose/{n}.jpg", label="rose", similarity=0.9) for n in (1, 2))
    suspects = [
        LabelSuspect(
            file=f"training/daisy/{number}.jpg",
            label="daisy",
            suggested="rose",
            certainty=certainty,
            neighbours=neighbours,
        )
        for number, certainty in ((3, 0.99), (4, 0.7))
    ]
    findings = Findings(
        source=str(folder),
        fingerprint="f1",
        num_pictures=len(keys),
        groups=(near, exact),
        labels=tuple(suspects),
        estimate=Interval(value=3, low=1, high=6),
        overlaps=(Overlap(classes=("daisy", "rose"), count=3, share=0.2),),
        shortcuts=(Shortcut(name="size", accuracy=0.9, chance=0.5, p=0.001, reason="Roses are larger."),),
        pictures=(
            PictureFinding(file="training/rose/4.jpg", kind="blurred", reason="Little detail."),
            PictureFinding(file="training/rose/5.jpg", kind="unreadable", reason="The file ends too early."),
        ),
        costs=(KindCost(kind="blurred", count=12, correct=4, others=0.91),),
        sets=SetFindings(
            counts={"training": {"daisy": 6, "rose": 6}, "evaluation": {"daisy": 1, "rose": 1}},
            few={"rose": 6},
        ),
        effect=Effect(
            accuracy=Interval(value=0.961, low=0.9, high=0.99),
            without_leaks=Interval(value=0.883, low=0.8, high=0.95),
            num_leaks=41,
            num_evaluation=400,
            reason="Accuracy 96.1 %; without 41 leaks 88.3 %.",
        ),
        skipped={"outliers": "They need the train extra."},
    )
    return findings, {key: folder / key for key in keys}


HOSTILE = (
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "'-alert(1)-'",
    "<!--<script>",
    "]]>",
    "{{ 7*7 }}",
    "\u2028alert(1)",
    "\u202egpj.exe",
    "javascript:alert(1)",
    "=HYPERLINK(0)",
)


def make_hostile(source: str) -> Findings:
    """Return findings in which every text that comes from files tries to break out of the page."""
    files = [f"training/{name.replace('/', '|')}/{name.replace('/', '|')}.jpg" for name in HOSTILE]
    text = " ".join(HOSTILE)
    return Findings(
        source=source + "/" + HOSTILE[0].replace("/", "|"),
        fingerprint=text,
        num_pictures=len(files),
        groups=(
            Group(
                kind="near",
                files=tuple(files),
                labels=HOSTILE,
                sets=HOSTILE,
                across=HOSTILE[:2],
                changes=HOSTILE,
                reason=text,
            ),
            Group(kind="conflict", files=tuple(files), labels=HOSTILE, reason=text),
        ),
        labels=tuple(
            LabelSuspect(
                file=file,
                label=name,
                suggested=name,
                certainty=0.99,
                neighbours=(Neighbour(file=file, label=name, similarity=1),),
            )
            for file, name in zip(files, HOSTILE, strict=True)
        ),
        overlaps=(Overlap(classes=(HOSTILE[0], HOSTILE[1]), count=1, share=0.5),),
        shortcuts=tuple(Shortcut(name=name, accuracy=0.9, chance=0.5, p=0, reason=name) for name in HOSTILE),
        pictures=tuple(PictureFinding(file=files[0], kind=name, reason=name) for name in HOSTILE),
        sets=SetFindings(counts={HOSTILE[0]: dict.fromkeys(HOSTILE, 3)}, few={HOSTILE[1]: 1}, notes=HOSTILE),
        skipped={HOSTILE[0]: HOSTILE[1]},
        notes=HOSTILE,
    )
