from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifold import names
from classifold.errors import Fault, SettingsError
from classifold.settings import rules as config_rules
from classifold.settings.config import RECIPES, Config, Group
from classifold.settings.loader import (
    build_config,
    load_config,
    override_config,
    parse_value,
    to_hyperparameters,
)
from classifold.settings.rules import find_problems
from classifold.settings.template import build_config_file
from classifold.settings.words import describe_field


def faults_of(path: Path | None = None, **values: Any) -> list[Fault]:
    with pytest.raises(SettingsError) as caught:
        load_config(path) if path else build_config(values)
    return list(caught.value.faults)


def only_fault(**values: Any) -> Fault:
    (fault,) = faults_of(**values)
    return fault


@pytest.fixture
def settings_file(tmp_path: Path) -> Path:
    return tmp_path / "config.py"


# The file


def test_the_file_that_a_project_starts_with_gives_the_defaults(settings_file: Path) -> None:
    settings_file.write_text(build_config_file(), encoding="utf-8")
    assert load_config(settings_file) == Config()


def test_the_file_that_a_project_starts_with_has_every_setting_once_with_a_remark() -> None:
    lines = build_config_file().splitlines()
    for name, field in Config.model_fields.items():
        assert sum(line.removeprefix("# ").startswith(f"{name} = ") for line in lines) == 1
        assert field.description
        assert any(f"# {field.description}" in line for line in lines)
    for title in [group.value for group in Group]:
        assert f"# {title}" in lines


def test_what_is_left_out_keeps_its_default(settings_file: Path) -> None:
    settings_file.write_text("EPOCHS = 3\n")
    assert load_config(settings_file) == build_config({"EPOCHS": 3})


def test_later_layers_go_before_earlier_ones(settings_file: Path) -> None:
    settings_file.write_text("EPOCHS = 3\nBATCH_SIZE = 3\nIMAGE_SIZE = 33\n")
    hyperparameters = {"BATCH_SIZE": "4", "IMAGE_SIZE": "44"}
    config = load_config(settings_file, hyperparameters=hyperparameters, overrides=["IMAGE_SIZE=55"])
    assert (config.EPOCHS, config.BATCH_SIZE, config.IMAGE_SIZE) == (3, 4, 55)


def test_the_last_of_two_equal_overrides_counts() -> None:
    assert override_config(["EPOCHS=1", "EPOCHS=2"]).EPOCHS == 2


def test_the_file_may_compute_import_and_keep_constants_of_its_own(settings_file: Path) -> None:
    settings_file.write_text(
        "import os\nfrom pathlib import Path\nfrom typing import TYPE_CHECKING\n_BASE = Path('data')\n"
        "lower = 1\nclass HELPER: ...\nDATA_LOCAL_DIR = _BASE / 'dogs'\nEPOCHS = 2 * 4\nHEAD_LAYERS = [64]\n"
    )
    config = load_config(settings_file)
    assert (config.DATA_LOCAL_DIR, config.EPOCHS, config.HEAD_LAYERS) == ("data/dogs", 8, (64,))


def test_what_the_file_prints_does_not_reach_the_answer(
    settings_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings_file.write_text("print('hello')\n")
    load_config(settings_file)
    assert capsys.readouterr() == ("", "hello\n")


def test_a_byte_order_mark_as_windows_writes_it_is_no_mistake(settings_file: Path) -> None:
    settings_file.write_bytes(b"\xef\xbb\xbfEPOCHS = 3\r\n")
    assert load_config(settings_file).EPOCHS == 3


def test_a_missing_file_is_named_with_the_way_to_name_another(settings_file: Path) -> None:
    (fault,) = faults_of(settings_file)
    assert fault.where == str(settings_file)
    assert fault.what == "the settings file does not exist"
    assert "--config" in fault.hint


def test_a_folder_in_the_files_place_is_told(tmp_path: Path) -> None:
    (fault,) = faults_of(tmp_path)
    assert fault.what == "the settings file cannot be read: Is a directory"


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("EPOCHS = 3\nBATCH_SIZE = = 4\n", ":2", "not valid Python: invalid syntax"),
        ("EPOCHS = (\n", ":1", "not valid Python: '(' was never closed"),
        ("EPOCHS = 3\nBATCH_SIZE = 1 / 0\n", ":2", "ZeroDivisionError: division by zero"),
        ("def f():\n    raise KeyError('x')\nEPOCHS = f()\n", ":2", "KeyError: 'x'"),
        ("import sys\nsys.exit(3)\n", ":2", "SystemExit: 3"),
        ("import no_such_module\n", ":1", "ModuleNotFoundError: No module named 'no_such_module'"),
    ],
)
def test_a_file_that_cannot_run_is_told_with_its_line(
    settings_file: Path, text: str, where: str, what: str
) -> None:
    settings_file.write_text(text)
    (fault,) = faults_of(settings_file)
    assert fault.where == f"{settings_file}{where}"
    assert fault.what == what
    assert fault.hint.startswith("correct this line")


