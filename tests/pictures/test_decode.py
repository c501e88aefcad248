from __future__ import annotations

import io
import os
import struct
import threading
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from classifold.pictures.decode import load_picture, read_picture, resize_picture
from classifold.pictures.formats import FORMAT_NAMES, identify_format
from classifold.pictures.jpeg import UnsupportedJpegError, decode_jpeg, read_jpeg_header
from classifold.pictures.limits import PictureError
from classifold.pictures.raster import decode_raster

LIMIT = 1_000_000


def read(source, **options):
    return read_picture(source, max_pixels=LIMIT, **options)


def reason_for(source, *, max_pixels=LIMIT):
    with pytest.raises(PictureError) as caught:
        read_picture(source, max_pixels=max_pixels)
    return caught.value.reason


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("BMP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("WEBP", {"lossless": True}),
    ],
)
def test_every_lossless_format_gives_the_very_pixels(paint, encode, kind, options):
    picture = paint(7)
    assert np.array_equal(read(encode(picture, kind, **options)), np.asarray(picture))


def test_what_a_file_is_follows_from_its_content_and_not_from_its_ending(paint, tmp_path):
    paint(1).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    assert np.array_equal(read(tmp_path / "a.jpg"), np.asarray(paint(1)))


def test_progressive_and_baseline_jpeg_are_the_same_picture(paint, encode):
    baseline, progressive = (
        read(encode(paint(3), "JPEG", quality=95, progressive=way)) for way in (False, True)
    )
    assert np.array_equal(baseline, progressive)


def test_a_grey_jpeg_becomes_three_equal_channels(paint, encode):
    pixels = read(encode(paint(3).convert("L"), "JPEG"))
    assert pixels.shape == (18, 24, 3)
    assert (pixels[..., 0] == pixels[..., 1]).all()
    assert (pixels[..., 0] == pixels[..., 2]).all()


def test_a_cmyk_jpeg_has_the_colours_of_the_rgb_one(encode):
    stripes = Image.new("RGB", (32, 32), (200, 30, 60))
    pixels = read(encode(stripes.convert("CMYK"), "JPEG", quality=95)).astype(int)
    assert np.abs(pixels - (200, 30, 60)).max() <= 4


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_shows_the_same_scene_upright(paint, encode, kind, orientation):
    upright = paint(5, size=(48, 32))
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(stored, kind, exif=exif, **({"quality": 95} if kind in ("JPEG", "WEBP") else {}))
    pixels = read(data).astype(int)
    assert pixels.shape == (32, 48, 3)
    assert np.abs(pixels - np.asarray(upright)).mean() < 6
    square = load_picture(data, size=16, max_pixels=LIMIT).astype(int)
    assert np.abs(square - resize_picture(np.asarray(upright), 16)).mean() < 6


@pytest.mark.parametrize(
    "exif", [b"", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"]
)
def test_broken_exif_is_no_reason_to_refuse_a_picture(paint, encode, exif):
    data = encode(paint(1), "JPEG")
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    assert np.array_equal(read(data[:2] + segment + data[2:]), read(data))


def test_transparency_lies_over_white(encode):
    clear = Image.new("RGBA", (4, 4), (10, 20, 30, 0))
    half = Image.new("LA", (4, 4), (0, 128))
    for kind in ("PNG", "WEBP", "TIFF"):
        assert (read(encode(clear, kind, **({"lossless": True} if kind == "WEBP" else {}))) == 255).all()
    assert np.abs(read(encode(half, "PNG")).astype(int) - 127).max() <= 1


def test_a_transparent_palette_colour_lies_over_white(encode):
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 200, 10, 10])
    image.putpixel((0, 0), 0)
    for data in (encode(image, "PNG", transparency=0), encode(image, "GIF", transparency=0)):
        pixels = read(data)
        assert pixels[0, 0].tolist() == [255, 255, 255]
        assert pixels[1, 1].tolist() == [200, 10, 10]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_by_the_range_of_their_type(encode, kind):
    values = np.array([[0, 255, 256, 0x8000, 0xFFFF]], np.uint16)
    pixels = read(encode(Image.fromarray(values), kind))
    assert pixels[0, :, 0].tolist() == [0, 0, 1, 128, 255]


def test_a_transparent_sixteen_bit_grey_lies_over_white(encode):
    values = np.array([[0x1200, 0x1201]], np.uint16)
    data = encode(Image.fromarray(values), "PNG")
    chunk = b"tRNS" + struct.pack(">H", 0x1200)
    chunk = struct.pack(">I", 2) + chunk + struct.pack(">I", zlib.crc32(chunk))
    at = data.index(b"IDAT") - 4
    assert read(data[:at] + chunk + data[at:])[0, :, 0].tolist() == [255, 0x12]


