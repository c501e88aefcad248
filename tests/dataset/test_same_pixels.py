"""Copies that are other files with the same pixels count as copies wherever equal files do."""

from __future__ import annotations

import hashlib
import io
import json
import shutil

import numpy as np
import pytest
import simplejpeg
from PIL import Image, ImageOps

from classifold.dataset.check import check_data
from classifold.pictures.decode import hash_pixels, inspect_picture
from classifold.settings.loader import build_config

LIMIT = 10**6
TURNED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def look(data):
    found = inspect_picture(data, max_pixels=LIMIT)
    return found.size, found.pixels or hash_pixels(data, max_pixels=LIMIT)


def oriented(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def saved_again(folder, name, kind="PNG", ending=".png", **options):
    """Write the picture of the file `name` once more, with the same pixels and other bytes."""
    source = folder / name
    target = source.with_name(source.stem + "-again" + ending)
    with Image.open(source) as image:
        image.save(target, kind, **options)
    assert target.read_bytes() != source.read_bytes()
    return target


def record_of(summary):
    return json.loads((summary.split_dir / "split.json").read_text())


def sets_of(summary):
    return {entry["key"]: entry["set"] for entry in record_of(summary)["pictures"]}


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {"compress_level": 0}),
        ("PNG", {"optimize": True, "dpi": (72, 72)}),
        ("BMP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("WEBP", {"lossless": True}),
        ("TGA", {}),
        ("PPM", {}),
    ],
)
def test_a_picture_saved_without_loss_has_the_same_look(paint, encode, kind, options):
    assert look(encode(paint(4), kind, **options)) == look(encode(paint(4), "PNG"))
    assert look(encode(paint(5), kind, **options)) != look(encode(paint(4), "PNG"))


@pytest.mark.parametrize("orientation", TURNED)
def test_an_orientation_that_is_stored_or_applied_gives_the_same_look(paint, encode, orientation):
    upright = paint(4, size=(30, 20))
    stored = encode(upright.transpose(TURNED[orientation]), "PNG", exif=oriented(orientation))
    assert look(stored) == look(encode(upright, "PNG"))


def test_a_jpeg_of_the_same_coefficients_has_the_same_look(paint, encode):
    photo = paint(4, size=(200, 160))
    plain = encode(photo, "JPEG", quality=90)
    for options in (
        {"optimize": True},
        {"progressive": True},
        {"exif": oriented(1), "comment": b"a holiday"},
    ):
        other = encode(photo, "JPEG", quality=90, **options)
        assert other != plain
        assert look(other) == look(plain)
    assert look(encode(photo, "JPEG", quality=91)) != look(plain)


def test_a_png_of_a_jpeg_has_its_look(paint, encode):
    data = encode(paint(4, size=(200, 160)), "JPEG", quality=90)
    pixels = simplejpeg.decode_jpeg(data, fastdct=False, fastupsample=False)
    assert look(encode(Image.fromarray(pixels), "PNG")) == look(data)


def test_a_shrunk_decode_never_makes_two_pictures_one(encode):
    # Equal in the mean of every block of 8 x 8, which is all that a decode at an eighth sees.
    flat = np.full((32, 32, 3), 128, np.uint8)
    checks = flat + (np.indices((32, 32)).sum(0) % 2 * 40 - 20).astype(np.uint8)[..., None]
    one, other = (simplejpeg.encode_jpeg(np.ascontiguousarray(p), quality=95) for p in (flat, checks))
    first, second = (inspect_picture(data, max_pixels=LIMIT) for data in (one, other))
    assert first.sketch == second.sketch is not None
    assert look(one) != look(other)


def test_deep_pictures_are_held_against_each_other_with_all_of_their_bits(encode):
    first = np.arange(300, 900, dtype=np.uint16).reshape(20, 30)
    second = first ^ 1  # the same in its upper 8 bits
    png, tiff, other = (
        encode(Image.fromarray(one), kind) for one, kind in ((first, "PNG"), (first, "TIFF"), (second, "PNG"))
    )
    pgm = b"P5 30 20 65535\n" + first.astype(">u2").tobytes()
    assert look(png) == look(tiff) == look(pgm)
    assert look(png) != look(other)


