"""The settings of this project, with flowers as the example: edit what is yours.

A setting that is left out keeps its default; those behind a # follow from RECIPE unless you set them.
docs/settings.md says which values each one accepts.
On the command line --set NAME=VALUE overrides this file. A constant of your own begins with _.
"""

# The project
PROJECT_NAME = "flowers-classification"  # first part of the names of buckets, role and repository
PROJECT_REGION = "eu-west-1"  # the AWS region of all buckets, images and jobs
ALGORITHM_NAME = "efficientnet-lite0"  # first part of the names of run folders and jobs
INSTANCE_TYPE = "ml.g4dn.xlarge"  # the machine of a SageMaker job
# tags of every AWS resource
TAGS = {
    "Customer": "classifold",
    "Project": "flowers",
    "Service": "training",
}

# The pictures and their three sets
DATA_NAME = "flowers"  # prefix in the bucket and name of the channel
DATA_LOCAL_DIR = "data/flowers"  # the folder of pictures, one sub-folder per class
# which of nested folders names the class: the outermost (directly below DATA_LOCAL_DIR) or the innermost
CLASS_FOLDER = "outermost"
DATA_MANIFEST = ""  # a table or JSON file of the pictures, in place of DATA_LOCAL_DIR; no picture is copied
# address of the folder whose sub-folders are a listing's classes; empty: a picture's own folder
MANIFEST_ROOT = ""
# the listing's column with the class; empty: one called label, class or similar, else the folder
MANIFEST_CLASS = ""
SPLIT_LOCAL_DIR = ""  # where the three sets go; empty: beside DATA_LOCAL_DIR, its name with -split
SPLIT_FILES = "auto"  # copy: clones or copies; link: hard links; auto: link if space is short
PERCENTAGE_VAL = 0.15  # share of each class for validation
PERCENTAGE_EVAL = 0.15  # share of each class for evaluation
SPLIT_SEED = 0  # seed; the same seed divides the pictures into the same sets
SPLIT_GROUP_PATTERN = ""  # regular expression on <class>/<file>; pictures with the same match stay in one set
# near copies (resized, cropped, mirrored...) and bursts: keep them in one set, or ignore them
NEAR_COPIES = "together"
SMALL_CLASSES = "fail"  # classes with too few pictures for three sets: stop, or leave them out with a note
UNREADABLE_PICTURES = "skip"  # pictures that cannot be read: name and skip them, or stop
MAX_PIXELS = 100_000_000  # pictures with more pixels are not decoded but treated as unreadable
SAMPLE_BITS = "auto"  # bits used by 16-bit samples, such as 12; auto: what the file says, else 16

# The model
BACKBONE = "EfficientNetLite0"  # a name of keras.applications, or a function of your own as my_model.py:build
BACKBONE_WEIGHTS = "imagenet"  # imagenet, None for random weights, a file or an earlier run
# IMAGE_SIZE = 224  # pictures are resized to this square, in pixels
HEAD_LAYERS = ()  # units of hidden layers between backbone and classes
HEAD_FEATURES = "levels"  # levels: the head sees every level of the backbone; top: only the last
DROPOUT = 0.2  # dropout rate before every layer of the head

# Training
RECIPE = "balanced"  # quick: only the head; best: larger pictures, more epochs; see docs/recipes.md
TIME_LIMIT = 0.0  # minutes within which a run ends with a finished model; 0: no limit
RANDOM_SEED = 42  # seed of every random number in training
BACKEND = "auto"  # what Keras computes with
PRECISION = "auto"  # number format in training; auto: float32, and bfloat16 on GPUs that have it
NUM_WORKERS = "auto"  # threads or processes that read pictures
CACHE_GB = 1.0  # memory for pictures and activations that are not kept in files between epochs
BATCH_SIZE = "auto"  # pictures per step; auto: 32, and on a GPU the most that fit
STEPS_PER_EPOCH = "auto"  # steps of one epoch; auto: every picture once
# regularization strengths tried for the head; the validation set chooses; (): train it in epochs
HEAD_PENALTIES = (1.0, 0.3, 0.1, 0.03, 0.01)
HEAD_EPOCHS = 40  # epochs for a head that is trained in epochs; 0: the head gets no stage of its own
HEAD_LEARNING_RATE = 0.001  # largest learning rate for the head that is trained in epochs
# EPOCHS = 10  # epochs of fine-tuning; 0: only the head is trained
LEARNING_RATE = 0.0005  # largest learning rate of fine-tuning
FINE_TUNE_SHARE = 0.3  # share of the backbone that is fine-tuned, counted from its last layer
OPTIMIZER = "adamw"  # optimizer of both stages
MOMENTUM = 0.9  # momentum of sgd
WEIGHT_DECAY = 0.02  # decoupled weight decay, in adamw and sgd
GRADIENT_CLIP = 1.0  # largest global norm of a gradient; 0: no clipping
LEARNING_RATE_DECAY = "cosine"  # how the learning rate falls during fine-tuning
DECAY_RATE = 0.5  # factor of the decays exponential and step
DECAY_EPOCHS = 5  # epochs after which the factor is applied once
WARMUP_EPOCHS = 1.0  # epochs in which the learning rate rises from zero
CLASS_WEIGHTS = "none"  # class weights in the loss; balanced: rare ones count more; or {class: weight}
LABEL_SMOOTHING = 0.1  # share of a label that is spread over all classes, in the loss
EARLY_STOPPING_MONITOR = "val_loss"  # training ends early when this value no longer improves
EARLY_STOPPING_PATIENCE = 10  # epochs without a better value; 0: never stop early
CHECKPOINT_MONITOR = "val_loss"  # value by which the best epoch is chosen
# a later epoch is kept if it is worse by at most this many standard errors; 0: the best
CHECKPOINT_TOLERANCE = 1.0
CHECKPOINT_MINUTES = 0.2  # minutes between saves of the state for --resume; 0: only after a stage
AVERAGED_EPOCHS = 5  # an epoch's weights are averaged over this many epochs; 1: no averaging