@pytest.mark.parametrize(
    "content", [b"EPOCHS = '\xff'\n", b"EPOCHS = 3\0\n", b"(" * 5000, b"-" * 100_000 + b"1"]
)
def test_a_file_that_is_no_python_text_is_refused_without_a_traceback(
    settings_file: Path, content: bytes
) -> None:
    settings_file.write_bytes(content)
    (fault,) = faults_of(settings_file)
    assert fault.where.startswith(str(settings_file))


# Faults, all at once


def test_all_faults_of_all_layers_are_told_at_once(settings_file: Path) -> None:
    settings_file.write_text("BATCH_SISE = 3\nDROPOUT = 'much'\nALGORITHM_NAME = 'my_net'\n")
    with pytest.raises(SettingsError) as caught:
        load_config(settings_file, hyperparameters={"IMAGE_SIZE": "2"}, overrides=["EPOCH=3", "nonsense"])
    wheres = [fault.where for fault in caught.value.faults]
    assert sorted(wheres) == sorted(
        [
            "--set",
            f"setting BATCH_SISE ({settings_file})",
            "setting EPOCH (--set)",
            f"setting DROPOUT ({settings_file})",
            "setting IMAGE_SIZE (hyperparameters)",
            "setting ALGORITHM_NAME",
        ]
    )


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("BATCH_SISE", "BATCH_SIZE"),
        ("EPOCH", "EPOCHS"),
        ("NUM_EPOCHS", "EPOCHS"),
        ("LR", "LEARNING_RATE"),
        ("SEED", "RANDOM_SEED"),
        ("BASE_MODEL", "BACKBONE"),
        ("WEIGHTS", "BACKBONE_WEIGHTS"),
        ("batch-size", "BATCH_SIZE"),
    ],
)
def test_a_misspelt_setting_is_named_and_the_right_one_offered(name: str, meant: str) -> None:
    fault = only_fault(**{name: 1})
    assert fault.what == "this setting does not exist"
    assert fault.hint == f"did you mean {meant}?"


def test_a_name_like_no_setting_is_sent_to_the_list() -> None:
    assert only_fault(XYZ=1).hint == "docs/settings.md lists every setting"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("EPOCH", "did you mean EPOCHS? A constant of your own begins with _"),
        ("XYZ", "docs/settings.md lists every setting; a constant of your own begins with _"),
    ],
)
def test_the_settings_file_may_have_constants_of_the_user_s(
    settings_file: Path, name: str, hint: str
) -> None:
    settings_file.write_text(f"{name} = 1\n")
    with pytest.raises(SettingsError) as caught:
        load_config(settings_file)
    assert [fault.hint for fault in caught.value.faults] == [hint]


def test_a_setting_in_small_letters_in_the_file_is_not_passed_over(settings_file: Path) -> None:
    settings_file.write_text("Batch_Size = 16\n")
    (fault,) = faults_of(settings_file)
    assert fault.hint == "did you mean BATCH_SIZE?"


