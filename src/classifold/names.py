"""Names that several modules or AWS rely on, each defined once: sets, artefacts, jobs, buckets."""

from __future__ import annotations

import re
from datetime import datetime

# The user's settings file, below the project's folder.
CONFIG_FILE = "container/modeling/config.py"

# The three sets, in the order of the work.
TRAINING, VALIDATION, EVALUATION = "training", "validation", "evaluation"
SETS = (TRAINING, VALIDATION, EVALUATION)
# Folder names that people use for the three sets, in lower case and without accents, by which a split of the
# user's own is recognised: English, then German, French, Spanish, Portuguese, Italian, Dutch, Polish,
# Turkish, Russian, Chinese, Japanese, Korean. The last English ones are common misspellings.
SET_ALIASES = {
    TRAINING: tuple(
        """
        training train trn tr trainval learn learning traning trainning trainig trian
        entrainement apprentissage entrenamiento treino treinamento addestramento allenamento trening uczenie
        egitim обучение обучающая тренировка 训练 訓練 学習 학습 훈련
        """.split()  # noqa: SIM905 - a line per word else
    ),
    VALIDATION: tuple(
        """
        validation valid val validate dev devel development vaild vaildation validaton
        validierung validacion validacao convalida validazione validatie walidacja dogrulama
        валидация валидационная 验证 驗證 検証 검증
        """.split()  # noqa: SIM905 - a line per word else
    ),
    EVALUATION: tuple(
        """
        evaluation eval evaluate test testing tst te holdout heldout tesing tset
        tests evaluierung auswertung essai prueba pruebas teste testes prova testowy degerlendirme
        тест тестовая проверка 测试 測試 评估 テスト 評価 테스트 평가
        """.split()  # noqa: SIM905 - a line per word else
    ),
}
SPLIT_RECORD = "split.json"

# Files of the run folder, which is an unpacked model.tar.gz. The first six are those of the project template.
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
# What a picture's distance is measured from, and the training pictures that are named as its neighbours.
REFERENCE_NPZ = "reference.npz"
# What a person should know before using the model; not to be confused with the card in classes.json.
MODEL_CARD_MD = "MODEL_CARD.md"
# Files that training writes beside the artefacts; runs of earlier releases do not have them.
LATER_ARTEFACTS = (REFERENCE_NPZ, MODEL_CARD_MD)
# What the data check found before the training; a run has it only where there was a check.
CHECK_JSON = "check.json"
CHECK_HTML = "check.html"
# What the job that trained the run was billed; `fetch` writes it, since a job does not know that itself.
JOB_JSON = "job.json"
# Everything that a run folder may hold but the archive, which is packed of it.
RUN_FILES = (*ARTEFACTS, *LATER_ARTEFACTS, CHECK_JSON, JOB_JSON)
MODEL_ARCHIVE = "model.tar.gz"
# What `classifold export` writes about a model beside it.
EXPORT_JSON = "export.json"
# End of the name of a run folder that holds the best model so far of a run that was stopped.
INTERRUPTED_ENDING = ".interrupted"
# End of the name of the hidden folder in which a run works: .<run>.partial
PARTIAL_ENDING = ".partial"
# Where pip installs the package from. Nothing is on PyPI yet: until then a name there is somebody else's.
SOURCE = "git+https://github.com/classifold/classifold"
# The key of the content of classes.json inside model.onnx, model.keras, model.h5 and checkpoint/.
MODEL_CARD = "classifold"

JOB_TIME_FORMAT = "%Y-%m-%d-%H-%M-%S"
JOB_NAME_LIMIT = 63
# Characters left for ALGORITHM_NAME in a job's name: "-" and the time take 20.
ALGORITHM_NAME_LIMIT = JOB_NAME_LIMIT - 20
ALGORITHM_NAME_PATTERN = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9])*")
BUCKET_NAME_LIMIT = 63
BUCKET_NAME_PATTERN = re.compile(r"[a-z0-9](?=.{2,62}$)[a-z0-9.-]*[a-z0-9]")
# What both S3 accepts in a bucket's name and ECR in a repository's: the project's name is part of both.
PROJECT_NAME_PATTERN = re.compile(r"[a-z0-9]+([.-][a-z0-9]+)*")
PROJECT_NAME_REFUSED = ("xn--", "sthree-", "amzn-s3-demo-")
CHANNEL_NAME_LIMIT = 64
CHANNEL_NAME_PATTERN = re.compile(r"[A-Za-z0-9.\-_]+")
REGION_PATTERN = re.compile(r"[a-z]{2,4}(-[a-z]+)+-[0-9]+")
INSTANCE_TYPE_PATTERN = re.compile(r"ml\.[a-z0-9-]+\.[a-z0-9-]+")
POLICY_ARN_PATTERN = re.compile(r"arn:aws[a-z-]*:iam::([0-9]{12}|aws):policy/[\w+=,.@/-]+")
# An image as Docker names it: a registry with a port, a path, a tag, a digest.
IMAGE_PATTERN = re.compile(
    r"([a-zA-Z0-9][a-zA-Z0-9.-]*(:[0-9]+)?/)?[a-z0-9]+([._/-]+[a-z0-9]+)*"
    r"(:[\w][\w.-]{0,127})?(@sha256:[0-9a-f]{64})?",
    re.ASCII,
)
TAG_LIMIT, TAG_KEY_LIMIT, TAG_VALUE_LIMIT = 50, 128, 256
# Allowed in tags besides letters, digits and spaces of any script.
TAG_CHARACTERS = "_.:/=+-@"


