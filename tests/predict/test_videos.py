from __future__ import annotations

import contextlib
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from classifold.pictures.limits import PictureError
from classifold.predict import videos
from classifold.predict.inputs import Inputs, find_sources
from classifold.predict.predictor import load_predictor
from classifold.predict.sources import Source
from classifold.predict.videos import NoPicturesError, is_video, iter_frames

av = pytest.importorskip("av")
LIMIT = 10**7
RED, BLUE = (255, 0, 0), (0, 0, 255)


@pytest.fixture(scope="module")
def make_video(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that makes a video, red in its first half and blue in its second."""

    def make(
        name: str = "clip.mp4",
        *,
        seconds: int = 4,
        rate: int = 10,
        codec: str = "mpeg4",
        size: tuple[int, int] = (64, 48),
        key_frames: int = 5,
    ) -> Path:
        path = tmp_path_factory.mktemp("video") / name
        with av.open(str(path), "w") as video:
            stream = video.add_stream(codec, rate=rate)
            stream.width, stream.height = size
            stream.pix_fmt = "yuv420p"
            stream.gop_size = key_frames
            for number in range(seconds * rate):
                pixels = np.zeros((size[1], size[0], 3), np.uint8)
                pixels[:] = RED if number < seconds * rate / 2 else BLUE
                # A white corner, to see how it is turned.
                pixels[:16, :16] = 255
                video.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            video.mux(stream.encode())
        return path

    return make


@pytest.fixture(scope="module")
def clip(make_video: Callable[..., Path]) -> Path:
    return make_video()


def frames(path: Path, every: float = 1.0) -> Iterator[Source]:
    return iter_frames(path, every=every, max_pixels=LIMIT)


def read_all(path: Path, every: float = 1.0) -> list[tuple[str, Any]]:
    """Return the frames' names with their pixels, or with the reason why they cannot be read."""
    found: list[tuple[str, Any]] = []
    for source in frames(path, every):
        name = source.name.replace(str(path.parent) + "/", "")
        try:
            found.append((name, source.read()))
        except PictureError as error:
            found.append((name, error.reason))
    return found


def is_colour(pixels: Any, colour: tuple[int, int, int]) -> bool:
    return bool(np.abs(pixels[-8:, -8:].mean(axis=(0, 1)) - colour).max() < 12)


def test_frames_are_taken_at_regular_times_and_called_by_them(clip: Path) -> None:
    found = read_all(clip)
    assert [name for name, _ in found] == ["clip.mp4#t=0", "clip.mp4#t=1", "clip.mp4#t=2", "clip.mp4#t=3"]
    assert [is_colour(pixels, RED) for _, pixels in found] == [True, True, False, False]
    assert [is_colour(pixels, BLUE) for _, pixels in found] == [False, False, True, True]
    assert found[0][1].shape == (48, 64, 3)


@pytest.mark.parametrize(("every", "times"), [(0.5, 8), (1.5, 3), (3, 2), (100, 1), (0.1, 40), (0.01, 40)])
def test_as_many_frames_are_taken_as_are_asked_for_and_none_twice(
    clip: Path, every: float, times: int
) -> None:
    found = [name for name, _ in read_all(clip, every)]
    assert len(found) == len(set(found)) == times


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mkv", "libx264"),
        ("a.avi", "mpeg4"),
        ("a.webm", "libvpx"),
        ("a.mts", "mpeg2video"),
        ("a.mov", "libx264"),
    ],
)
def test_the_usual_formats_are_read_and_known_by_their_content(
    make_video: Callable[..., Path], name: str, codec: str
) -> None:
    path = make_video(name, codec=codec, rate=25 if codec == "mpeg2video" else 10)
    assert is_video(path)
    assert len(read_all(path)) == 4


@pytest.mark.parametrize(("quarters", "corner"), [(1, "top right"), (2, "bottom right"), (3, "bottom left")])
def test_a_phones_rotation_turns_the_frames_upright(
    clip: Path, tmp_path: Path, quarters: int, corner: str
) -> None:
    # The matrix of the track's header, after which players turn it clockwise: ISO/IEC 14496-12, 8.3.2.
    one = 1 << 16
    turns = {1: (0, one, -one, 0), 2: (-one, 0, 0, -one), 3: (0, -one, one, 0)}
    a, b, c, d = turns[quarters]
    matrix = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    plain = struct.pack(">9i", one, 0, 0, 0, one, 0, 0, 0, 1 << 30)
    content = clip.read_bytes()
    track = content.index(b"tkhd")
    at = content.index(plain, track)
    turned = tmp_path / "turned.mp4"
    turned.write_bytes(content[:at] + matrix + content[at + len(plain) :])
    pixels = read_all(turned)[0][1]
    assert pixels.shape == ((64, 48, 3) if quarters % 2 else (48, 64, 3))
    rows = slice(None, 8) if "top" in corner else slice(-8, None)
    columns = slice(None, 8) if "left" in corner else slice(-8, None)
    assert pixels[rows, columns].min() > 200