@pytest.mark.parametrize(
    ("name", "value", "what", "got"),
    [
        ("BATCH_SIZE", "x", "expected a whole number from 1 to 4096", "'x'"),
        ("BATCH_SIZE", True, "expected a whole number from 1 to 4096", "True"),
        ("EPOCHS", 2.5, "expected a whole number of at least 0", "2.5"),
        ("EPOCHS", -1, "expected a whole number of at least 0", "-1"),
        ("DROPOUT", 1.0, "expected a number from 0 to below 1", "1.0"),
        ("LEARNING_RATE", 0, "expected a number above 0 and up to 10", "0"),
        ("LEARNING_RATE", float("nan"), "expected a number above 0 and up to 10", "nan"),
        ("HORIZONTAL_FLIP", 1, "expected True or False", "1"),
        ("OPTIMIZER", "adagrad", 'expected "adam", "adamw" or "sgd"', "'adagrad'"),
        ("NUM_WORKERS", 0, 'expected a whole number of at least 1 or "auto"', "0"),
        ("DATA_LOCAL_DIR", "", "expected text that is not empty", "''"),
        ("DATA_LOCAL_DIR", "a\0b", "expected text that is not empty", "'a\\x00b'"),
        ("DATA_LOCAL_DIR", None, "expected text that is not empty", "None"),
        (
            "CLASS_WEIGHTS",
            {"a": "b"},
            'expected "none" or "balanced" or a dict such as {"daisy": 1.5',
            "{'a': 'b'}",
        ),
        ("TAGS", ["a"], 'expected a dict such as {"Project": "flowers"}', "['a']"),
    ],
)
def test_a_wrong_value_says_what_was_expected_and_got(name: str, value: object, what: str, got: str) -> None:
    fault = only_fault(**{name: value})
    assert fault.where == f"setting {name} (settings)"
    assert fault.what.startswith(what)
    assert fault.got == got


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("PERCENTAGE_VAL", 15, "write it as a share: PERCENTAGE_VAL = 0.15"),
        ("HEAD_LAYERS", 128, "write it as HEAD_LAYERS = (128,)"),
        ("OPTIMIZER", "Adam", 'write OPTIMIZER = "adam"'),
        ("LEARNING_RATE_DECAY", "cosinus", 'write LEARNING_RATE_DECAY = "cosine"'),
        ("CLASS_WEIGHTS", "balance", 'write CLASS_WEIGHTS = "balanced"'),
    ],
)
def test_where_it_is_clear_what_was_meant_the_cure_is_written_out(
    name: str, value: object, hint: str
) -> None:
    assert only_fault(**{name: value}).hint == hint


def test_a_very_long_value_does_not_fill_the_screen() -> None:
    assert len(only_fault(EPOCHS="x" * 10_000).format()) < 300


# What AWS would refuse later


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALGORITHM_NAME", "a" * 44),
        ("ALGORITHM_NAME", "my_net"),
        ("ALGORITHM_NAME", "-net"),
        ("ALGORITHM_NAME", "net-"),
        ("ALGORITHM_NAME", ""),
        ("ALGORITHM_NAME", "näht"),
        ("PROJECT_NAME", "ab"),
        ("PROJECT_NAME", "a" * 57),
        ("PROJECT_NAME", "Flowers"),
        ("PROJECT_NAME", "my_flowers"),
        ("PROJECT_NAME", "flowers-"),
        ("PROJECT_NAME", "flow..ers"),
        ("PROJECT_NAME", "flow.-ers"),
        ("PROJECT_NAME", "xn--flowers"),
        ("PROJECT_NAME", "sthree-flowers"),
        ("PROJECT_NAME", "flowers\n"),
        ("DATA_NAME", "my flowers"),
        ("DATA_NAME", "a" * 65),
        ("PROJECT_REGION", "Ireland"),
        ("PROJECT_REGION", "eu-west-\u0661"),
        ("INSTANCE_TYPE", "g4dn.xlarge"),
        ("INSTANCE_TYPE", "ml.."),
        ("TAGS", {"aws:x": "y"}),
        ("TAGS", {"": "y"}),
        ("TAGS", {"a" * 129: "y"}),
        ("TAGS", {"a": "y" * 257}),
        ("TAGS", {"a": "<b>"}),
        ("TAGS", {f"tag {index}": "x" for index in range(50)}),
    ],
)
def test_a_name_that_aws_will_refuse_is_refused_now(name: str, value: object) -> None:
    fault = only_fault(**{name: value})
    assert fault.where == f"setting {name}"
    assert "expected" in fault.what
    assert fault.got


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALGORITHM_NAME", "a" * 43),
        ("ALGORITHM_NAME", "My--net9"),
        ("PROJECT_NAME", "a" * 56),
        ("PROJECT_NAME", "my-flowers.v2"),
        ("DATA_NAME", "my_flowers-2.0"),
        ("PROJECT_REGION", "us-gov-west-1"),
        ("INSTANCE_TYPE", "ml.p4d.24xlarge"),
        ("TAGS", {"Überblick 1": "a=b/c+d@e"}),
        ("TAGS", {f"tag {index}": "x" for index in range(48)}),
    ],
)
def test_a_name_that_aws_takes_is_taken(name: str, value: object) -> None:
    assert getattr(build_config({name: value}), name) == value