def test_a_copy_by_pixels_is_written_once_and_told(make_classes, split):
    folder = make_classes({"cat": 12, "dog": 12})
    again = saved_again(folder / "cat", "3.png", compress_level=9)
    summary = split(folder)
    assert sum(counts["cat"] for counts in summary.counts.values()) == 12
    assert record_of(summary)["copies"] == [
        {
            "key": f"cat/{again.name}",
            "same_as": "cat/3.png",
            "sha256": record_of(summary)["copies"][0]["sha256"],
            "equal": "pixels",
            "set": sets_of(summary)["cat/3.png"],
        }
    ]
    assert any(
        "1 of these copies is another file with the very same pixels" in note for note in summary.notes
    )


def test_an_equal_file_is_said_to_be_one(make_classes, split):
    folder = make_classes({"cat": 6, "dog": 6})
    shutil.copy(folder / "cat" / "3.png", folder / "cat" / "z.png")
    summary = split(folder)
    assert [entry["equal"] for entry in record_of(summary)["copies"]] == ["bytes"]
    assert not any("very same pixels" in note for note in summary.notes)


@pytest.mark.parametrize("kind", ["JPEG", "BMP"])
def test_a_copy_by_pixels_in_another_class_is_in_no_set(make_classes, split, kind):
    folder = make_classes({"cat": 8, "dog": 8})
    with Image.open(folder / "cat" / "3.png") as image:
        if kind == "JPEG":
            image = image.resize((200, 160))
            image.save(folder / "cat" / "x.jpg", quality=90)
            image.save(folder / "dog" / "x.jpg", quality=90, progressive=True)
        else:
            image.save(folder / "dog" / "x.bmp")
    summary = split(folder)
    conflicts = {entry["key"] for entry in record_of(summary)["conflicts"]}
    assert conflicts == ({"cat/x.jpg", "dog/x.jpg"} if kind == "JPEG" else {"cat/3.png", "dog/x.bmp"})
    assert not conflicts & sets_of(summary).keys()


def test_a_jpeg_and_a_png_of_one_picture_are_found_to_be_one(make_classes, split, paint):
    folder = make_classes({"cat": 6, "dog": 6})
    data = io.BytesIO()
    paint(9000, size=(200, 160)).save(data, "JPEG", quality=90)
    (folder / "cat" / "photo.jpg").write_bytes(data.getvalue())
    pixels = simplejpeg.decode_jpeg(data.getvalue(), fastdct=False, fastupsample=False)
    Image.fromarray(pixels).save(folder / "cat" / "screenshot.png")
    assert [entry["same_as"] for entry in record_of(split(folder))["copies"]] == ["cat/photo.jpg"]


def test_copies_by_pixels_in_two_groups_tie_them_together(make_classes, split):
    folder = make_classes({"cat": 30, "dog": 30})
    for number, path in enumerate(sorted((folder / "cat").iterdir())):
        path.rename(path.with_name(f"g{number // 3:02}_{number}.png"))
    with Image.open(folder / "cat" / "g00_0.png") as image:
        image.save(folder / "cat" / "g07_x.png", compress_level=9)
    summary = split(folder, SPLIT_GROUP_PATTERN=r"g\d\d_", PERCENTAGE_VAL=0.3, PERCENTAGE_EVAL=0.3)
    tied = {
        set_name for key, set_name in sets_of(summary).items() if key.startswith(("cat/g00_", "cat/g07_"))
    }
    assert len(tied) == 1


def test_a_copy_by_pixels_across_the_sets_of_an_own_split_is_told(make_classes, split):
    folder = make_classes({"cat": 6, "dog": 6}, "own/train")
    make_classes({"cat": 3, "dog": 3}, "own/val")
    make_classes({"cat": 3, "dog": 3}, "own/test")
    with Image.open(folder / "cat" / "3.png") as image:
        image.save(folder.parent / "test" / "cat" / "x.bmp")
    assert (
        "1 picture is in two sets of your own split: scores will look too good" in split(folder.parent).notes
    )


@pytest.mark.parametrize("name", ["0 first.png", "z last.png"])
def test_a_copy_that_comes_later_moves_no_held_out_picture(make_classes, split, name):
    folder = make_classes({"cat": 30, "dog": 30})
    before = sets_of(split(folder, PERCENTAGE_VAL=0.3, PERCENTAGE_EVAL=0.3))
    for key in [key for key in before if key.startswith("cat/")]:
        with Image.open(folder / key) as image:
            image.save(folder / "cat" / f"{key[4:-4]} {name}", compress_level=9)
    again = split(folder, PERCENTAGE_VAL=0.3, PERCENTAGE_EVAL=0.3)
    after = sets_of(again)
    held_out = {key: one for key, one in before.items() if one != "training"}
    assert held_out.items() <= after.items()
    # Now the originals go, and what is left of a held-out picture is its copy.
    for key in held_out:
        if key.startswith("cat/"):
            (folder / key).unlink()
    left = sets_of(split(folder, PERCENTAGE_VAL=0.3, PERCENTAGE_EVAL=0.3))
    for key, set_name in held_out.items():
        if key.startswith("cat/"):
            assert left[f"cat/{key[4:-4]} {name}"] == set_name