# Everything that a project creates on AWS has the user's tags and this one, whose value is the project's
# name.
PROJECT_TAG = "classifold:project"
# An endpoint configuration has a further one: the name of the configuration that the endpoint had before.
BEFORE_TAG = "classifold:before"
POLICY_NAME = "classifold"
LOG_GROUP = "/aws/sagemaker/TrainingJobs"
# SageMaker's log groups of endpoints, one each, and of transform jobs, one for all.
ENDPOINT_LOG_GROUPS = "/aws/sagemaker/Endpoints/"
TRANSFORM_LOG_GROUP = "/aws/sagemaker/TransformJobs"
# Of jobs and endpoints; CloudWatch takes an asterisk with StringLike.
METRIC_NAMESPACES = "/aws/sagemaker/*"
# Folder below the project's folder in which commands keep notes for their next run; safe to delete.
STATE_DIR = ".classifold"
REQUEST_TEMPLATE = "training-job-config-template.json"
REQUEST_FILE = "training-job-config.json"
DOCKERFILE = "container/Dockerfile"

# Shards are plain tar files of a set's pictures; the index says where each picture is.
SHARD_INDEX = "shards.json"
SHARD_PATTERN = re.compile(r"shard-[0-9]{5}\.tar")

# How the objects of a channel are distributed to the hosts of a job, in SageMaker's words.
FULLY_REPLICATED, SHARDED_BY_KEY = "FullyReplicated", "ShardedByS3Key"

# The container, as SageMaker lays it out.
ML_DIR = "/opt/ml"
HYPERPARAMETERS_JSON = "hyperparameters.json"
DATA_CONFIG_JSON = "inputdataconfig.json"
RESOURCE_CONFIG_JSON = "resourceconfig.json"
CHECKPOINT_CONFIG_JSON = "checkpointconfig.json"
FAILURE_FILE = "failure"
FAILURE_LIMIT = 1024  # characters of the failure file that SageMaker shows
STOP_SECONDS = 120  # from SIGTERM to SIGKILL
# Training images: for CPUs, for CPUs of several machines (which train on JAX), for GPUs. They serve as well.
TRAINING_VARIANTS = ("cpu", "hosts", "gpu")
# The slim image, without TensorFlow, that only serves.
SERVE_VARIANT = "serve"
IMAGE_VARIANTS = (*TRAINING_VARIANTS, SERVE_VARIANT)
FIRST_HOST = "algo-1"
LOOPBACK = "127.0.0.1"  # address of the first host where all hosts run on one machine
HOSTS_PORT = 23456  # port on the first machine of a job to which the others connect

# The metrics in an epoch's line of a log, each with the regular expression that finds it.
METRICS = {
    "loss": r" training loss ([-+.0-9a-z]+)",
    "accuracy": r" training loss [-+.0-9a-z]+, accuracy ([-+.0-9a-z]+)",
    "val_loss": r" validation loss ([-+.0-9a-z]+)",
    "val_accuracy": r" validation loss [-+.0-9a-z]+, accuracy ([-+.0-9a-z]+)",
    "learning_rate": r" learning rate ([-+.0-9a-z]+)",
    "pictures_per_second": r" s, ([-+.0-9a-z]+) pictures/s\)",
}


def set_manifest(set_name: str) -> str:
    """Return the file name of a set's manifest, in the split of a listing."""
    return f"{set_name}.jsonl"


def data_bucket(project_name: str) -> str:
    """Return the name of the bucket that holds the pictures."""
    return f"{project_name}.data"