@pytest.mark.parametrize(
    ("name", "cure"),
    [
        ("MobileNetv2", "did you mean MobileNetV2?"),
        ("mobilenet_v2", "did you mean MobileNetV2?"),
        ("efficientnet-lite0", "did you mean EfficientNetLite0?"),
        ("ResNet5", "did you mean ResNet50?"),
        ("mine.py", 'BACKBONE = "mine.py:build"'),
        ("Q", "docs/settings.md lists the names"),
        ("\0", "docs/settings.md lists the names"),
        ("a" * 5000, "docs/settings.md lists the names"),
    ],
)
def test_a_name_that_no_backbone_has_is_refused_with_the_nearest_one(name: str, cure: str) -> None:
    fault = only_fault(BACKBONE=name)
    assert fault.where == "setting BACKBONE"
    assert fault.what == "there is no such backbone"
    assert cure in fault.hint


@pytest.mark.parametrize(
    "name",
    [
        "VGG16",
        "resnet_50_imagenet",
        "vit_base_patch16_224_imagenet",
        "mine.py:build",
        "../a/mine.py:build",
        "a/b",
    ],
)
def test_presets_files_and_folders_may_be_backbones(name: str) -> None:
    assert name == build_config({"BACKBONE": name}).BACKBONE


def test_a_folder_may_be_a_backbone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Preset").mkdir()
    monkeypatch.chdir(tmp_path)
    assert build_config({"BACKBONE": "Preset"}).BACKBONE == "Preset"


# What does not fit together


def test_a_name_too_long_for_account_and_region_in_a_bucket_s_is_refused() -> None:
    fault = only_fault(PROJECT_NAME="a" * 31, BUCKET_NAMESPACE="account-regional")
    assert fault.where == "setting PROJECT_NAME"
    assert "expected at most 30 characters" in fault.what
    config = build_config({"PROJECT_NAME": "a" * 30, "BUCKET_NAMESPACE": "account-regional"})
    name = names.regional_bucket(
        names.output_bucket(config.PROJECT_NAME), account="1" * 12, region="eu-west-1"
    )
    assert len(name) == names.BUCKET_NAME_LIMIT


def test_a_boundary_is_the_arn_of_a_policy_and_not_for_a_role_of_one_s_own() -> None:
    fault = only_fault(ROLE_BOUNDARY="petals-boundary")
    assert fault.where == "setting ROLE_BOUNDARY"
    assert "expected the ARN of a policy" in fault.what
    arn = "arn:aws:iam::123456789012:policy/teams/petals-boundary"
    assert arn == build_config({"ROLE_BOUNDARY": arn}).ROLE_BOUNDARY
    assert "expected no boundary with ROLE" in only_fault(ROLE_BOUNDARY=arn, ROLE="mine").what


def test_pictures_and_another_s_shards_have_no_place_in_common() -> None:
    assert "expected no .shards" in only_fault(DATA_NAME="flowers.shards").what


def test_a_dot_counts_twice_in_the_name_of_an_account_regional_bucket() -> None:
    fault = only_fault(PROJECT_NAME="a" * 15 + "." + "b" * 14, BUCKET_NAMESPACE="account-regional")
    assert "expected at most 29 characters (a '.' counts as two)" in fault.what
    assert "DATA_BUCKET and OUTPUT_BUCKET" in fault.hint
    fault = only_fault(PROJECT_NAME="xn.roses", BUCKET_NAMESPACE="account-regional")
    assert "S3 refuses such names" in fault.what


