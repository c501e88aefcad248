"""Every name that others rely on, spelled once: sets, artefacts, jobs, buckets."""

from __future__ import annotations

import re
from datetime import datetime

# The user's settings, below the project's folder.
CONFIG_FILE = "container/modeling/config.py"

# The three sets, in the order of the work. Others' names for them, so that an own split is recognised.
TRAINING, VALIDATION, EVALUATION = "training", "validation", "evaluation"
SETS = (TRAINING, VALIDATION, EVALUATION)
SET_ALIASES = {
    TRAINING: (TRAINING, "train"),
    VALIDATION: (VALIDATION, "valid", "val"),
    EVALUATION: (EVALUATION, "eval", "test"),
}
SPLIT_RECORD = "split.json"

# The run folder: model.tar.gz unpacked. The first six are the template's.
CHECKPOINT_DIR = "checkpoint"
MODEL_H5 = "model.h5"
CLASSES_PICKLE = "classes_dict.pkl"
REPORT_PICKLE = "classification_report.pkl"
CONFUSION_PICKLE = "confusion_matrix.pkl"
CONFIG_PICKLE = "config_dict.pkl"
MODEL_KERAS = "model.keras"
MODEL_ONNX = "model.onnx"
CLASSES_JSON = "classes.json"
METRICS_JSON = "metrics.json"
PREDICTIONS_CSV = "predictions.csv"
HISTORY_CSV = "history.csv"
CONFIG_JSON = "config.json"
ENVIRONMENT_JSON = "environment.json"
REPORT_HTML = "report.html"
TEMPLATE_ARTEFACTS = (
    CHECKPOINT_DIR,
    MODEL_H5,
    CLASSES_PICKLE,
    REPORT_PICKLE,
    CONFUSION_PICKLE,
    CONFIG_PICKLE,
)
ARTEFACTS = (
    *TEMPLATE_ARTEFACTS,
    MODEL_KERAS,
    MODEL_ONNX,
    CLASSES_JSON,
    METRICS_JSON,
    PREDICTIONS_CSV,
    HISTORY_CSV,
    CONFIG_JSON,
    ENVIRONMENT_JSON,
    REPORT_HTML,
)
MODEL_ARCHIVE = "model.tar.gz"
# The key under which classes.json's content travels inside model.onnx, model.keras, model.h5 and checkpoint/.
MODEL_CARD = "classifold"

JOB_TIME_FORMAT = "%Y-%m-%d-%H-%M-%S"
JOB_NAME_LIMIT = 63
# What is left of a job's name for the algorithm: the time takes "-" and 19 characters.
ALGORITHM_NAME_LIMIT = JOB_NAME_LIMIT - 20
ALGORITHM_NAME_PATTERN = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9])*")
BUCKET_NAME_LIMIT = 63
# What S3 takes in a bucket's name and ECR in a repository's, both: the project's name stands in both.
PROJECT_NAME_PATTERN = re.compile(r"[a-z0-9]+([.-][a-z0-9]+)*")
PROJECT_NAME_REFUSED = ("xn--", "sthree-", "amzn-s3-demo-")
CHANNEL_NAME_LIMIT = 64
CHANNEL_NAME_PATTERN = re.compile(r"[A-Za-z0-9.\-_]+")
REGION_PATTERN = re.compile(r"[a-z]{2,4}(-[a-z]+)+-[0-9]+")
INSTANCE_TYPE_PATTERN = re.compile(r"ml\.[a-z0-9-]+\.[a-z0-9-]+")
TAG_LIMIT, TAG_KEY_LIMIT, TAG_VALUE_LIMIT = 50, 128, 256
# Beside letters, digits and spaces of any script.
TAG_CHARACTERS = "_.:/=+-@"


def data_bucket(project_name: str) -> str:
    """Return the name of the bucket that holds the pictures."""
    return f"{project_name}.data"


def output_bucket(project_name: str) -> str:
    """Return the name of the bucket that receives results."""
    return f"{project_name}.output"


def job_name(algorithm_name: str, when: datetime) -> str:
    """Return a training job's name, which is also its run folder's: `<algorithm>-YYYY-mm-dd-HH-MM-SS`."""
    return f"{algorithm_name}-{when.strftime(JOB_TIME_FORMAT)}"
