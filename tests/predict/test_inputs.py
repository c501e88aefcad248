from __future__ import annotations

import io
import json
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from classifold.errors import DataError
from classifold.pictures.limits import PictureError
from classifold.predict.inputs import Inputs, count_pictures, find_sources, list_local

Save = Callable[..., Path]
Run = Callable[..., Any]


@pytest.fixture
def photos(tmp_path: Path, save_plain: Save) -> Path:
    """Return a folder of pictures with what lies beside pictures."""
    folder = tmp_path / "photos"
    for name in ("b.png", "a.png", "sub/c.png", "sub/photo[1].png"):
        save_plain(folder / name)
    for name in ("a.xmp", "b.xmp", "notes.txt", ".hidden", "sub/Thumbs.db", "README"):
        (folder / name).write_text("no picture")
    return folder


def names_of(given: list[str], inputs: Inputs | None = None) -> list[str]:
    return [one.name for one in find_sources(given, inputs)]


def below(folder: Path, *names: str) -> list[str]:
    return [str(folder / name) for name in names]


def fault_of(*given: str) -> list[str]:
    with pytest.raises(DataError) as caught:
        find_sources(list(given))
    return [f"{fault.what} ({fault.hint})" for fault in caught.value.faults]


def test_a_folder_gives_its_pictures_and_counts_the_rest(photos: Path) -> None:
    inputs = Inputs()
    found = names_of([str(photos)], inputs)
    assert found == below(photos, "a.png", "b.png", "sub/c.png", "sub/photo[1].png")
    assert inputs.passed.describe() == [
        "passed over 6 files: 2 .xmp, 1 without an ending, 1 .txt, 1 hidden, 1 left by the system"
    ]


def test_a_pattern_gives_the_pictures_that_match_and_counts_the_rest(photos: Path) -> None:
    inputs = Inputs()
    assert names_of([f"{photos}/*"], inputs) == below(
        photos, "a.png", "b.png", "sub/c.png", "sub/photo[1].png"
    )
    assert inputs.passed.total == 5  # all but the hidden one, which no pattern matches
    assert names_of([f"{photos}/**/*.png"]) == below(
        photos, "a.png", "b.png", "sub/c.png", "sub/photo[1].png"
    )
    assert names_of([f"{photos}/?.png", f"{photos}/sub/c.png"]) == below(
        photos, "a.png", "b.png", "sub/c.png"
    )


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(photos: Path) -> None:
    assert names_of([f"{photos}/sub/photo[1].png"]) == below(photos, "sub/photo[1].png")


def test_a_file_is_accepted_with_any_name_and_counted_nowhere(photos: Path) -> None:
    inputs = Inputs()
    assert names_of(below(photos, "notes.txt"), inputs) == below(photos, "notes.txt")
    assert inputs.passed.total == 0