def test_shares_that_leave_nothing_to_train_on_are_refused() -> None:
    fault = only_fault(PERCENTAGE_VAL=0.5, PERCENTAGE_EVAL=0.5)
    assert fault.got == "0.5 + 0.5"


def test_no_epochs_at_all_are_refused() -> None:
    assert only_fault(HEAD_EPOCHS=0, EPOCHS=0).where == "setting HEAD_EPOCHS"


def test_a_pattern_that_is_no_regular_expression_is_refused() -> None:
    fault = only_fault(SPLIT_GROUP_PATTERN="(patient")
    assert fault.what == "not a regular expression: missing ), unterminated subpattern at position 0"


@pytest.mark.parametrize("weight", [0.0, -1.0])
def test_class_weights_that_are_not_above_zero_are_refused(weight: float) -> None:
    assert only_fault(CLASS_WEIGHTS={"a": weight, "b": 1.0}).got == repr({"a": weight})


@pytest.mark.parametrize("weight", [float("inf"), float("nan")])
def test_class_weights_that_are_no_finite_numbers_are_refused(weight: float) -> None:
    assert only_fault(CLASS_WEIGHTS={"a": weight}).where == "setting CLASS_WEIGHTS (settings)"


def test_relations_are_still_checked_where_another_setting_is_of_a_wrong_type() -> None:
    faults = faults_of(EPOCHS="x", PERCENTAGE_VAL=0.6, PERCENTAGE_EVAL=0.6)
    assert [fault.where for fault in faults] == ["setting EPOCHS (settings)", "setting PERCENTAGE_EVAL"]


# The Config


def test_settings_cannot_be_changed_once_they_are_made() -> None:
    with pytest.raises(Exception, match="frozen"):
        Config().EPOCHS = 3  # type: ignore[misc]


def test_json_holds_every_setting_and_gives_the_same_config_back() -> None:
    config = build_config({"HEAD_LAYERS": (64, 32), "CLASS_WEIGHTS": {"a": 2.0}, "BACKBONE_WEIGHTS": None})
    values = json.loads(config.to_json())
    assert list(values) == list(Config.model_fields)
    assert build_config(values) == config


@pytest.mark.parametrize(
    ("data_dir", "split_dir"),
    [("data/flowers", "data/flowers-split"), ("data/flowers/", "data/flowers-split"), ("/a/b", "/a/b-split")],
)
def test_the_sets_go_beside_the_pictures_where_nothing_else_is_said(data_dir: str, split_dir: str) -> None:
    assert build_config({"DATA_LOCAL_DIR": data_dir}).split_dir == Path(split_dir)
    assert build_config({"DATA_LOCAL_DIR": data_dir, "SPLIT_LOCAL_DIR": "x"}).split_dir == Path("x")


def test_the_sets_of_the_current_folder_go_beside_it(project: Path) -> None:
    assert build_config({"DATA_LOCAL_DIR": "."}).split_dir == project.with_name("project-split")


def test_a_tilde_means_the_home_folder() -> None:
    config = build_config({"DATA_LOCAL_DIR": "~/dogs"})
    assert Path.home() / "dogs" == Path(config.DATA_LOCAL_DIR)


def test_every_setting_can_be_described_in_words() -> None:
    for field in Config.model_fields.values():
        assert describe_field(field)


def test_a_description_of_bounds_names_both() -> None:
    words = {name: describe_field(field) for name, field in Config.model_fields.items()}
    assert words["IMAGE_SIZE"] == "a whole number from 16 to 1024"
    assert words["RANDOM_SEED"] == "a whole number from 0 to below 4294967296"
    assert words["STEPS_PER_EPOCH"] == 'a whole number of at least 1 or "auto"'
    assert words["BACKBONE_WEIGHTS"] == "text or None"