def test_of_a_video_that_is_cut_short_the_beginning_is_read_and_then_a_reason_is_told(
    make_video: Callable[..., Path], tmp_path: Path
) -> None:
    whole = make_video("whole.mkv", seconds=10).read_bytes()
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole[: len(whole) // 2])
    found = read_all(cut)
    assert 3 <= len(found) <= 8
    assert all(not isinstance(pixels, str) for _, pixels in found[:-1])
    assert found[-1][0] == "cut.mkv"
    assert "of 10.0 seconds: it is cut short" in found[-1][1]


def test_of_a_damaged_video_what_can_be_decoded_is_read_and_then_a_reason_is_told(
    make_video: Callable[..., Path], tmp_path: Path
) -> None:
    content = bytearray(make_video("whole.mkv", seconds=10, codec="libx264").read_bytes())
    middle = len(content) // 2
    content[middle : middle + 400] = bytes(400)
    damaged = tmp_path / "damaged.mkv"
    damaged.write_bytes(content)
    found = read_all(damaged)
    assert sum(not isinstance(pixels, str) for _, pixels in found) >= 4
    assert found[-1][0] == "damaged.mkv"
    assert "damaged" in found[-1][1] or "cut short" in found[-1][1]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_video_without_its_index_is_unreadable_with_a_reason(
    clip: Path, tmp_path: Path, share: float
) -> None:
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(clip.read_bytes()[: int(clip.stat().st_size * share)])
    [(name, reason)] = read_all(cut)
    assert name == "cut.mp4"
    assert "the video" in reason


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv"])
def test_noise_is_never_a_crash_nor_an_endless_video_nor_silence(
    make_video: Callable[..., Path], tmp_path: Path, name: str
) -> None:
    content, noisy = make_video(name).read_bytes(), tmp_path / name
    random = np.random.default_rng(1)
    for number in range(60):
        changed = bytearray(content)
        for at in random.integers(0, len(content) if number % 2 else 1500, 10):
            changed[at] = random.integers(256)
        noisy.write_bytes(changed)
        with contextlib.suppress(NoPicturesError):
            assert 0 < len(read_all(noisy)) < 100


def test_a_frame_with_too_many_pixels_is_refused(clip: Path) -> None:
    [source] = iter_frames(clip, every=1, max_pixels=1000)
    with pytest.raises(PictureError, match="64 x 48 pixels is more than MAX_PIXELS = 1000"):
        source.read()


def test_few_frames_wait_in_memory_and_unread_ones_make_room_when_they_are_thrown_away(clip: Path) -> None:
    assert sum(1 for _ in frames(clip, 0.1)) == 40  # none is read, and none is kept
    kept: list[Source] = []

    def take_all() -> None:
        for source in frames(clip, 0.1):
            kept.append(source)  # noqa: PERF402 - one by one, as they come

    thread = threading.Thread(target=take_all, daemon=True)
    thread.start()
    thread.join(0.5)
    assert thread.is_alive()
    assert len(kept) == 12
    while thread.is_alive():
        kept.clear()
        thread.join(0.02)


def test_a_long_video_is_classified_without_waiting_for_itself(
    make_video: Callable[..., Path], run_dir: Path
) -> None:
    path = make_video("long.mp4", seconds=20)
    found = load_predictor(run_dir).predict_paths(
        [path], inputs=Inputs(every=0.1), batch_size=32, num_workers=2
    )
    names = [one.name for one in found]
    assert len(names) == 200
    assert names[125] == f"{path}#t=12.5"


def test_a_file_of_sound_is_no_picture(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as sound:
        stream = sound.add_stream("aac", rate=44100)
        silence = av.AudioFrame.from_ndarray(np.zeros((2, 44100), np.float32), format="fltp", layout="stereo")
        silence.sample_rate = 44100
        sound.mux(stream.encode(silence))
        sound.mux(stream.encode())
    with pytest.raises(NoPicturesError):
        list(frames(path))
    [source] = find_sources([str(path)])
    with pytest.raises(PictureError, match="sound and no pictures"):
        source.read()
    (tmp_path / "a.ppm").write_bytes(b"P6 1 1 255 abc")
    inputs = Inputs()
    assert len(list(find_sources([str(tmp_path)], inputs))) == 1
    assert inputs.passed.describe() == ["passed over 1 file: 1 .mp4"]


def test_without_the_package_a_video_says_what_to_install(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(videos, "can_read_videos", lambda: False)
    monkeypatch.setattr("classifold.predict.inputs.can_read_videos", lambda: False)
    [(name, reason)] = read_all(clip)
    assert name == "clip.mp4"
    assert reason.startswith('the file holds a video; for its frames: pip install "classifold[video]')
    (tmp_path / "a.ppm").write_bytes(b"P6 1 1 255 abc")
    (tmp_path / "b.mp4").symlink_to(clip)
    inputs = Inputs()
    assert [one.name for one in find_sources([str(tmp_path)], inputs)] == [str(tmp_path / "a.ppm")]
    assert inputs.passed.describe() == [
        "passed over 1 file: 1 .mp4",
        ".mp4: their frames are read with the package av: pip install av",
    ]


def test_a_text_called_ts_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "a.ts").write_text("G" + "const a = 1;\n" * 50)
    assert not is_video(tmp_path / "a.ts")
    assert not is_video(tmp_path / "gone.ts")