def test_everything_that_is_missing_is_told_before_the_first_picture(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").symlink_to("nowhere")
    assert fault_of(
        str(tmp_path / "gone"),
        f"{photos}/*.jpg",
        f"{photos}/*.xmp",
        "ftp://x/a",
        str(tmp_path / "broken.png"),
    ) == [
        "no such file or folder (check the path)",
        "no picture matches this pattern (name files or folders of pictures)",
        "no picture matches this pattern (name files or folders of pictures; passed over 2 files: 2 .xmp)",
        "addresses with ftp:// are not read (name files, http, https or s3 addresses)",
        "it is a link that leads nowhere (check the link)",
    ]
    assert fault_of("-", "-") == ["standard input is named twice (name it once)"]
    assert fault_of("s3://bucket/a") == [
        "addresses in S3 are not read here (name files or folders of pictures)"
    ]


def test_an_error_never_shows_the_password_of_an_address() -> None:
    with pytest.raises(DataError) as caught:
        find_sources(["ftp://ann:s3cr3t@x/a.png", "gopher://x/?token=s3cr3t"])
    assert "s3cr3t" not in str(caught.value)
    assert [fault.where for fault in caught.value.faults] == ["ftp://x/a.png", "gopher://x/?token=…"]


@pytest.mark.parametrize(
    "text",
    ["https:ann:s3cr3t@h", "http:/ann:s3cr3t@h/x.jpg", "http:/ann:s3cr3t@h/*.jpg", "ann:s3cr3t@h/x.jpg"],
)
def test_an_error_never_shows_the_password_of_a_mistyped_address(text: str) -> None:
    with pytest.raises(DataError) as caught:
        find_sources([text])
    assert "s3cr3t" not in str(caught.value)


def read_names(content: bytes) -> list[tuple[str, str]]:
    """Return the names on standard input, each with the reason why it cannot be read."""
    found = []
    for one in find_sources(["-"], Inputs(standard_input=io.BytesIO(content))):
        try:
            one.read()
            found.append((one.name, ""))
        except PictureError as error:
            found.append((one.name, error.reason))
    return found


def test_every_name_on_standard_input_gets_an_answer(photos: Path) -> None:
    lines = [*below(photos, "a.png", "gone.png", "sub"), "s3://b/a.png"]
    found = read_names("\n".join(lines).encode())
    assert [name for name, _ in found] == lines
    assert [reason.partition(";")[0] for _, reason in found[:3]] == ["", "", "it is a folder"]


def test_no_name_on_standard_input_is_answered_with_its_password(photos: Path) -> None:
    lines = [
        "ftp://ann:s3cr3t@h/x.jpg",
        "s3://AKIA:s3cr3t@b/x.jpg",
        "https:ann:s3cr3t@h",
        "http:/ann:s3cr3t@h/x.jpg",
        "https://ann:s3/cr3t@h/x.jpg",
        ' "https://ann:s3cr3t@h/x.jpg"',
        "sftp://h/x.jpg",
        "photos/gone.jpg",
    ]
    found = read_names("\n".join(lines).encode())
    assert "cr3t" not in repr(found)
    assert len(found) == len(lines)
    assert found[0] == ("ftp://h/x.jpg", "addresses with ftp:// are not read")
    assert found[2] == ("https:…@h", "no such file")
    assert found[6] == ("sftp://h/x.jpg", "addresses with sftp:// are not read")


def test_a_file_that_is_called_like_an_address_is_that_file(
    photos: Path, save_plain: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos)
    save_plain(photos / "ann:12@home.png")
    save_plain(photos / "ftp:" / "ann:12@home.png")
    lines = ["ann:12@home.png", "ftp://ann:12@home.png"]
    found = read_names("\n".join(lines).encode())
    assert found == [("ann:12@home.png", ""), ("ftp:/ann:12@home.png", "")]
    assert names_of(lines[:1]) == lines[:1]


def test_a_picture_on_standard_input_is_called_by_a_dash(photos: Path) -> None:
    content = (photos / "a.png").read_bytes()
    [source] = find_sources(["-"], Inputs(standard_input=io.BytesIO(content)))
    assert (source.name, source.path, source.read()) == ("-", None, content)
    [large] = find_sources(["-"], Inputs(standard_input=io.BytesIO(content + bytes(10**8)), max_pixels=1000))
    with pytest.raises(PictureError, match="can have"):
        large.read()


def test_pictures_can_be_counted_where_they_are_all_here(photos: Path) -> None:
    assert count_pictures([str(photos), str(photos / "a.png")]) == 5
    assert count_pictures(["-"]) is None
    assert count_pictures(["http://x/a"]) is None


def test_what_lies_on_this_machine_is_told_from_addresses_and_a_pattern_by_its_folder(photos: Path) -> None:
    assert list_local(["-", "http://x/a", "s3://b/a", str(photos)]) == [photos]
    assert list_local([f"{photos}/**/*.png", "**", f"{photos}/sub/photo[1].png"]) == [
        photos,
        Path(),
        photos / "sub" / "photo[1].png",
    ]


def test_standard_input_may_be_larger_than_memory(photos: Path) -> None:
    class Names(io.RawIOBase):
        left = 100_000

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
            if not self.left:
                return 0
            self.left -= 1
            line = f"{photos}/a.png\n".encode()
            buffer[: len(line)] = line
            return len(line)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    stream = io.BufferedReader(Names())
    assert sum(1 for _ in find_sources(["-"], Inputs(standard_input=stream))) == 100_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # kilobytes


# The command


@pytest.fixture
def site(photos: Path) -> Iterator[str]:
    """Return the address of a web server that has the pictures."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(photos)))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_predict_answers_for_every_kind_of_input_in_the_order_of_the_command(
    classifold: Run, run_dir: Path, photos: Path, site: str
) -> None:
    given = [f"{site}/sub/c.png?token=s3cr3t", photos / "b.png", f"{photos}/a.*", f"{site}/gone.png"]
    answer = classifold("predict", run_dir, *given, "--format", "json")
    rows = json.loads(answer.out)
    assert [row["path"] for row in rows] == [
        f"{site}/sub/c.png?token=…",
        *below(photos, "b.png", "a.png"),
        f"{site}/gone.png",
    ]
    assert [row["predicted_class"] for row in rows] == ["red", "red", "red", None]
    assert rows[3]["error"] == "the server answers 404 Not Found"
    assert answer.code == 1
    assert answer.err.count("passed over 1 file: 1 .xmp\n") == 1
    assert "s3cr3t" not in answer.out + answer.err


def test_what_is_passed_over_is_said_once_at_the_end_and_never_in_the_answers(
    classifold: Run, run_dir: Path, photos: Path
) -> None:
    for output_format in ("text", "csv", "json", "jsonl"):
        answer = classifold("predict", run_dir, photos, "--format", output_format)
        assert answer.code == 0
        assert "passed over" not in answer.out
        assert answer.err.count("passed over 6 files: 2 .xmp, ") == 1


def call(
    run_dir: Path, *given: str, stdin: bytes, cwd: Path | None = None
) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "classifold", "predict", str(run_dir), *given]
    return subprocess.run(command, input=stdin, capture_output=True, timeout=60, check=False, cwd=cwd)


def test_a_pipe_of_names_and_a_pipe_of_one_picture_are_told_apart(run_dir: Path, photos: Path) -> None:
    listed = subprocess.run(
        ["find", str(photos), "-name", "*.png", "-print0"], capture_output=True, check=True
    ).stdout
    named = call(run_dir, "-", "--format", "jsonl", stdin=listed)
    assert named.returncode == 0, named.stderr
    assert len(named.stdout.splitlines()) == 4
    one = call(run_dir, "-", "--format", "jsonl", stdin=(photos / "a.png").read_bytes())
    assert json.loads(one.stdout)["path"] == "-"
    empty = call(run_dir, "-", stdin=b"")
    assert empty.returncode == 1
    assert empty.stderr.startswith(b"error: standard input: there is nothing on it\nhint: ")


def test_a_name_with_a_line_end_and_one_that_is_not_utf_8_come_through_a_pipe(
    run_dir: Path, tmp_path: Path, save_plain: Save
) -> None:
    odd = [b"line\nend.png", b"caf\xe9.png"]
    for name in odd:
        save_plain(tmp_path / "odd" / "x.png").rename(
            os.fsdecode(os.fsencode(tmp_path / "odd") + b"/" + name)
        )
    answer = call(run_dir, "-", "--format", "json", stdin=b"\0".join(odd) + b"\0", cwd=tmp_path / "odd")
    assert answer.returncode == 0, answer.stderr
    assert [row["path"] for row in json.loads(answer.stdout)] == ["line\nend.png", r"caf\xe9.png"]


def test_explain_takes_addresses_and_patterns(
    classifold: Run, run_dir: Path, photos: Path, site: str, tmp_path: Path
) -> None:
    given = [f"{site}/a.png", f"{photos}/b.*"]
    answer = classifold("predict", run_dir, *given, "--explain", tmp_path / "why")
    assert answer.code == 0, answer.err
    shown = json.loads((tmp_path / "why" / "explain.json").read_text())
    assert [one["path"] for one in shown["pictures"]] == [f"{site}/a.png", str(photos / "b.png")]


def test_ctrl_c_during_a_slow_download_ends_at_once(run_dir: Path) -> None:
    import signal
    import socket
    import time

    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/a.png"
        command = [sys.executable, "-m", "classifold", "predict", str(run_dir), *[address] * 40]
        with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            silent.settimeout(30)
            connection, _ = silent.accept()
            with connection:
                time.sleep(0.3)
                process.send_signal(signal.SIGINT)
                begun = time.monotonic()
                _, err = process.communicate(timeout=30)
        assert time.monotonic() - begun < 3
        assert process.returncode in (130, -signal.SIGINT)
        assert b"interrupted" in err


def test_the_packages_for_the_web_s3_and_videos_are_loaded_only_where_something_needs_them(
    run_dir: Path, photos: Path, run_python: Run
) -> None:
    code = """if True:
        import sys
        from pathlib import Path
        from classifold.predict.predictor import load_predictor
        predictor = load_predictor(Path(sys.argv[1]))
        assert len(list(predictor.predict_paths([sys.argv[2]]))) == 4
        print(sorted({"urllib3", "boto3", "av"} & set(sys.modules)))
    """
    assert run_python("-c", code, run_dir, photos).out == "[]\n"
