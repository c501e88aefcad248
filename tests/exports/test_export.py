"""`classifold export`: every format is written whole, run beside model.onnx, and kept or refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from made_exports import Exports, as_options, export_in_process
from made_runs import SIZE

pytestmark = pytest.mark.slow
EXACT = {"litert", "tfjs", "triton"}
WHOLE = {"onnx-bytes", "savedmodel-bytes", "litert-int8", "openvino-int8", "tfjs", "int8", "triton"}
WHOLE |= {"litert", "openvino-half"}


def test_every_format_is_kept_and_says_how_good_it_is(exports: Exports) -> None:
    assert set(exports.answer) == WHOLE
    assert [one["refusal"] for one in exports.answer.values()] == [None] * len(WHOLE)
    assert {one.name for one in exports.folder.iterdir()} == WHOLE
    for name, one in exports.answer.items():
        record = json.loads((exports.folder / name / "export.json").read_text())
        figures = record["figures"]
        assert figures == one["figures"]
        assert (record["checked"], record["pictures_of_the_run"], figures["num_pictures"]) == (True, True, 15)
        assert figures["agreement"] >= 0.8
        assert figures["bytes"] > 0
        assert figures["rate"]["export"] > 0
        assert (exports.folder / name / record["model"]).exists()


@pytest.mark.parametrize("name", sorted(EXACT))
def test_a_format_in_single_precision_gives_the_same_numbers(name: str, exports: Exports) -> None:
    figures = exports.answer[name]["figures"]
    assert figures["largest_probability_difference"] < 1e-4
    assert figures["largest_distance_difference"] < 1e-3
    assert (figures["agreement"], figures["unknown_changed"]) == (1, 0)


@pytest.mark.parametrize("name", sorted(WHOLE))
def test_the_rule_for_unknown_pictures_travels_with_every_format(name: str, exports: Exports) -> None:
    card = json.loads((exports.folder / name / "classes.json").read_text())
    own = json.loads((exports.run_dir / "classes.json").read_text())
    assert card["answering"] == own["answering"]
    assert (card["class_names"], card["distance"]) == (own["class_names"], "distance")
    assert exports.answer[name]["figures"]["largest_distance_difference"] is not None


def test_the_run_folder_stays_as_it_was(exports: Exports, finished: Any) -> None:
    def read(folder: Path) -> dict[str, bytes]:
        return {str(one.relative_to(folder)): one.read_bytes() for one in folder.rglob("*") if one.is_file()}

    assert read(exports.run_dir) == read(finished.run_dir)


def test_a_model_in_8_bits_predicts_like_any_other(exports: Exports, sets_dir: Path) -> None:
    from classifold.predict.predictor import load_predictor

    small, whole = load_predictor(exports.folder / "int8"), load_predictor(exports.run_dir)
    assert small.class_names == whole.class_names
    picture = next((sets_dir / "evaluation").rglob("*.png"))
    given, expected = small.predict_given(picture), whole.predict_given(picture)
    assert given.distance is not None
    assert expected.distance is not None
    assert abs(given.distance - expected.distance) < 0.5
    assert np.abs(given.probabilities - expected.probabilities).max() < 0.3


def run_elsewhere(script: str, *arguments: object) -> Any:
    """Run a script that knows nothing of classifold, and return what it prints as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=300,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def sample(exports: Exports, sets_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The pixels of a picture in a file, and what model.onnx says of them."""
    from classifold.predict.predictor import load_predictor

    predictor = load_predictor(exports.run_dir)
    pixels = predictor.read_picture(next((sets_dir / "evaluation").rglob("*.png")))
    path = tmp_path_factory.mktemp("sample") / "pixels.npy"
    np.save(path, pixels[None].astype(np.float32))
    outputs = predictor.run_pixels(pixels[None])
    return path, outputs.probabilities[0], outputs.distances[0]


def test_litert_runs_in_a_program_of_its_own_and_holds_its_classes(exports: Exports, sample: Any) -> None:
    path, probabilities, distance = sample
    script = (
        "import json, sys, zipfile, numpy as np\n"
        "from ai_edge_litert.interpreter import Interpreter\n"
        "serve = Interpreter(model_path=sys.argv[1]).get_signature_runner()\n"
        "found = serve(pixels=np.load(sys.argv[2]))\n"
        "archive = zipfile.ZipFile(sys.argv[1])\n"
        "labels = archive.read('labels.txt').decode().splitlines()\n"
        "card = json.loads(archive.read('classes.json'))\n"
        "given = [found[name].tolist() for name in ('probabilities', 'distance')]\n"
        "print(json.dumps([*given, labels, card['run']]))"
    )
    given = run_elsewhere(script, exports.folder / "litert" / "model.tflite", path)
    assert np.abs(np.array(given[0][0]) - probabilities).max() < 1e-4
    assert abs(given[1][0] - distance) < 1e-3
    assert given[2] == ["blue", "green", "red stripes"]
    assert given[3].startswith("tiny-")


def test_litert_in_8_bits_is_smaller_and_computes_in_8_bits(exports: Exports) -> None:
    from ai_edge_litert.interpreter import Interpreter

    path = exports.folder / "litert-int8" / "model.tflite"
    kinds = {}
    for tensor in Interpreter(model_path=str(path)).get_tensor_details():
        kinds.setdefault(tensor["dtype"], []).append(tensor["name"])
    assert any("conv" in name for name in kinds[np.int8])
    assert any("classifold_distance" in name for name in kinds[np.float32])
    assert not any("classifold_distance" in name for name in kinds[np.int8] if "Const" not in name)


def test_openvino_runs_in_a_program_of_its_own_and_holds_its_card(exports: Exports, sample: Any) -> None:
    path, probabilities, _ = sample
    script = (
        "import json, sys; sys.modules['openvino_telemetry'] = None\n"
        "import numpy as np, openvino\n"
        "model = openvino.Core().read_model(sys.argv[1])\n"
        "run = openvino.Core().compile_model(model, 'CPU')\n"
        "found = run({'pixels': np.load(sys.argv[2])})\n"
        "card = json.loads(model.get_rt_info(['model_info', 'classifold']).value)\n"
        "print(json.dumps([found['probabilities'].tolist(), found['distance'].shape, card['class_names']]))"
    )
    given = run_elsewhere(script, exports.folder / "openvino-half" / "model.xml", path)
    assert np.abs(np.array(given[0][0]) - probabilities).max() < 0.05
    assert given[1:] == [[1], ["blue", "green", "red stripes"]]


def test_openvino_is_imported_without_what_reports_its_use() -> None:
    script = (
        "import sys\n"
        "from classifold.exports.openvino_files import import_openvino\n"
        "import_openvino()\n"
        "print('null' if sys.modules['openvino_telemetry'] is None else 'true')"
    )
    assert run_elsewhere(script) is None


def test_a_savedmodel_takes_a_batch_of_files_as_they_are(
    exports: Exports, sets_dir: Path, keras: Any
) -> None:
    import tensorflow as tf

    from classifold.predict.predictor import load_predictor

    predictor = load_predictor(exports.run_dir)
    files = sorted((sets_dir / "evaluation").rglob("*.png"))[:4]
    folder = exports.folder / "savedmodel-bytes" / "saved_model"
    serve = tf.saved_model.load(str(folder)).signatures["serving_default"]
    given = serve(image=tf.constant([one.read_bytes() for one in files]))
    expected = predictor.run_pixels(np.stack([predictor.read_picture(one) for one in files]))
    assert np.abs(given["probabilities"].numpy() - expected.probabilities).max() < 0.02
    assert expected.distances is not None
    assert np.abs(given["distance"].numpy() - expected.distances).max() < 0.05
    assert json.loads((folder / "assets" / "classifold.json").read_text())["image_size"] == SIZE


def black_sets(sets_dir: Path, folder: Path) -> Path:
    """The same sets, whose training pictures are all black."""
    shutil.copytree(sets_dir, folder)
    for path in (folder / "training").rglob("*.png"):
        Image.new("RGB", (40, 48)).save(path)
    return folder


@pytest.fixture
def broken(copied_run: Path, sets_dir: Path, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """An export in 8 bits that was calibrated with black pictures, so that all values are cut off."""
    earlier = copied_run.with_name("run-exports") / "int8"
    earlier.mkdir(parents=True)
    (earlier / "export.json").write_text("of before")
    return export_in_process(copied_run, "--to", "int8", "--data", black_sets(sets_dir, tmp_path / "black"))


def test_a_broken_quantisation_is_refused_and_its_figures_stay(
    broken: subprocess.CompletedProcess[str], copied_run: Path
) -> None:
    assert broken.returncode == 1, broken.stderr
    (one,) = json.loads(broken.stdout)["exports"]
    folder = copied_run.with_name("run-exports")
    assert one["folder"] is None
    assert "it loses" in one["refusal"] or "unknown" in one["refusal"]
    assert {path.name for path in folder.iterdir()} == {"int8", "int8.refused.json"}
    record = json.loads((folder / "int8.refused.json").read_text())
    assert (record["refusal"], record["pictures_of_the_run"]) == (one["refusal"], False)
    assert record["figures"]["num_pictures"] == 15
    # An earlier export is better than a refused one.
    assert [path.name for path in (folder / "int8").iterdir()] == ["export.json"]


def test_without_pictures_an_export_is_made_only_on_demand(
    copied_run: Path, classifold: Callable[..., Any]
) -> None:
    (copied_run / "environment.json").unlink()
    refused = classifold("export", copied_run, "--to", "triton")
    assert refused.code == 1
    assert "could not be checked" in refused.err
    assert not copied_run.with_name("run-exports").exists()
    given = classifold("export", copied_run, "--to", "triton", "--unchecked")
    assert given.code == 0
    assert "not checked" in given.out
    record = json.loads((copied_run.with_name("run-exports") / "triton" / "export.json").read_text())
    assert (record["checked"], record["figures"]) == (False, None)


def test_the_pictures_of_another_run_are_not_taken_for_this_one_s(
    copied_run: Path, classifold: Callable[..., Any]
) -> None:
    path = copied_run / "environment.json"
    record = json.loads(path.read_text())
    record["data"]["fingerprint"] = "0" * 64
    path.write_text(json.dumps(record))
    assert "could not be checked" in classifold("export", copied_run, "--to", "triton").err


def test_evaluation_pictures_alone_are_enough_for_a_format_without_calibration(
    copied_run: Path, sets_dir: Path, classifold: Callable[..., Any]
) -> None:
    pictures = sets_dir / "evaluation"
    given = classifold("export", copied_run, "--to", "triton", "--data", pictures, "--json")
    assert given.code == 0, given.err
    assert json.loads(given.out)["exports"][0]["figures"]["num_pictures"] == 15
    refused = classifold("export", copied_run, "--to", "int8", "--data", pictures)
    assert (refused.code, "calibrated with training pictures" in refused.err) == (1, True)


@pytest.mark.parametrize("inner", ["", "model.onnx"])
def test_the_exports_of_a_link_lie_beside_the_link_under_its_name(
    inner: str, copied_run: Path, tmp_path: Path, classifold: Callable[..., Any]
) -> None:
    link = tmp_path / "runs" / "current"
    link.parent.mkdir()
    link.symlink_to(copied_run)
    given = classifold("export", link / inner, "--to", "triton", "--unchecked", "--json")
    assert given.code == 0, given.err
    place = link.with_name("current-exports") / "triton"
    assert json.loads(given.out)["exports"][0]["folder"] == str(place)
    assert (place / "export.json").is_file()
    assert not copied_run.with_name("run-exports").exists()


def test_the_exports_of_an_archive_lie_beside_it(
    copied_run: Path, tmp_path: Path, classifold: Callable[..., Any]
) -> None:
    archive = tmp_path / "sent" / "flowers.v2.tar.gz"
    archive.parent.mkdir()
    with tarfile.open(archive, "w:gz") as file:
        file.add(copied_run / "model.onnx", "model.onnx")
    given = classifold("export", archive, "--to", "triton", "--unchecked")
    assert given.code == 0, given.err
    assert (archive.parent / "flowers.v2-exports" / "triton" / "export.json").is_file()


def test_every_export_is_announced_in_the_same_way(copied_run: Path, classifold: Callable[..., Any]) -> None:
    given = classifold("export", copied_run, "--to", "triton", "--to", "openvino", "--unchecked")
    told = [line for line in given.err.splitlines() if "exporting" in line]
    assert told == ["exporting openvino (1 of 2)", "exporting triton (2 of 2)"]


def test_a_page_without_the_library_of_tensorflow_js_is_said_to_lack_it_and_a_copied_one_stays(
    copied_run: Path, classifold: Callable[..., Any]
) -> None:
    given = classifold("export", copied_run, "--to", "tfjs", "--json")
    assert given.code == 0, given.err
    assert "note: the page of tfjs needs tf.min.js beside it, which is not there" in given.err
    (one,) = json.loads(given.out)["exports"]
    assert "--tfjs-library" in one["notes"][0]
    library = Path(one["folder"]) / "tf.min.js"
    library.write_text("copied here by hand")
    given = classifold("export", copied_run, "--to", "tfjs", "--json")
    assert "tf.min.js" not in given.err
    assert json.loads(given.out)["exports"][0]["notes"] == []
    assert library.read_text() == "copied here by hand"


@pytest.mark.parametrize("name", ["onnx-bytes", "triton", "int8"])
def test_onnx_runtime_warns_of_nothing_when_it_loads_an_export(name: str, exports: Exports) -> None:
    record = json.loads((exports.folder / name / "export.json").read_text())
    script = (
        "import sys, onnxruntime, onnxruntime_extensions\n"
        "options = onnxruntime.SessionOptions()\n"
        "options.log_severity_level = 2\n"
        "options.register_custom_ops_library(onnxruntime_extensions.get_library_path())\n"
        "onnxruntime.InferenceSession(sys.argv[1], options, providers=['CPUExecutionProvider'])"
    )
    command = [sys.executable, "-c", script, exports.folder / name / record["model"]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_is_in_the_way_is_never_replaced(copied_run: Path, classifold: Callable[..., Any]) -> None:
    place = copied_run.with_name("run-exports") / "triton"
    place.mkdir(parents=True)
    (place / "thesis.txt").write_text("years of work")
    given = classifold("export", copied_run, "--to", "triton")
    assert (given.code, "in the way" in given.err) == (1, True)
    assert [one.name for one in place.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("inner", ["", "exports", "checkpoint/exports"])
def test_exports_never_go_into_the_run_folder(
    inner: str, copied_run: Path, classifold: Callable[..., Any]
) -> None:
    before = sorted(copied_run.rglob("*"))
    given = classifold("export", copied_run, "--to", "triton", "--output", copied_run / inner)
    assert (given.code, "do not go into the run folder" in given.err) == (2, True)
    assert sorted(copied_run.rglob("*")) == before


def test_a_damaged_model_is_said_to_be_so(copied_run: Path, classifold: Callable[..., Any]) -> None:
    (copied_run / "model.keras").write_bytes(b"PK damaged")
    given = classifold("export", copied_run, "--to", "litert")
    assert given.code == 1
    assert "Keras cannot load it" in given.err
    assert "Traceback" not in given.err
    assert not copied_run.with_name("run-exports").exists()


def test_a_model_alone_gives_the_formats_that_are_made_from_it(
    copied_run: Path, tmp_path: Path, classifold: Callable[..., Any]
) -> None:
    alone = tmp_path / "alone" / "model.onnx"
    alone.parent.mkdir()
    shutil.copy(copied_run / "model.onnx", alone)
    refused = classifold("export", alone, "--to", "litert", "--to", "triton", "--unchecked")
    assert (refused.code, "made from model.keras" in refused.err) == (1, True)
    given = classifold("export", alone, "--to", "triton", "--unchecked")
    assert given.code == 0, given.err
    assert (tmp_path / "alone-exports" / "triton" / "export.json").is_file()


def test_ctrl_c_leaves_nothing_behind(copied_run: Path) -> None:
    folder = copied_run.with_name("run-exports")
    command = [sys.executable, "-m", "classifold", "export", str(copied_run), *as_options(["litert"])]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    end = time.monotonic() + 120
    while not (folder.is_dir() and list(folder.glob(".litert.partial-*/job.json"))):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert not folder.exists()


def test_a_killed_export_is_mended_by_the_next(copied_run: Path, classifold: Callable[..., Any]) -> None:
    folder = copied_run.with_name("run-exports")
    command = [sys.executable, "-m", "classifold", "export", str(copied_run), "--to", "triton"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    end = time.monotonic() + 120
    while not (folder.is_dir() and list(folder.glob(".triton.partial-*/job.json"))):
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert list(folder.glob(".triton.partial-*"))
    given = classifold("export", copied_run, "--to", "triton", "--unchecked")
    assert given.code == 0, given.err
    assert [one.name for one in folder.iterdir()] == ["triton"]
