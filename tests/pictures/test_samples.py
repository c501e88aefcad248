"""16-bit pictures that use few of their bits, alpha channels that mean nothing, pictures of one colour."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, features

from classifold.dataset.check import check_data
from classifold.pictures.decode import inspect_picture, is_nearly_one_colour, load_picture, read_picture
from classifold.pictures.limits import PictureError
from classifold.pictures.samples import is_scaled
from classifold.settings.loader import build_config

LIMIT = 10**6
GREY, RGB, GREY_ALPHA, RGB_ALPHA = 0, 2, 4, 6
RAMP = np.array([[0, 200, 1500, 3000, 4095]], np.uint16)
RAMP_OF_12_BITS = [0, 12, 93, 187, 255]


def png16(values, colour, *, significant=None, transparent=None):
    """A 16-bit PNG of values of shape (height, width, channels)."""

    def chunk(name, content):
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    height, width = values.shape[:2]
    rows = values.reshape(height, -1).astype(">u2")
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0))
    if significant:
        data += chunk(b"sBIT", bytes(significant))
    if transparent:
        data += chunk(b"tRNS", struct.pack(f">{len(transparent)}H", *transparent))
    return (
        data
        + chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows)))
        + chunk(b"IEND", b"")
    )


def tiff16(values, *, order="<", tags=(), photometric=None, extra=None):
    """An uncompressed 16-bit TIFF; more tags are (tag, type, values)."""
    height, width, channels = values.shape
    photometric = photometric if photometric is not None else (1 if channels == 1 else 2)
    strip = values.astype(order + "u2").tobytes()
    entries = [(256, "I", [width]), (257, "I", [height]), (258, "H", [16] * channels), (259, "H", [1])]
    entries += [(262, "H", [photometric]), (273, "I", [8]), (277, "H", [channels]), (278, "I", [height])]
    entries += [(279, "I", [len(strip)]), *([(338, "H", [extra])] if extra is not None else []), *tags]
    codes = {"H": 3, "I": 4, "f": 11, "s": 2}
    place = 8 + len(strip)
    body, more = struct.pack(order + "H", len(entries)), b""
    for tag, kind, items in sorted(entries):
        packed = items if kind == "s" else struct.pack(f"{order}{len(items)}{kind}", *items)
        if len(packed) > 4:
            at = place + 2 + 12 * len(entries) + 4 + len(more)
            more, packed = more + packed, struct.pack(order + "I", at)
        body += struct.pack(order + "HHI", tag, codes[kind], len(items)) + packed.ljust(4, b"\0")
    mark = b"II" if order == "<" else b"MM"
    return mark + struct.pack(order + "HI", 42, place) + strip + body + bytes(4) + more


def stack(values, channels=3):
    return np.repeat(values[..., None], channels, axis=2)


def with_alpha(values, alpha):
    return np.concatenate([values, np.broadcast_to(alpha, (*values.shape[:2], 1)).astype(np.uint16)], axis=2)


def read(data, **options):
    return read_picture(data, max_pixels=LIMIT, **options)


ENCODED = {
    "grey PNG": lambda v, d: png16(v[..., None], GREY, significant=[12] if d else None),
    "RGB PNG": lambda v, d: png16(stack(v), RGB, significant=[12] * 3 if d else None),
    "grey and alpha PNG": lambda v, d: png16(
        with_alpha(stack(v, 1), 4095), GREY_ALPHA, significant=[12, 12] if d else None
    ),
    "RGBA PNG": lambda v, d: png16(
        with_alpha(stack(v), 4095), RGB_ALPHA, significant=[12] * 4 if d else None
    ),
    "grey TIFF": lambda v, d: tiff16(v[..., None], tags=[(281, "H", [4095])] if d else ()),
    "big-endian grey TIFF": lambda v, d: tiff16(
        v[..., None], order=">", tags=[(341, "H", [4095])] if d else ()
    ),
    "RGB TIFF": lambda v, d: tiff16(
        stack(v), tags=[(341, "H", [4095] * 3), (340, "H", [0] * 3)] if d else ()
    ),
    "big-endian RGB TIFF": lambda v, d: tiff16(
        stack(v), order=">", tags=[(281, "H", [4095] * 3)] if d else ()
    ),
    "RGBA TIFF": lambda v, d: tiff16(
        with_alpha(stack(v), 4095), extra=2, tags=[(341, "f", [4095.0] * 4)] if d else ()
    ),
    "RGB TIFF with a channel that means nothing": lambda v, d: tiff16(
        with_alpha(stack(v), 7), extra=0, tags=[(281, "H", [4095] * 4)] if d else ()
    ),
    "OME-TIFF": lambda v, d: tiff16(
        v[..., None], tags=[(270, "s", b'<Pixels SignificantBits="12" Type="uint16"/>\0')] if d else ()
    ),
}


@pytest.mark.parametrize("kind", ENCODED)
def test_a_file_that_names_its_bits_is_seen_with_its_whole_range(kind):
    for read_it in (read, lambda data: load_picture(data, size=16, max_pixels=LIMIT)):
        pixels = read_it(ENCODED[kind](np.repeat(RAMP, 4, axis=0), True))
        assert pixels.max() == 255
    data = ENCODED[kind](RAMP, True)
    assert read(data)[0, :, 0].tolist() == RAMP_OF_12_BITS
    assert inspect_picture(data, max_pixels=LIMIT).used_bits is None


@pytest.mark.parametrize("kind", ENCODED)
def test_the_setting_serves_where_the_file_says_nothing(kind):
    data = ENCODED[kind](RAMP, False)
    assert read(data, sample_bits=12)[0, :, 0].tolist() == RAMP_OF_12_BITS
    assert inspect_picture(data, max_pixels=LIMIT).used_bits == 12
    if "lpha" not in kind and "RGBA" not in kind:
        assert read(data)[0, :, 0].max() == 15


@pytest.mark.parametrize("kind", ENCODED)
def test_what_the_file_says_comes_before_the_setting(kind):
    assert read(ENCODED[kind](RAMP, True), sample_bits=14)[0, :, 0].tolist() == RAMP_OF_12_BITS


def test_values_beyond_the_setting_are_white():
    data = png16(np.array([[[1023], [1024], [60000]]], np.uint16), GREY)
    assert read(data, sample_bits=10)[0, :, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize("high", [3000, 4095 // 3, 100_000])
def test_a_largest_value_that_can_be_no_range_stretches_no_picture(high):
    data = tiff16(np.minimum(RAMP, 1000)[..., None], tags=[(281, "I", [high])])
    assert read(data)[0, :, 0].tolist() == [0, 0, 3, 3, 3]


def test_a_range_that_the_values_break_is_not_believed():
    assert read(tiff16(RAMP[..., None], tags=[(281, "H", [1023])]))[0, :, 0].max() == 15
    assert read(tiff16(RAMP[..., None], tags=[(281, "H", [4095]), (280, "H", [1000])]))[0, :, 0].max() == 15


@pytest.mark.parametrize("way", ["zeros", "copied", "rounded"])
def test_samples_that_were_scaled_as_the_png_specification_asks_stay_as_they_are(way):
    samples = np.array([[0, 40, 129, 255]], np.uint16)  # a dark picture of 12 bits
    scaled = {
        "zeros": samples << 4,
        "copied": samples << 4 | samples >> 8,
        "rounded": np.rint(samples * (65535 / 4095)).astype(np.uint16),
    }[way]
    assert read(png16(scaled[..., None], GREY, significant=[12]))[0, :, 0].tolist() == [0, 2, 8, 15]


@settings(max_examples=100, deadline=None)
@given(st.integers(9, 14), st.integers(0, 2**32 - 1))
def test_scaled_samples_are_told_from_others(bits, seed):
    samples = np.random.default_rng(seed).integers(0, 1 << bits, 50)
    assert is_scaled(np.rint(samples * (65535 / ((1 << bits) - 1))).astype(np.uint16), bits)
    assert is_scaled((samples << (16 - bits)).astype(np.uint16), bits)
    if (samples & (1 << 16 - bits) - 1).max() > 1:
        assert not is_scaled(samples.astype(np.uint16), bits)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([GREY, RGB, RGB_ALPHA]), st.integers(0, 2**32 - 1))
def test_sixteen_bits_keep_the_values_that_they_always_had(colour, seed):
    channels = {GREY: 1, RGB: 3, RGB_ALPHA: 4}[colour]
    values = np.random.default_rng(seed).integers(0, 65536, (5, 7, channels)).astype(np.uint16)
    if colour == RGB_ALPHA:
        values[..., 3] = 65535
    pixels = read(png16(values, colour))
    assert np.array_equal(pixels, np.broadcast_to(values[..., : 3 if channels > 1 else 1] >> 8, pixels.shape))
    assert np.array_equal(read(png16(values, colour), sample_bits=16), pixels)


def test_a_transparent_colour_of_sixteen_bits_lies_over_white():
    values = np.array([[[0x1200, 0x3400, 0x5600], [0x1201, 0x3400, 0x5600]]], np.uint16)
    data = png16(values, RGB, transparent=(0x1200, 0x3400, 0x5600))
    assert read(data).tolist() == [[[255, 255, 255], [0x12, 0x34, 0x56]]]


def test_compressed_rgb_tiff_is_read_with_all_of_its_bits(encode):
    cv2 = pytest.importorskip("cv2", reason="OpenCV writes compressed 16-bit RGB TIFF here")
    for compression in (5, 8):
        ok, data = cv2.imencode(".tif", stack(RAMP), [cv2.IMWRITE_TIFF_COMPRESSION, compression])
        assert ok
        assert read(data.tobytes(), sample_bits=12)[0, :, 0].tolist() == RAMP_OF_12_BITS


def test_a_turned_deep_tiff_is_turned_in_all_of_its_bits():
    data = tiff16(stack(RAMP), tags=[(274, "H", [6])])
    assert read(data, sample_bits=12)[:, 0, 0].tolist() == RAMP_OF_12_BITS


def fill(folder, values):
    for number, (class_name, pixels) in enumerate(values):
        (folder / class_name).mkdir(parents=True, exist_ok=True)
        (folder / class_name / f"{number:02}.png").write_bytes(pixels)


def deep_grey(seed, low, high):
    return png16(np.random.default_rng(seed).integers(low, high, (24, 24, 1)).astype(np.uint16), GREY)


def notes_for(folder, **options):
    return check_data(build_config({"DATA_LOCAL_DIR": str(folder), "NUM_WORKERS": 2, **options})).notes


def test_a_check_and_a_split_say_which_setting_shows_dark_pictures(tmp_path, split):
    fill(tmp_path / "pics", [("ab"[n % 2], deep_grey(n, 200, 1100 + 200 * n)) for n in range(12)])
    expected = [
        "12 pictures of 16-bit samples use only 12 of 16 bits and come out too dark: a/00.png; a/02.png; "
        "a/04.png; and 9 more; set SAMPLE_BITS = 12 to see them with their whole range"
    ]
    assert [note for note in notes_for(tmp_path / "pics") if "bits" in note] == expected
    assert [note for note in split(tmp_path / "pics").notes if "bits" in note] == expected
    assert not [note for note in notes_for(tmp_path / "pics", SAMPLE_BITS=12) if "bits" in note]
    (note,) = [note for note in notes_for(tmp_path / "pics", SAMPLE_BITS=11) if "bits" in note]
    assert "have values beyond 11 bits, which become white" in note
    assert note.endswith("set SAMPLE_BITS = 12")


def test_nothing_is_said_where_one_picture_uses_all_bits(tmp_path):
    pictures = [("ab"[n % 2], deep_grey(n, 0, 60_000 if n == 3 else 30_000)) for n in range(8)]
    fill(tmp_path / "pics", pictures)
    assert not [note for note in notes_for(tmp_path / "pics") if "bits" in note]


def hidden(mode="RGBA", alpha=0):
    noise = np.random.default_rng(0).integers(0, 256, (12, 16, 3)).astype(np.uint8)
    image = Image.fromarray(noise)
    if mode == "LA":
        image = image.convert("L")
    image.putalpha(alpha)
    return image


@pytest.mark.parametrize(
    ("kind", "mode"), [("PNG", "RGBA"), ("PNG", "LA"), ("TIFF", "RGBA"), ("TGA", "RGBA"), ("WEBP", "RGBA")]
)
@pytest.mark.parametrize("alpha", [0, 1])
def test_an_alpha_channel_that_hides_a_whole_picture_is_left_out(encode, kind, mode, alpha):
    image = hidden(mode, alpha)
    data = encode(image, kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {}))
    assert np.array_equal(read(data), np.asarray(image.convert("RGB")))
    assert inspect_picture(data, max_pixels=LIMIT).ignores_alpha


def test_a_palette_that_is_transparent_throughout_shows_its_colours(encode):
    image = hidden().convert("RGB").quantize(16)
    data = encode(image, "PNG", transparency=bytes(16))
    assert np.array_equal(read(data), np.asarray(image.convert("RGB")))


def test_a_tiff_whose_fourth_channel_is_not_said_to_be_alpha_has_none(encode):
    data = encode(hidden(alpha=7), "TIFF")
    extra = struct.pack("<HHI", 338, 3, 1)
    data = data.replace(extra + struct.pack("<H", 2), extra + struct.pack("<H", 0))
    assert np.array_equal(read(data), np.asarray(hidden().convert("RGB")))
    assert not inspect_picture(data, max_pixels=LIMIT).ignores_alpha


def test_a_bitmap_whose_fourth_bytes_are_zero_shows_its_colours():
    colours = np.random.default_rng(0).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    rows = np.concatenate([colours[::-1, :, ::-1], np.zeros((6, 8, 1), np.uint8)], axis=2).tobytes()
    for masks, compression in ((b"", 0), (struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000), 3)):
        header = struct.pack(
            "<IiiHHIIiiII", 56 if masks else 40, 8, 6, 1, 32, compression, len(rows), 0, 0, 0, 0
        )
        start = 14 + len(header) + len(masks)
        data = b"BM" + struct.pack("<IHHI", start + len(rows), 0, 0, start) + header + masks + rows
        assert np.array_equal(read(data), colours)


def test_a_hidden_picture_of_one_colour_stays_white(encode):
    data = encode(Image.new("RGBA", (6, 6), (10, 20, 30, 0)), "PNG")
    assert (read(data) == 255).all()
    found = inspect_picture(data, max_pixels=LIMIT)
    assert (found.ignores_alpha, found.is_plain) == (False, True)


def test_a_deep_picture_that_its_alpha_channel_hides_is_shown_too():
    values = with_alpha(stack(RAMP * 16), 0)
    assert read(png16(values, RGB_ALPHA))[0, :, 0].tolist() == [0, 12, 93, 187, 255]
    assert inspect_picture(png16(values, RGB_ALPHA), max_pixels=LIMIT).ignores_alpha


@pytest.mark.parametrize("alpha", [0, 64, 255])
def test_colours_that_are_multiplied_with_alpha_already_are_not_multiplied_again(encode, alpha):
    values = np.array([[[200, 100, 0], [40, 0, 250]]], np.uint16) * alpha // 255
    eight = np.concatenate([values, np.full((1, 2, 1), alpha)], axis=2).astype(np.uint8)
    data = encode(Image.fromarray(eight), "TIFF")
    extra = struct.pack("<HHI", 338, 3, 1)
    data = data.replace(extra + struct.pack("<H", 2), extra + struct.pack("<H", 1))
    assert read(data).tolist() == (values + 255 - alpha).tolist()
    deep = with_alpha(values * 257, alpha * 257)
    assert (read(tiff16(deep, extra=1)).astype(int) - (values + 255 - alpha)).max() <= 1


@pytest.mark.parametrize(
    ("picture", "is_plain"),
    [
        (np.zeros((40, 40, 3)), True),
        (np.full((40, 40, 3), 255), True),
        (np.random.default_rng(0).normal(128, 2, (40, 40, 3)), True),
        (np.random.default_rng(0).normal(128, 10, (40, 40, 3)), False),
        (stack(np.linspace(0, 255, 1600).reshape(40, 40)), False),
        (np.where(np.arange(4800).reshape(40, 40, 3) < 15, 255, 0), True),  # 5 of 1600 pixels
        (np.where(np.arange(4800).reshape(40, 40, 3) < 60, 255, 0), False),  # 20 of 1600
    ],
)
def test_nearly_one_colour_is_told_from_little_contrast(picture, is_plain):
    assert is_nearly_one_colour(picture.clip(0, 255).astype(np.uint8)) == is_plain


def test_fine_detail_that_a_shrunk_decode_loses_is_no_single_colour(encode):
    checks = stack((np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8))
    assert not inspect_picture(encode(Image.fromarray(checks), "JPEG", quality=95), max_pixels=LIMIT).is_plain
    assert inspect_picture(encode(Image.new("RGB", (64, 64), "grey"), "JPEG"), max_pixels=LIMIT).is_plain


def test_pictures_of_one_colour_and_hidden_ones_are_told(tmp_path, make_classes, split, encode):
    folder = make_classes({"cat": 6, "dog": 6})
    Image.new("RGB", (20, 20), "black").save(folder / "cat" / "lens cap.jpg")
    logo = Image.new("RGBA", (20, 20), (255, 255, 255, 0))
    logo.paste((255, 255, 255, 255), (5, 5, 15, 15))
    logo.save(folder / "dog" / "white logo.png")
    hidden().save(folder / "dog" / "hidden.png")
    for notes in (notes_for(folder), split(folder).notes):
        assert "2 pictures come out as nearly one colour: cat/lens cap.jpg; dog/white logo.png" in notes
        assert [note for note in notes if "transparent throughout" in note] == [
            "1 picture is transparent throughout; its alpha channel was ignored and its colours are used: "
            "dog/hidden.png"
        ]


def test_channels_of_16_bits_that_lie_apart_are_refused_and_not_misread():
    values = stack(RAMP)
    data = tiff16(values, tags=[(284, "H", [2])])
    with pytest.raises(PictureError, match="16-bit channels that are stored one after the other"):
        read(data)


def packed_tiff(values, bits, *, order="<", photometric=1, rows=None, orientation=1):
    """An uncompressed TIFF whose samples of `bits` bits lie without gaps; a strip has `rows` rows."""
    height, width, channels = values.shape
    rows = rows or height
    digits = (values.reshape(height, -1, 1) >> np.arange(bits - 1, -1, -1)) & 1
    lines = [np.packbits(line.ravel()).tobytes() for line in digits.astype(np.uint8)]
    strips = [b"".join(lines[at : at + rows]) for at in range(0, height, rows)]
    starts = [8 + sum(map(len, strips[:n])) for n in range(len(strips))]
    entries = [(256, [width]), (257, [height]), (258, [bits] * channels), (259, [1]), (262, [photometric])]
    entries += [(273, starts), (274, [orientation]), (277, [channels]), (278, [rows])]
    entries += [(279, [len(strip) for strip in strips])]
    data = b"".join(strips)
    place = 8 + len(data)
    body, more = struct.pack(order + "H", len(entries)), b""
    for tag, items in entries:
        packed = struct.pack(f"{order}{len(items)}I", *items)
        if len(packed) > 4:
            at = place + 2 + 12 * len(entries) + 4 + len(more)
            more, packed = more + packed, struct.pack(order + "I", at)
        body += struct.pack(order + "HHI", tag, 4, len(items)) + packed
    mark = b"II" if order == "<" else b"MM"
    return mark + struct.pack(order + "HI", 42, place) + data + body + bytes(4) + more


@pytest.mark.parametrize("bits", [9, 10, 12, 14, 15])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_tiff_of_packed_samples_is_read_by_the_bits_that_it_names(bits, order, channels):
    values = np.random.default_rng(bits).integers(0, 1 << bits, (5, 7, channels)).astype(np.uint16)
    data = packed_tiff(values, bits, order=order, photometric=1 if channels == 1 else 2, rows=2)
    expected = np.broadcast_to(values >> (bits - 8), (5, 7, 3))
    assert np.array_equal(read(data), expected)
    assert np.array_equal(read(data, sample_bits=16), expected)
    turned = packed_tiff(values, bits, order=order, photometric=1 if channels == 1 else 2, orientation=6)
    assert np.array_equal(read(turned), np.rot90(expected, -1))


def test_a_packed_tiff_whose_0_is_white_is_turned_round():
    values = np.array([[[0], [1023]]], np.uint16)
    assert read(packed_tiff(values, 10, photometric=0))[0, :, 0].tolist() == [255, 0]


def test_a_packed_tiff_has_the_bounds_of_every_picture():
    values = np.zeros((40, 40, 1), np.uint16)
    data = packed_tiff(values, 10)
    with pytest.raises(PictureError, match="MAX_PIXELS = 1000"):
        read_picture(data, max_pixels=1000)
    cut = bytearray(data)
    at = data.index(struct.pack("<HHI", 257, 4, 1))
    struct.pack_into("<I", cut, at + 8, 900)
    at = data.index(struct.pack("<HHI", 278, 4, 1))
    struct.pack_into("<I", cut, at + 8, 900)
    with pytest.raises(PictureError, match="cut short"):
        read(bytes(cut))


def test_a_jpeg_2000_of_16_bits_that_uses_12_is_told_and_cured(encode):
    if not features.check("jpg_2000"):
        pytest.skip("this Pillow has no JPEG 2000 decoder")
    values = np.random.default_rng(0).integers(0, 4096, (32, 40)).astype(np.uint16)
    data = encode(Image.fromarray(values), "JPEG2000")
    assert inspect_picture(data, max_pixels=LIMIT).used_bits == 12
    assert np.array_equal(read(data, sample_bits=12)[..., 0], values >> 4)


def test_an_alpha_channel_of_16_bits_beside_colours_of_12_keeps_its_own_range():
    values = with_alpha(stack(RAMP), np.array([[[65535], [65535], [65535], [32768], [0]]]))
    pixels = read(png16(values, RGB_ALPHA, significant=[12, 12, 12, 16]))[0, :, 0].astype(int)
    assert np.abs(pixels - [0, 12, 93, (187 + 255) / 2, 255]).max() <= 1


def test_samples_below_zero_are_refused_and_not_made_black():
    values = np.array([[-1000, 0, 1000]])[..., None]
    signed = tiff16(values, tags=[(339, "H", [2])])
    with pytest.raises(PictureError, match="samples below zero"):
        read_picture(signed, max_pixels=LIMIT)
    assert read_picture(tiff16(values[:, 1:], tags=[(339, "H", [2])]), max_pixels=LIMIT).shape == (1, 2, 3)


@pytest.mark.parametrize("bits", ["auto", 16])
def test_a_full_range_file_does_not_hide_the_dark_ones(tmp_path, split, bits):
    pictures = [("ab"[n % 2], deep_grey(n, 0, 60_000 if n == 3 else 30_000)) for n in range(8)]
    pictures += [("a", deep_grey(8, 200, 4000)), ("b", deep_grey(9, 200, 1000))]
    fill(tmp_path / "pics", pictures)
    expected = [
        "2 pictures of 16-bit samples use only 12 of 16 bits and come out too dark: a/08.png; b/09.png; "
        "others use more, so no SAMPLE_BITS fits all: scale their samples to 16 bits"
    ]
    assert [note for note in notes_for(tmp_path / "pics", SAMPLE_BITS=bits) if "bits" in note] == expected
    assert [note for note in split(tmp_path / "pics", SAMPLE_BITS=bits).notes if "bits" in note] == expected


def test_files_beyond_the_setting_do_not_hide_the_dark_ones(tmp_path):
    pictures = [("ab"[n % 2], deep_grey(n, 200, 4000)) for n in range(8)]
    fill(tmp_path / "pics", [*pictures, ("a", deep_grey(8, 200, 60_000)), ("a", deep_grey(9, 0, 900))])
    beyond, dark = [note for note in notes_for(tmp_path / "pics", SAMPLE_BITS=12) if "bits" in note]
    assert beyond.startswith(
        "1 picture of 16-bit samples has values beyond 12 bits, which become white: a/08"
    )
    assert dark.startswith("1 picture of 16-bit samples uses only 10 of 12 bits and comes out too dark: a/09")