def output_bucket(project_name: str) -> str:
    """Return the name of the bucket that receives results."""
    return f"{project_name}.output"


def regional_bucket(name: str, *, account: str, region: str) -> str:
    """Return a bucket's name in the account's own namespace, which no other account can take.

    S3 accepts no dot in such a name. A dot in the project's name becomes "--", which no project's name
    contains, so that two projects never share a bucket: shop.flowers has shop--flowers-data, shop-flowers has
    shop-flowers-data.

    Args:
        name: The name that `data_bucket` or `output_bucket` returns.
        account: Number of the AWS account, 12 digits.
        region: AWS region of the project, such as "eu-west-1".
    """
    project, _, kind = name.rpartition(".")
    return f"{project.replace('.', '--')}-{kind}{regional_ending(account=account, region=region)}"


def former_regional_bucket(name: str, *, account: str, region: str) -> str:
    """Return the name that earlier versions gave to the same bucket; arguments as for `regional_bucket`.

    It was the same for the projects shop.flowers and shop-flowers.
    """
    return f"{name.replace('.', '-')}{regional_ending(account=account, region=region)}"


def regional_ending(*, account: str, region: str) -> str:
    """Return the end of the name of every bucket in an account's own namespace."""
    return f"-{account}-{region}-an"


def repository(project_name: str) -> str:
    """Return the name of the ECR repository that holds the training images."""
    return project_name


def role(project_name: str) -> str:
    """Return the name of the role that jobs run under."""
    return f"{project_name}-role"


def boundary(project_name: str) -> str:
    """Return the name that the documentation gives the role's permissions boundary, a managed policy."""
    return f"{project_name}-boundary"


def data_prefix(data_name: str, *, as_shards: bool) -> str:
    """Return the prefix of the three sets in the data bucket; ends in a slash, which FastFile mode needs."""
    return f"{data_name}.shards/" if as_shards else f"{data_name}/"


def set_channel(data_name: str, set_name: str) -> str:
    """Return the channel of one set, for a job with INPUT_DISTRIBUTION = "ShardedByS3Key"."""
    return f"{data_name}-{set_name}"


# It comes before the job's name, so that one lifecycle rule covers the checkpoints of all jobs.
CHECKPOINTS_PREFIX = "checkpoints/"


def checkpoint_prefix(job: str) -> str:
    """Return the prefix of a job's checkpoints in the output bucket."""
    return f"{CHECKPOINTS_PREFIX}{job}/"


# Everything for endpoints and transform jobs in the output bucket, and its parts: model archives by content,
# captured requests and answers, the pictures and answers of asynchronous endpoints, the lists of pictures of
# transform jobs.
SERVING_PREFIX = "serving/"
MODELS_PREFIX = f"{SERVING_PREFIX}models/"
CAPTURED_PREFIX = f"{SERVING_PREFIX}captured/"
ASYNC_PREFIX = f"{SERVING_PREFIX}async/"
BATCH_PREFIX = f"{SERVING_PREFIX}batch/"
# The one variant of an endpoint; the name is SageMaker's own default.
VARIANT = "AllTraffic"
# Characters left for the name of an endpoint in those of its models: "-" and the time take 20.
ENDPOINT_NAME_LIMIT = JOB_NAME_LIMIT - 20


def endpoint_base(project_name: str) -> str:
    """Return what the names of the project's endpoints, models and transform jobs begin with.

    SageMaker takes no dot in them. It is also the name of the project's model package group.
    """
    return project_name.replace(".", "-")[:ENDPOINT_NAME_LIMIT].rstrip("-")


def batch_base(project_name: str) -> str:
    """Return what the names of the project's transform jobs begin with."""
    return f"{endpoint_base(project_name)[: ENDPOINT_NAME_LIMIT - 6].rstrip('-')}-batch"


def job_name(algorithm_name: str, when: datetime) -> str:
    """Return the name of a training job and of its run folder: `<algorithm>-YYYY-mm-dd-HH-MM-SS`."""
    return f"{algorithm_name}-{when.strftime(JOB_TIME_FORMAT)}"


def run_name(folder_name: str) -> str:
    """Return the name of the run in a folder of this name, finished or at work."""
    if folder_name.startswith(".") and folder_name.endswith(PARTIAL_ENDING):
        return folder_name[1 : -len(PARTIAL_ENDING)]
    return folder_name


def install(extras: str) -> str:
    """Return the command that installs the package with extras, for instance "train,hosts"."""
    return f'pip install "classifold[{extras}] @ {SOURCE}"'
