"""POST /explain: the heat map and the nearest training pictures of one answer, within bounds."""

from __future__ import annotations

import asyncio
import base64
import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from starlette.applications import Starlette

from classifold.errors import DataError
from classifold.serve.app import build_app
from classifold.serve.explain import MOST_WAITING
from classifold.serve.options import ServeOptions
from made_spots import make_spot_run, paint_spot, write_spots


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_spot_run(tmp_path_factory.mktemp("spots") / "run", with_distance=True)


@pytest.fixture(scope="module")
def training_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_spots(tmp_path_factory.mktemp("training"))


@pytest.fixture
def build() -> Any:
    """Return a function that builds the application; its threads end with the test."""
    made: list[Starlette] = []

    def build(run: Path, **options: Any) -> Starlette:
        made.append(build_app(ServeOptions(run, log_format="none", **options)))
        return made[-1]

    yield build
    for app in made:
        app.state.explanations.close()
        app.state.service.close()


def encode(pixels: Any) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def decode(data_url: str) -> Any:
    kind, _, text = data_url.partition(";base64,")
    assert kind == "data:image/jpeg"
    with Image.open(io.BytesIO(base64.b64decode(text, validate=True))) as picture:
        return np.asarray(picture.convert("L"), np.float32)


def ask_all(app: Starlette, *requests: dict[str, Any]) -> list[httpx.Response]:
    """Send requests at the same time."""

    async def send() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=60) as client:
            return await asyncio.gather(
                *(client.post(one.pop("url", "/explain"), **one) for one in map(dict, requests))
            )

    return asyncio.run(send())


def ask(app: Starlette, **request: Any) -> httpx.Response:
    return ask_all(app, request)[0]


BLUE = encode(paint_spot("blue"))


def test_the_answer_is_that_of_predict_and_the_heat_map_is_bright_where_the_spot_is(
    build: Callable[..., Starlette], run_dir: Path
) -> None:
    app = build(run_dir)
    answer = ask(app, content=BLUE).json()
    assert answer["predictions"] == ask(app, url="/predict", content=BLUE).json()["predictions"]
    explanation = answer["explanation"]
    assert explanation["class_name"] == "blue"
    assert explanation["is_faithful"] is True
    assert explanation["note"].startswith("The heat map is better than all 19 random maps: deletion 0.")
    overlay, picture = decode(explanation["overlay"]), decode(explanation["picture"])
    assert overlay.shape == picture.shape == (224, 224)
    assert overlay[140, 168] > 2 * overlay[30, 30]  # the spot, and a corner
    assert picture[140, 168] < picture[30, 30]  # blue is darker than the grey around it


def test_a_picture_without_a_faithful_heat_map_is_shown_without_one(
    build: Callable[..., Starlette], run_dir: Path
) -> None:
    plain = encode(np.full((40, 60, 3), 127, np.uint8))
    explanation = ask(build(run_dir), content=plain).json()["explanation"]
    assert (explanation["is_faithful"], explanation["overlay"]) == (False, None)
    assert explanation["note"].startswith("No heat map is shown")
    assert decode(explanation["picture"]).shape == (149, 224)


def test_training_pictures_are_named_and_shown_only_with_the_folder_that_the_owner_gave(
    build: Callable[..., Starlette], run_dir: Path, training_dir: Path
) -> None:
    named = ask(build(run_dir), content=BLUE).json()["explanation"]["neighbours"]
    assert [one["thumbnail"] for one in named] == [None] * 5
    assert named[0]["class_name"] == "blue"
    assert named[0]["name"].startswith("blue/")
    assert [one["distance"] for one in named] == sorted(one["distance"] for one in named)
    app = build(run_dir, data=training_dir)
    shown = ask(app, url="/explain?neighbours=2", content=BLUE).json()["explanation"]["neighbours"]
    assert [{**one, "thumbnail": None} for one in shown] == named[:2]
    number = int(Path(shown[0]["name"]).stem)
    spot = decode(shown[0]["thumbnail"])
    assert spot.shape == (32, 32)
    assert spot[18, 6 + 8 * number] < spot[2, 2]