# Values as strings


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("BATCH_SIZE", "32", 32),
        ("BATCH_SIZE", " 32 ", 32),
        ("MAX_PIXELS", "1_000", 1000),
        ("SAMPLE_BITS", "12", 12),
        ("SAMPLE_BITS", "auto", "auto"),
        ("LEARNING_RATE", "1e-3", 1e-3),
        ("HORIZONTAL_FLIP", "false", False),
        ("HORIZONTAL_FLIP", "True", True),
        ("HEAD_LAYERS", "[256, 64]", [256, 64]),
        ("HEAD_LAYERS", "(256, 64)", (256, 64)),
        ("HEAD_LAYERS", "256,64", (256, 64)),
        ("CLASS_WEIGHTS", '{"a": 2}', {"a": 2}),
        ("CLASS_WEIGHTS", "{'a': 2}", {"a": 2}),
        ("CLASS_WEIGHTS", "balanced", "balanced"),
        ("BACKBONE_WEIGHTS", "None", None),
        ("BACKBONE_WEIGHTS", "null", None),
        ("BACKBONE_WEIGHTS", "123", "123"),
        ("PROJECT_NAME", "123", "123"),
        ("PROJECT_NAME", "none", "none"),
        ("PROJECT_NAME", '"quoted"', "quoted"),
        ("SPLIT_GROUP_PATTERN", r"(\d+)_", r"(\d+)_"),
        ("BATCH_SIZE", "9" * 5000, "9" * 5000),
        ("BATCH_SIZE", "[" * 100_000, "[" * 100_000),
        ("BATCH_SIZE", "3\0", "3\0"),
    ],
)
def test_a_string_is_read_as_the_settings_type_wants_it(name: str, text: str, value: object) -> None:
    assert parse_value(name, text) == value


TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)


def refusal_of(load: Callable[[], object]) -> list[str]:
    """Return the lines of a refusal; none where there is none. Anything but a SettingsError is a failure."""
    try:
        load()
    except SettingsError as error:
        return str(error).splitlines()
    return []


def is_in_words(lines: list[str]) -> bool:
    return all(line.startswith(("error: ", "hint: ")) and line.isprintable() for line in lines)


@settings(max_examples=200, deadline=None)
@given(name=st.sampled_from([*Config.model_fields, "NO_SUCH"]), text=st.text(max_size=30))
def test_any_string_for_any_setting_is_taken_or_refused_in_words(name: str, text: str) -> None:
    assert is_in_words(refusal_of(lambda: override_config([f"{name}={text}"])))
    assert is_in_words(refusal_of(lambda: build_config({name: parse_value(name, text)})))


@settings(max_examples=100, deadline=None)
@given(text=st.text(max_size=30))
def test_any_word_after_set_is_taken_or_refused_in_words(text: str) -> None:
    assert is_in_words(refusal_of(lambda: override_config([text])))


@settings(max_examples=60, deadline=None)
@given(content=st.binary(max_size=60))
def test_any_bytes_as_a_settings_file_are_taken_or_refused_in_words(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any_config.py"
    path.write_bytes(content)
    assert is_in_words(refusal_of(lambda: load_config(path)))


SHARES = st.floats(0, 1, exclude_max=True)
NAMES = st.from_regex(r"[a-z0-9]{3,20}", fullmatch=True)
PATHS = TEXTS.filter(lambda text: text and "\0" not in text and not text.startswith("~"))
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "PROJECT_NAME": NAMES,
    "ALGORITHM_NAME": NAMES | st.sampled_from(["true", "null", "1e5"]),
    "TAGS": st.dictionaries(NAMES, NAMES, max_size=3),
    "DATA_LOCAL_DIR": PATHS,
    "SPLIT_LOCAL_DIR": PATHS,
    "RUNS_DIR": PATHS,
    "BACKBONE": TEXTS.map(lambda text: f"{text}/") | st.sampled_from(["VGG16", "resnet_50_imagenet"]),
    "BACKBONE_WEIGHTS": st.none() | PATHS | st.sampled_from(["null", "None", "true", "3", '"']),
    "MAX_PIXELS": st.integers(1),
    "HEAD_LAYERS": st.lists(st.integers(1, 4096), max_size=4).map(tuple),
    "DROPOUT": SHARES,
    "RANDOM_SEED": st.integers(0, 2**32 - 1),
    "NUM_WORKERS": st.integers(1) | st.just("auto"),
    "LEARNING_RATE": st.floats(0, 10, exclude_min=True),
    "CLASS_WEIGHTS": st.sampled_from(["none", "balanced"])
    | st.dictionaries(TEXTS, st.floats(0, exclude_min=True, allow_infinity=False), max_size=3),
    "HORIZONTAL_FLIP": st.booleans(),
    "OPTIMIZER": st.sampled_from(["adam", "adamw", "sgd"]),
}