def test_one_bit_pictures_are_black_and_white(encode):
    image = Image.new("1", (8, 8), 1)
    image.putpixel((0, 0), 0)
    for kind in ("PNG", "BMP", "TIFF", "GIF"):
        pixels = read(encode(image, kind))
        assert (pixels[0, 0].tolist(), pixels[1, 1].tolist()) == ([0, 0, 0], [255, 255, 255])


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_several_frames_the_first_is_taken(encode, kind):
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue", "lime")]
    options = {"lossless": True} if kind == "WEBP" else {}
    pixels = read(encode(frames[0], kind, save_all=True, append_images=frames[1:], **options))
    assert pixels[8, 8].tolist() == [255, 0, 0]


def test_floating_point_values_are_a_named_reason(encode):
    assert "no fixed range" in reason_for(encode(Image.new("F", (4, 4), 0.5), "TIFF"))


@pytest.mark.parametrize("share", [0.3, 0.7, 0.95, 0.999])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_was_cut_short_is_a_named_reason(paint, encode, share, progressive):
    data = encode(paint(1, size=(200, 160)), "JPEG", progressive=progressive)
    assert "cut short" in reason_for(data[: int(len(data) * share)])


def test_a_cut_jpeg_that_was_padded_with_zeros_is_a_named_reason(paint, encode):
    data = encode(paint(1, size=(200, 160)), "JPEG")
    assert "cut short" in reason_for(data[:1500].ljust(len(data), b"\0"))


def test_a_jpeg_with_junk_in_its_header_is_read_by_the_other_decoder(paint, encode):
    data = encode(paint(1), "JPEG")
    tables = data.index(b"\xff\xdb")
    junk = data[:tables] + b"\x00\x00\x00\x00" + data[tables:]
    with pytest.raises(UnsupportedJpegError):
        decode_jpeg(junk, min_side=None)
    assert np.array_equal(read(junk), read(data))
    assert "cut short" in reason_for(junk[:-40])


def test_both_jpeg_decoders_give_the_same_picture_within_rounding(paint, encode):
    data = encode(paint(1, size=(320, 240)), "JPEG", quality=90)
    fast, slow = decode_jpeg(data, min_side=None), decode_raster(data, "jpeg", max_pixels=LIMIT).pixels
    assert np.abs(fast.astype(int) - slow).max() <= 2


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_half_a_file_is_a_named_reason(encode, kind):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encode(Image.fromarray(noise), kind)
    assert reason_for(data[: len(data) // 2])


def _png_header(width, height):
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))


def _huge_files(paint, encode):
    jpeg = bytearray(encode(paint(1), "JPEG"))
    frame = jpeg.index(b"\xff\xc0") + 5
    jpeg[frame : frame + 4] = struct.pack(">HH", 60000, 60000)
    webp = bytearray(encode(paint(1), "WEBP"))
    webp[26:30] = struct.pack("<HH", 16383, 16383)
    bmp = bytearray(encode(paint(1), "BMP"))
    bmp[18:26] = struct.pack("<ii", 60000, 60000)
    gif = bytearray(encode(paint(1), "GIF"))
    gif[6:10] = struct.pack("<HH", 60000, 60000)
    tiff = bytearray(encode(paint(1), "TIFF"))
    for tag in (256, 257):
        at = tiff.index(struct.pack("<HHI", tag, 4, 1))
        tiff[at + 8 : at + 12] = struct.pack("<I", 60000)
    png = _png_header(60000, 60000) + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    return {"jpeg": jpeg, "webp": webp, "bmp": bmp, "gif": gif, "tiff": tiff, "png": png}


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "bmp", "tiff", "gif"])
def test_a_picture_of_too_many_pixels_is_refused_by_its_header(paint, encode, kind):
    reason = reason_for(bytes(_huge_files(paint, encode)[kind]), max_pixels=100_000_000)
    assert "is more than MAX_PIXELS = 100000000" in reason


def test_a_jpeg_of_a_thousand_scans_is_refused_before_it_keeps_the_decoder_busy(paint, encode):
    data = encode(paint(1), "JPEG", progressive=True)
    scan = data.rindex(b"\xff\xda")
    assert "scans" in reason_for(data[:scan] + data[scan:-2] * 1000 + data[-2:])


def test_a_file_too_big_for_any_picture_is_refused_unread(tmp_path):
    path = tmp_path / "disk.png"
    with path.open("wb") as file:
        file.truncate(10**12)  # takes no room
    assert "is more than a picture" in reason_for(path)


def test_what_is_no_ordinary_file_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    assert reason_for(tmp_path / "pipe.jpg") == "not an ordinary file"
    assert reason_for(tmp_path) == "not an ordinary file"
    assert "No such file" in reason_for(tmp_path / "gone.jpg")


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (b"", "the file is empty"),
        (b"\0" * 100, "the file holds nothing but zeros"),
        (b"<!DOCTYPE html><html>404", "the file holds a web page"),
        (b"\0\0\0\x20ftypavif\0\0\0\0avifmif1miaf", "the AVIF is cut short; copy or download it again"),
        (
            b"version https://git-lfs.github.com/spec/v1",
            "the file holds a Git LFS pointer: run `git lfs pull`",
        ),
    ],
)
def test_what_stands_in_a_picture_s_place_is_named(head, reason):
    assert reason_for(head) == reason