def test_a_training_picture_that_is_gone_or_damaged_is_named_without_its_picture(
    build: Callable[..., Starlette], run_dir: Path, training_dir: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "training"
    shutil.copytree(training_dir, folder)
    (folder / "blue" / "0.png").unlink()
    (folder / "blue" / "1.png").write_bytes(b"torn")
    found = ask(build(run_dir, data=folder), content=BLUE).json()["explanation"]["neighbours"]
    assert {one["name"]: one["thumbnail"] is not None for one in found[:2]} == {
        "blue/0.png": False,
        "blue/1.png": False,
    }
    assert any(one["thumbnail"] for one in found[2:])


def test_a_model_without_a_reference_set_names_no_training_pictures(
    build: Callable[..., Starlette], tmp_path: Path, training_dir: Path
) -> None:
    app = build(make_spot_run(tmp_path / "run", with_reference=False), data=training_dir)
    explanation = ask(app, content=BLUE).json()["explanation"]
    assert explanation["neighbours"] == []
    assert explanation["overlay"] is not None


def test_a_damaged_reference_set_is_no_fault_of_the_request_and_predictions_go_on(
    build: Callable[..., Starlette], run_dir: Path, tmp_path: Path
) -> None:
    shutil.copytree(run_dir, tmp_path / "run")
    (tmp_path / "run" / "reference.npz").write_bytes(b"PK")
    app = build(tmp_path / "run")
    answer = ask(app, content=BLUE)
    assert answer.status_code == 503
    assert "cannot be explained" in answer.json()["error"]
    assert str(tmp_path) not in answer.text
    assert ask(app, url="/predict", content=BLUE).status_code == 200


@pytest.mark.parametrize(
    ("url", "request_of", "status", "said"),
    [
        ("/explain", {"content": b"no picture"}, 422, "the file holds no picture"),
        ("/explain", {"files": [("a", BLUE), ("b", BLUE)]}, 400, "expected one picture, got 2"),
        ("/explain", {"content": b""}, 400, "holds no picture"),
        ("/explain?neighbours=0", {"content": BLUE}, 400, "expected a whole number from 1"),
        ("/explain?neighbours=21", {"content": BLUE}, 400, "at most 20"),
        ("/explain?top_k=many", {"content": BLUE}, 400, "top_k"),
    ],
)
def test_what_cannot_be_explained_is_refused_with_the_reason(
    build: Callable[..., Starlette],
    run_dir: Path,
    url: str,
    request_of: dict[str, Any],
    status: int,
    said: str,
) -> None:
    answer = ask(build(run_dir), url=url, **request_of)
    assert answer.status_code == status
    assert said in answer.json()["error"]


def test_a_form_with_one_file_is_explained_under_its_name(
    build: Callable[..., Starlette], run_dir: Path
) -> None:
    answer = ask(build(run_dir), files={"picture": ("a blue one.png", BLUE)}).json()
    assert answer["predictions"][0]["name"] == "a blue one.png"


def test_more_explanations_than_there_is_room_for_are_refused_and_predictions_are_not_held_up(
    build: Callable[..., Starlette], run_dir: Path
) -> None:
    app = build(run_dir)
    many = 2 * MOST_WAITING + 20
    answers = ask_all(app, *[{"content": BLUE}] * many, {"url": "/predict", "content": BLUE})
    statuses = [one.status_code for one in answers]
    assert statuses[-1] == 200
    assert set(statuses) == {200, 429}
    assert statuses.count(429) >= many - MOST_WAITING - 16
    refused = answers[statuses.index(429)]
    assert int(refused.headers["Retry-After"]) >= 1
    assert "the queue is full" in refused.json()["error"]
    # Afterwards there is room again.
    assert ask(app, content=BLUE).status_code == 200


def test_an_explanation_is_of_the_model_that_is_served_now(
    build: Callable[..., Starlette], run_dir: Path, tmp_path: Path
) -> None:
    shutil.copytree(run_dir, tmp_path / "run")
    app = build(tmp_path / "run")
    before = ask(app, content=BLUE).json()
    shutil.rmtree(tmp_path / "run")
    make_spot_run(tmp_path / "run", with_reference=False)
    app.state.service.models.reload()
    after = ask(app, content=BLUE).json()
    assert len(before["explanation"]["neighbours"]) == 5
    assert after["explanation"]["neighbours"] == []
    assert after["model"]["sha256"] != before["model"]["sha256"]


def test_a_folder_of_training_pictures_that_is_not_there_is_said_at_the_start(
    run_dir: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="no such folder"):
        build_app(ServeOptions(run_dir, data=tmp_path / "nowhere"))