# Augmentation of the training pictures
# AUGMENTATION_VARIANTS = 8  # augmented versions of each picture; 0: new ones each epoch
ROTATION_RANGE = 15.0  # rotation by up to this many degrees, either way
ZOOM_RANGE = 0.2  # zoom in and out by up to this share
WIDTH_SHIFT_RANGE = 0.1  # shift to the side by up to this share of the width
HEIGHT_SHIFT_RANGE = 0.1  # shift up or down by up to this share of the height
SHEAR_RANGE = 5.0  # shear by up to this many degrees
HORIZONTAL_FLIP = "auto"  # mirror half of the pictures left to right; auto: unless that changes a class
VERTICAL_FLIP = False  # mirror half of the pictures top to bottom; auto: unless that changes a class
BRIGHTNESS_RANGE = 0.2  # brighter and darker by up to this share
CONTRAST_RANGE = 0.2  # more and less contrast by up to this share
SATURATION_RANGE = 0.2  # more and less colour by up to this share
ERASING_PROBABILITY = 0.0  # share of the pictures in which a rectangle is painted over

# Evaluation and results
RUNS_DIR = "runs"  # the folder of the run folders
TOP_K = 3  # k of the top-k accuracy, and number of names shown per prediction
BOOTSTRAP_SAMPLES = 2000  # bootstrap samples for the 95 % intervals
CALIBRATION_BINS = 10  # rows of the reliability table
# largest mean share of wrong answers: less sure ones become unknown; None: minimum confidence 0.5
MAX_ERROR = None
# share of pictures of known classes that may be called unknown because of their distance
FALSE_REFUSALS = 0.05

# AWS: buckets, role, encryption
DATA_BUCKET = ""  # the bucket of the pictures; empty: <PROJECT_NAME>.data
OUTPUT_BUCKET = ""  # the bucket of the results; empty: <PROJECT_NAME>.output
BUCKET_NAMESPACE = "global"  # account-regional: bucket names that no other account can take
ROLE = ""  # a role of your own for the jobs, name or ARN; empty: one is created
ROLE_BOUNDARY = ""  # ARN of the policy that is the role's permissions boundary; empty: none
KMS_KEY = ""  # ARN of the key that encrypts buckets, images, disks and results; empty: AWS's own
UPLOAD_AS = "files"  # shards: the pictures packed into a few tar files, faster for many small ones
SHARD_MB = 150  # size of one shard, in MB
UPLOAD_THREADS = "auto"  # files that are uploaded at the same time

# AWS: the training image
BASE_IMAGE = ""  # base image, such as one of a mirror or NAME@sha256:…; empty: python:3.11-slim

# AWS: the training job
INSTANCE_COUNT = 1  # number of machines that train one model together
INSTANCE_PREFERENCES = ()  # instance types to try after INSTANCE_TYPE, in this order
VOLUME_GB = 50  # disk of the machine in GB, where it can be chosen
MAX_HOURS = 12.0  # a job that runs longer than this is stopped
SPOT = False  # spare capacity: cheaper; may be interrupted, then resumes by itself
MAX_WAIT_HOURS = 24.0  # time limit of a spot job, waiting included; at least MAX_HOURS
KEEP_ALIVE_MINUTES = 0  # minutes for which the machine is kept for the next job (warm pool)
INPUT_MODE = "File"  # File: downloaded before the start; FastFile: read from S3 as needed
# ShardedByS3Key: each of several machines gets only its part of the training shards
INPUT_DISTRIBUTION = "FullyReplicated"
NETWORK_ISOLATION = True  # the container has no network and no credentials
SUBNETS = ()  # subnets of your VPC, to run the job in it
SECURITY_GROUPS = ()  # security groups of your VPC, needed with SUBNETS

# AWS: endpoints and batch transform
ENDPOINT_INSTANCE_TYPE = "ml.m5.large"  # the machine of an endpoint or a batch transform
ENDPOINT_INSTANCE_COUNT = 1  # minimum number of these machines; 0: none while idle (--async only)
ENDPOINT_MAX_COUNT = 0  # maximum number of these machines; 0: no autoscaling
ENDPOINT_REQUESTS = 600  # target of autoscaling: requests per minute and machine; --async: waiting requests
SERVERLESS_MEMORY_MB = 2048  # memory of a serverless endpoint: 1024, 2048 and so on up to 6144
SERVERLESS_CONCURRENCY = 5  # requests that a serverless endpoint answers at the same time, at most
# PendingManualApproval: somebody approves a new model package before it is deployed
MODEL_APPROVAL = "Approved"