def test_an_earlier_split_that_did_not_see_pixels_keeps_its_held_out_pictures(make_classes, split):
    folder = make_classes({"cat": 30, "dog": 30})
    summary = split(folder, PERCENTAGE_VAL=0.3, PERCENTAGE_EVAL=0.3)
    before = sets_of(summary)
    key = min(key for key, one in before.items() if one == "training")
    held = min(key for key, one in before.items() if one == "evaluation" and key[:3] == "cat")
    # As an earlier release would have done it: a copy by pixels of an evaluation picture in training.
    record = summary.split_dir / "split.json"
    with Image.open(folder / held) as image:
        image.save(folder / key, compress_level=9)
    lines = record.read_text().splitlines(keepends=True)
    digest = hashlib.sha256((folder / key).read_bytes()).hexdigest()
    old = next(entry["sha256"] for entry in record_of(summary)["pictures"] if entry["key"] == key)
    record.write_text("".join(lines).replace(old, digest))
    after = sets_of(split(folder, PERCENTAGE_VAL=0.3, PERCENTAGE_EVAL=0.3))
    assert after[held] == "evaluation"
    assert key not in after


def test_a_check_finds_the_same_copies(make_classes, split):
    folder = make_classes({"cat": 8, "dog": 8})
    saved_again(folder / "cat", "3.png", "BMP", ".bmp")
    report = check_data(build_config({"DATA_LOCAL_DIR": str(folder)}))
    assert report.classes["cat"] == {"kept": 8, "copy": 1, "conflict": 0, "unreadable": 0}
    assert report.counts == split(folder).counts


def test_the_order_of_the_disk_and_the_number_of_threads_change_nothing(make_classes, split, tmp_path):
    folder = make_classes({"cat": 8, "dog": 8})
    for name in ("0.png", "3.png", "5.png"):
        saved_again(folder / "cat", name, "TIFF", ".tif")
    first = split(folder, NUM_WORKERS=1)
    shutil.copytree(folder, tmp_path / "other")
    second = split(tmp_path / "other", NUM_WORKERS=4)
    assert first.fingerprint == second.fingerprint
    assert record_of(first)["copies"] == record_of(second)["copies"]


@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_held_out_pictures_stay_so_when_every_file_gets_other_metadata(make_classes, split, paint, kind):
    folder = make_classes({"cat": 30, "dog": 30})
    if kind == "jpg":
        for number, path in enumerate(sorted(folder.rglob("*.png"))):
            noise = np.random.default_rng(number).integers(0, 256, (40, 48, 3), dtype=np.uint8)
            Image.fromarray(noise).save(path.with_suffix(".jpg"), quality=90)
            path.unlink()
    first = split(folder, PERCENTAGE_VAL=0.3, PERCENTAGE_EVAL=0.3)
    before = sets_of(first)
    for path in sorted(folder.rglob("*.*")):
        data = path.read_bytes()
        with Image.open(path) as image:
            image.load()
        path.unlink()
        if kind == "png":
            image.save(path, compress_level=9, dpi=(72, 72))
        else:
            path.write_bytes(data[:2] + b"\xff\xfe\0\x0bA holiday" + data[2:])
    again = split(folder, PERCENTAGE_VAL=0.3, PERCENTAGE_EVAL=0.3)
    held_out = {key: one for key, one in before.items() if one != "training"}
    assert held_out.items() <= sets_of(again).items()
    assert again.fingerprint != first.fingerprint
    # What was held out is remembered over a split that lacks it.
    kept = {path: path.read_bytes() for path in folder.rglob("*.*") if path.parent.name == "cat"}
    gone = [path for path in kept if held_out.get(f"cat/{path.name}")]
    for path in gone:
        path.unlink()
    split(folder, PERCENTAGE_VAL=0.3, PERCENTAGE_EVAL=0.3)
    for path in gone:
        path.write_bytes(kept[path] + b"\0")
    assert held_out.items() <= sets_of(split(folder, PERCENTAGE_VAL=0.3, PERCENTAGE_EVAL=0.3)).items()


