"""What the users of the template that this project carries on rely on; none of it may change by accident."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from classifold import names
from classifold.cli.main import cli, project_manager, split
from classifold.settings.config import Config
from classifold.settings.loader import DEFAULT_CONFIG_PATH


def test_the_walk_has_its_files(root: Path) -> None:
    for name in ("data_handler.py", "project_manager.py", "local_env_requirements.txt"):
        assert (root / name).is_file()
    assert Path("container/modeling/config.py") == DEFAULT_CONFIG_PATH
    assert (root / DEFAULT_CONFIG_PATH).is_file()


def test_the_requirements_are_one_line_the_package_with_its_training_extra(root: Path) -> None:
    assert (root / "local_env_requirements.txt").read_text() == "-e .[train]\n"


def test_the_settings_that_the_templates_users_know_have_their_names() -> None:
    known = {
        "PROJECT_NAME",
        "PROJECT_REGION",
        "ALGORITHM_NAME",
        "DATA_NAME",
        "DATA_LOCAL_DIR",
        "PERCENTAGE_VAL",
        "PERCENTAGE_EVAL",
        "INSTANCE_TYPE",
        "TAGS",
        "LEARNING_RATE",
        "IMAGE_SIZE",
        "BATCH_SIZE",
        "EPOCHS",
        "STEPS_PER_EPOCH",
        "RANDOM_SEED",
        "DROPOUT",
        "ROTATION_RANGE",
        "ZOOM_RANGE",
        "WIDTH_SHIFT_RANGE",
        "HEIGHT_SHIFT_RANGE",
        "SHEAR_RANGE",
        "HORIZONTAL_FLIP",
        "VERTICAL_FLIP",
    }
    assert known <= set(Config.model_fields)
    config = Config()
    assert config.BACKBONE_WEIGHTS == "imagenet"
    assert config.INSTANCE_TYPE == "ml.g4dn.xlarge"
    assert set(config.TAGS) == {"Customer", "Project", "Service"}
    assert config.STEPS_PER_EPOCH == "auto"


def test_data_handler_makes_the_three_sets_with_their_names() -> None:
    assert split.name == "split"
    assert names.SETS == ("training", "validation", "evaluation")


def test_project_manager_has_its_three_flags_in_the_order_of_the_work() -> None:
    flags = [param.opts[0] for param in project_manager.params if param.opts[0] not in ("--config", "--set")]
    assert flags == ["--init_s3_buckets", "--build_and_push_docker_image", "--launch_training"]
    assert "project_manager" not in cli.commands


def test_the_run_folder_begins_with_the_templates_six_entries() -> None:
    six = (
        "checkpoint",
        "model.h5",
        "classes_dict.pkl",
        "classification_report.pkl",
        "confusion_matrix.pkl",
        "config_dict.pkl",
    )
    assert six == names.TEMPLATE_ARTEFACTS
    assert names.ARTEFACTS[:6] == six
    assert names.MODEL_ARCHIVE == "model.tar.gz"


def test_the_buckets_and_the_job_have_their_names() -> None:
    assert names.data_bucket("p") == "p.data"
    assert names.output_bucket("p") == "p.output"
    assert names.job_name("a", datetime(2026, 1, 2, 3, 4, 5)) == "a-2026-01-02-03-04-05"
