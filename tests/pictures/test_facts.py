"""What a picture's header tells, and that damaged metadata tell nothing."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from classifold.pictures.facts import Facts, name_far_profile, read_facts


def encode(kind: str, mode: str = "RGB", **options: object) -> bytes:
    file = io.BytesIO()
    Image.radial_gradient("L").convert(mode).save(file, kind, **options)
    return file.getvalue()


def photo_exif() -> Image.Exif:
    exif = Image.Exif()
    exif[271], exif[272] = "Canon\0", "Canon EOS 5D"
    exif.get_ifd(0x8769)[36867] = "2024:02:29 23:59:58"
    return exif


@pytest.mark.parametrize("quality", [30, 50, 75, 90, 95, 100])
def test_the_quality_of_a_jpeg_is_read_from_its_quantization_table(quality: int) -> None:
    assert abs((read_facts(encode("JPEG", quality=quality)).jpeg_quality or 0) - quality) <= 1


@pytest.mark.parametrize("quality", [5, 10, 20])
def test_a_low_quality_is_told_though_numbers_of_the_table_are_cut_at_255(quality: int) -> None:
    assert abs((read_facts(encode("JPEG", quality=quality)).jpeg_quality or 0) - quality) <= 2


@pytest.mark.parametrize(
    ("kind", "mode", "expected"),
    [
        ("JPEG", "L", "grey"),
        ("JPEG", "CMYK", "CMYK"),
        ("JPEG", "RGB", "RGB"),
        ("PNG", "P", "palette"),
        ("PNG", "RGBA", "alpha"),
        ("PNG", "I;16", "16 bit"),
        ("PNG", "L", "grey"),
        ("GIF", "P", "palette"),
        ("WEBP", "RGBA", "alpha"),
        ("WEBP", "RGB", "RGB"),
        ("TIFF", "CMYK", "CMYK"),
        ("TIFF", "RGBA", "alpha"),
        ("BMP", "RGB", "RGB"),
    ],
)
def test_the_mode_says_how_colours_are_stored(kind: str, mode: str, expected: str) -> None:
    if mode == "I;16":
        file = io.BytesIO()
        Image.new("I;16", (8, 8), 1000).save(file, "PNG")
        data = file.getvalue()
    else:
        picture = Image.radial_gradient("L").convert(mode)
        if mode == "RGBA":
            picture.putalpha(Image.radial_gradient("L"))
        file = io.BytesIO()
        picture.save(file, kind)
        data = file.getvalue()
    found = read_facts(data)
    assert (found.format, found.mode) == (kind.lower(), expected)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_camera_and_time_of_taking_come_from_exif(kind: str) -> None:
    found = read_facts(encode(kind, exif=photo_exif()))
    assert found.camera == "Canon EOS 5D"
    assert found.taken == 1709251198


def test_a_clock_that_was_never_set_tells_no_time() -> None:
    exif = photo_exif()
    exif.get_ifd(0x8769)[36867] = "0000:00:00 00:00:00"
    assert read_facts(encode("JPEG", exif=exif)).taken is None


def profile_with(*primaries: tuple[float, float, float]) -> bytes:
    """Return sRGB's profile with other primaries and a name, as far as it is read."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for name, values in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries, strict=False):
        entry = profile.index(name)
        at = int.from_bytes(profile[entry + 4 : entry + 8]) + 8
        profile[at : at + 12] = b"".join(round(value * 65536).to_bytes(4, signed=True) for value in values)
    return bytes(profile)


ADOBE = ((0.6097, 0.3111, 0.0195), (0.2053, 0.6257, 0.0609), (0.1492, 0.0632, 0.7446))
P3 = ((0.5151, 0.2412, -0.0011), (0.2920, 0.6922, 0.0419), (0.1571, 0.0666, 0.7841))


def test_only_a_profile_far_from_srgb_is_named() -> None:
    assert name_far_profile(profile_with(*ADOBE)) != ""
    assert name_far_profile(profile_with(*P3)) == ""
    assert name_far_profile(profile_with()) == ""


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_the_profile_is_found_in_every_kind_of_file(kind: str) -> None:
    assert read_facts(encode(kind, icc_profile=profile_with(*ADOBE))).profile != ""


_WHOLE = [
    encode(kind, exif=photo_exif(), icc_profile=profile_with(*ADOBE)) for kind in ("JPEG", "PNG", "WEBP")
]


@given(
    cut=st.integers(0, 900), flips=st.lists(st.tuples(st.integers(0, 900), st.integers(0, 255)), max_size=8)
)
def test_damaged_metadata_never_raise(cut: int, flips: list[tuple[int, int]]) -> None:
    for data in _WHOLE:
        damaged = bytearray(data)
        for at, value in flips:
            damaged[at % len(damaged)] = value
        assert isinstance(read_facts(bytes(damaged[: len(damaged) - cut])), Facts)