def test_splitting_again_changes_no_set_where_sketches_meet(make_classes, split):
    folder = make_classes({"cat": 6, "dog": 6})
    # One sketch for all of them: a checked pattern of another strength each.
    for number in range(30):
        checks = np.full((32, 32, 3), 128) + (np.indices((32, 32)).sum(0) % 2 * 2 - 1)[..., None] * (
            number * 4
        )
        pixels = np.ascontiguousarray(checks.clip(0, 255).astype(np.uint8))
        data = simplejpeg.encode_jpeg(pixels, quality=95)
        (folder / "cat" / f"checks {number}.jpg").write_bytes(data)
    first = split(folder, PERCENTAGE_VAL=0.3, PERCENTAGE_EVAL=0.3)
    assert len(set(sets_of(first).values())) == 3
    assert sets_of(split(folder, PERCENTAGE_VAL=0.3, PERCENTAGE_EVAL=0.3)) == sets_of(first)


@pytest.fixture
def held_jpegs(make_classes, split):
    """A folder of JPEGs that was split, the sets of its held-out ones, and a function to split it again."""
    folder = make_classes({"cat": 15, "dog": 15})
    for number, path in enumerate(sorted(folder.rglob("*.png"))):
        noise = np.random.default_rng(number).integers(0, 256, (24, 32, 3), dtype=np.uint8)
        exif = oriented(6) if number % 3 == 0 else oriented(1)
        Image.fromarray(noise).save(path.with_suffix(".jpg"), quality=90, exif=exif)
        path.unlink()

    def split_again(**settings):
        return split(folder, PERCENTAGE_VAL=0.3, PERCENTAGE_EVAL=0.3, **settings)

    before = sets_of(split_again(SPLIT_FILES="copy"))
    return folder, {key[:-4]: one for key, one in before.items() if one != "training"}, split_again


def save_upright(folder, kind, ending, **options):
    """Save every JPEG below `folder` in another format without loss, and delete the JPEG."""
    for path in sorted(folder.rglob("*.jpg")):
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image)
        upright.save(path.with_suffix(ending), kind, **options)
        path.unlink()


def sets_by_stem(summary):
    return {key.rpartition(".")[0]: one for key, one in sets_of(summary).items()}


@pytest.mark.parametrize(
    ("kind", "ending", "options"),
    [("PNG", ".png", {}), ("BMP", ".bmp", {}), ("TIFF", ".tif", {}), ("WEBP", ".webp", {"lossless": True})],
)
def test_held_out_jpegs_stay_so_when_saved_in_another_format(held_jpegs, kind, ending, options):
    folder, held_out, split_again = held_jpegs
    save_upright(folder, kind, ending, **options)
    promised = check_data(
        build_config(
            {"DATA_LOCAL_DIR": str(folder), "PERCENTAGE_VAL": 0.3, "PERCENTAGE_EVAL": 0.3, "NUM_WORKERS": 2}
        )
    )
    again = split_again()
    assert held_out.items() <= sets_by_stem(again).items()
    assert promised.counts == again.counts
    assert not any("JPEG" in note for note in again.notes)


def test_held_out_jpegs_are_recognized_after_splits_that_lack_them(held_jpegs, tmp_path):
    folder, held_out, split_again = held_jpegs
    away = tmp_path / "away"
    for key in held_out:
        (away / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{key}.jpg").rename(away / f"{key}.jpg")
    split_again()
    split_again()
    save_upright(away, "PNG", ".png")
    for path in away.rglob("*.png"):
        path.rename(folder / path.relative_to(away))
    assert held_out.items() <= sets_by_stem(split_again()).items()


@pytest.mark.parametrize("harm", ["gone", "changed"])
def test_a_held_out_jpeg_that_stands_nowhere_any_more_is_told(held_jpegs, harm):
    folder, held_out, split_again = held_jpegs
    summary = split_again(SPLIT_FILES="link")
    key = min(held_out)
    standing = summary.split_dir / held_out[key] / f"{key}.jpg"
    if harm == "gone":
        standing.unlink()
    else:  # in place, by way of the original, which is the same file
        (folder / f"{key}.jpg").write_bytes(b"other")
        (folder / f"{key}.jpg").rename(folder.parent / "other")
    save_upright(folder, "PNG", ".png")
    again = split_again()
    held_out.pop(key)
    assert held_out.items() <= sets_by_stem(again).items()
    notes = [note for note in again.notes if "held-out" in note]
    assert len(notes) == 1
    assert notes[0].endswith(f"may go to training: {standing.relative_to(summary.split_dir).as_posix()}")