@settings(max_examples=150, deadline=None)
@given(values=st.fixed_dictionaries({}, optional=VALUES))
def test_every_setting_goes_through_strings_and_comes_back_the_same(values: dict[str, Any]) -> None:
    config = build_config(values)
    hyperparameters = to_hyperparameters(config)
    assert set(hyperparameters) == set(Config.model_fields)
    assert all(isinstance(text, str) for text in hyperparameters.values())
    overrides = [f"{name}={text}" for name, text in hyperparameters.items()]
    assert override_config(overrides) == config
    assert build_config({name: parse_value(name, text) for name, text in hyperparameters.items()}) == config
    assert build_config(json.loads(config.to_json())) == config


@settings(max_examples=100, deadline=None)
@given(text=st.text(max_size=400))
def test_a_value_is_shortened_only_where_it_would_fill_the_screen(text: str) -> None:
    short = config_rules.shorten(text)
    assert len(short) <= 130
    assert short == repr(text) or short.startswith(repr(text)[:100])


@pytest.mark.parametrize(("name", "near"), [("Flowers", "flowers"), ("my_flowers", "my-flowers"), ("ab", "")])
def test_a_refused_project_name_is_told_with_the_nearest_one(name: str, near: str) -> None:
    (fault,) = find_problems(Config.model_construct(PROJECT_NAME=name))
    assert fault.hint == (f'for instance PROJECT_NAME = "{near}"' if near else "")


# Recipes


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_sets_what_nobody_else_does(recipe: str, settings_file: Path) -> None:
    settings_file.write_text(f"RECIPE = {recipe!r}\n")
    config = load_config(settings_file)
    usual = {name: getattr(Config(), name) for name in RECIPES["best"]}
    for name, value in {**usual, **RECIPES[recipe]}.items():
        assert getattr(config, name) == value


def test_a_setting_of_the_users_goes_before_the_recipe_wherever_it_stands(settings_file: Path) -> None:
    settings_file.write_text("EPOCHS = 7\n")
    assert load_config(settings_file, overrides=["RECIPE=quick"]).EPOCHS == 7
    assert override_config(["RECIPE=best", "IMAGE_SIZE=96"]).IMAGE_SIZE == 96


def test_the_file_that_a_project_starts_with_leaves_the_recipe_its_settings(settings_file: Path) -> None:
    settings_file.write_text(build_config_file(), encoding="utf-8")
    assert load_config(settings_file, overrides=["RECIPE=quick"]) == override_config(["RECIPE=quick"])


def test_a_recipe_that_is_misspelt_is_named_once() -> None:
    with pytest.raises(SettingsError) as error:
        override_config(["RECIPE=quik"])
    assert len(error.value.faults) == 1
    assert 'RECIPE = "quick"' in error.value.faults[0].hint


def test_every_penalty_must_be_above_zero() -> None:
    assert override_config(["HEAD_PENALTIES=[1, 0.5]"]).HEAD_PENALTIES == (1.0, 0.5)
    with pytest.raises(SettingsError, match="numbers above 0"):
        override_config(["HEAD_PENALTIES=[0]"])


def test_shards_alone_are_shared_out_by_key_and_leave_the_channel_room_for_the_sets_names() -> None:
    values = {"INPUT_DISTRIBUTION": "ShardedByS3Key", "DATA_NAME": "d" * 53}
    with pytest.raises(SettingsError, match=r'INPUT_DISTRIBUTION: .* needs UPLOAD_AS = "shards"'):
        build_config(values)
    assert build_config({**values, "UPLOAD_AS": "shards"}).is_sharded_by_key
    with pytest.raises(SettingsError, match=r"DATA_NAME: .* at most 53 characters"):
        build_config({**values, "UPLOAD_AS": "shards", "DATA_NAME": "d" * 54})
    assert not build_config({"DATA_NAME": "d" * 54}).is_sharded_by_key