def test_a_heic_picture_names_the_package_that_reads_it():
    head = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40)
    assert identify_format(head) == "heif"
    try:
        import pillow_heif  # noqa: F401
    except ImportError:
        assert "pip install pillow-heif" in reason_for(head)
    else:
        assert reason_for(head)


def test_a_shrunk_decode_keeps_the_sides_that_were_asked_for(paint, encode):
    data = encode(paint(1, size=(1000, 700)), "JPEG")
    small = read(data, min_side=224)
    assert min(small.shape[:2]) >= 224
    assert small.shape[1] <= 500
    assert read(data).shape == (700, 1000, 3)


@pytest.mark.parametrize(
    ("size", "decoded"),
    [((500, 375), (313, 235)), ((301, 301), (226, 226)), ((297, 400), (297, 400)), ((260, 260), (260, 260))],
)
def test_a_decode_is_shrunk_from_six_eighths_on(paint, encode, size, decoded):
    pixels = read(encode(paint(1, size=size), "JPEG"), min_side=224)
    assert pixels.shape == (decoded[1], decoded[0], 3)


@pytest.mark.parametrize("size", [(501, 333), (1001, 683), (90, 1900), (20, 30), (99, 87), (113, 87)])
def test_loading_is_reading_and_resizing_within_one_grey_level(encode, size):
    waves = np.sin(np.linspace(0, 20, size[0])) * 100 + 128
    picture = Image.fromarray(np.broadcast_to(waves[None, :, None], (size[1], size[0], 3)).astype(np.uint8))
    data = encode(picture, "JPEG", quality=92)
    loaded = load_picture(data, size=64, max_pixels=10**7)
    whole = resize_picture(read_picture(data, max_pixels=10**7), 64)
    assert loaded.shape == (64, 64, 3)
    assert np.abs(loaded.astype(int) - whole).mean() < 1


def test_the_caller_may_write_into_what_was_read(paint, encode):
    for kind in ("JPEG", "PNG"):
        read(encode(paint(1), kind))[0, 0] = 0


def test_pillow_s_warnings_neither_escape_nor_refuse_a_picture(paint, encode):
    data = bytearray(encode(paint(1), "TIFF", software="x"))
    at = data.index(struct.pack("<HH", 305, 2))
    data[at + 4 : at + 12] = struct.pack("<II", 40, 10**6)
    before = list(warnings.filters)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(read(bytes(data)), np.asarray(paint(1)))
    assert warnings.filters == before


def test_threads_leave_the_process_s_warnings_as_they_were(paint, encode):
    data = encode(paint(1), "PNG")
    before = list(warnings.filters)
    threads = [threading.Thread(target=lambda: [read(data) for _ in range(50)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert warnings.filters == before


def test_a_picture_above_pillow_s_own_limit_is_read_where_the_settings_allow_it(monkeypatch, paint, encode):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for kind in ("PNG", "BMP"):
        assert read(encode(paint(1), kind)).shape == (18, 24, 3)


def _samples():
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8))
    samples = []
    for kind, options in [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("GIF", {}),
        ("BMP", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("WEBP", {}),
    ]:
        stream = io.BytesIO()
        picture.save(stream, kind, **options)
        samples.append(stream.getvalue())
    return samples


SAMPLES = _samples()


@settings(max_examples=300, deadline=None)
@given(
    sample=st.sampled_from(SAMPLES),
    cut=st.floats(0.02, 1),
    spots=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=6),
)
def test_any_damage_ends_in_a_picture_or_a_named_reason(sample, cut, spots):
    data = bytearray(sample[: max(1, int(len(sample) * cut))])
    for place, value in spots:
        data[int(place * len(data))] = value
    pixels, reason = None, ""
    try:
        pixels = read_picture(bytes(data), max_pixels=LIMIT)
    except PictureError as error:
        reason = error.reason
    assert reason or (pixels.dtype == np.uint8 and pixels.shape[2] == 3)


@settings(max_examples=200, deadline=None)
@given(head=st.binary(max_size=80))
def test_any_bytes_are_identified_or_not_without_a_crash(head):
    assert identify_format(head) in {None, *FORMAT_NAMES}


@settings(max_examples=200, deadline=None)
@given(body=st.binary(max_size=200))
def test_any_jpeg_header_ends_in_a_size_or_a_named_reason(body):
    header, reason = None, ""
    try:
        header = read_jpeg_header(b"\xff\xd8\xff" + body)
    except PictureError as error:
        reason = error.reason
    assert reason or 1 <= header.orientation <= 8


def test_png_text_that_unpacks_to_gigabytes_is_refused(encode):
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "x" * 80_000_000, zip=True)
    assert "damaged or of an unusual kind" in reason_for(encode(Image.new("L", (2, 2)), "PNG", pnginfo=info))
