"""The settings of this project, with flowers as the example: edit what is yours.

A setting that is left out keeps its default; those behind a # are the RECIPE's until you say otherwise.
docs/settings.md says which values each one takes.
On the command line --set NAME=VALUE goes before this file. A constant of your own begins with _.
"""

# The project
PROJECT_NAME = "flowers-classification"  # names the buckets and the repository
PROJECT_REGION = "eu-west-1"  # the AWS region of everything
ALGORITHM_NAME = "efficientnet-lite0"  # names the run folders and the jobs
INSTANCE_TYPE = "ml.g4dn.xlarge"  # the machine of a SageMaker job
# put on every AWS resource
TAGS = {
    "Customer": "classifold",
    "Project": "flowers",
    "Service": "training",
}

# The pictures and their three sets
DATA_NAME = "flowers"  # prefix in the bucket and name of the channel
DATA_LOCAL_DIR = "data/flowers"  # the folder of pictures, one sub-folder a class
DATA_MANIFEST = ""  # a listing of the pictures in place of DATA_LOCAL_DIR, a table or JSON; none is copied
# of a listing: address of the folder whose sub-folders are the classes; empty: the picture's own
MANIFEST_ROOT = ""
# the listing's column with the class; empty: one called label, class or similar, else the folder
MANIFEST_CLASS = ""
SPLIT_LOCAL_DIR = ""  # where the three sets go; empty: beside DATA_LOCAL_DIR, its name with -split
SPLIT_FILES = "auto"  # copy: clones or copies; link: hard links; auto: link if space is short
PERCENTAGE_VAL = 0.15  # share of the pictures for validation
PERCENTAGE_EVAL = 0.15  # share of the pictures for evaluation
SPLIT_SEED = 0  # another number, another division into sets
SPLIT_GROUP_PATTERN = ""  # regular expression on <class>/<file>; pictures with the same match stay in one set
SMALL_CLASSES = "fail"  # classes with too few pictures for the sets: stop, or leave them out and say so
UNREADABLE_PICTURES = "skip"  # pictures that cannot be read: name and skip them, or stop
MAX_PIXELS = 100_000_000  # a picture with more is refused, not decoded
SAMPLE_BITS = "auto"  # how many bits 16-bit samples use, such as 12; auto: what the file says, else 16

# The model
# this, any name of keras.applications, or a function of your own as my_model.py:build
BACKBONE = "EfficientNetLite0"
BACKBONE_WEIGHTS = "imagenet"  # imagenet, None for random ones, a file or an earlier run
# IMAGE_SIZE = 224  # pictures are resized to this square, in pixels
HEAD_LAYERS = ()  # units of hidden layers between backbone and classes
HEAD_FEATURES = "levels"  # levels: the head sees every level of the backbone; top: the last alone
DROPOUT = 0.2  # before every layer of the head

# Training
RECIPE = "balanced"  # quick: the head alone; best: more of everything; see docs/recipes.md
TIME_LIMIT = 0.0  # minutes in which a run shall end with a finished model; 0: none
RANDOM_SEED = 42  # every random number follows from it
BACKEND = "auto"  # Keras's engine
PRECISION = "auto"  # of the arithmetic in training; auto: float32, and bfloat16 on GPUs that have it
NUM_WORKERS = "auto"  # threads that read pictures
CACHE_GB = 1.0  # memory for pictures and activations that no file keeps between epochs
BATCH_SIZE = "auto"  # pictures a step; auto: 32, and on a GPU the most that fit
STEPS_PER_EPOCH = "auto"  # auto: every picture once
# regularisation of the head, chosen by validation; () learns it in epochs instead
HEAD_PENALTIES = (1.0, 0.3, 0.1, 0.03, 0.01)
HEAD_EPOCHS = 40  # epochs of a head that is learned in epochs; 0: no stage of the head alone
HEAD_LEARNING_RATE = 0.001  # largest learning rate of the head's stage
# EPOCHS = 10  # epochs of fine-tuning; 0: the head only
LEARNING_RATE = 0.0005  # largest learning rate of fine-tuning
FINE_TUNE_SHARE = 0.3  # how much of the backbone learns, from its top
OPTIMIZER = "adamw"  # of both stages
MOMENTUM = 0.9  # of sgd
WEIGHT_DECAY = 0.02  # decoupled, in adamw and sgd
GRADIENT_CLIP = 1.0  # largest global norm of a gradient; 0: none
LEARNING_RATE_DECAY = "cosine"  # of fine-tuning
DECAY_RATE = 0.5  # factor of exponential and step
DECAY_EPOCHS = 5  # epochs after which the factor is applied once
WARMUP_EPOCHS = 1.0  # the learning rate rises from zero in this time
CLASS_WEIGHTS = "none"  # of the classes in the loss; balanced: rare ones count more; or {class: weight}
LABEL_SMOOTHING = 0.1  # share of the truth spread over all classes, in the loss
EARLY_STOPPING_MONITOR = "val_loss"  # the value whose standstill ends the training
EARLY_STOPPING_PATIENCE = 10  # epochs without a better value; 0: never stop early
CHECKPOINT_MONITOR = "val_loss"  # the best epoch by this is kept
CHECKPOINT_TOLERANCE = 1.0  # standard errors by which a later epoch may be worse and is kept; 0: the best
CHECKPOINT_MINUTES = 0.2  # the state for --resume is saved so often, inside an epoch too; 0: after a stage
AVERAGED_EPOCHS = 5  # an epoch's weights are the mean over so many; 1: its own

# Augmentation of the training pictures
# AUGMENTATION_VARIANTS = 8  # versions of each picture; 0: new ones each epoch
ROTATION_RANGE = 15.0  # degrees to either side
ZOOM_RANGE = 0.2  # in and out
WIDTH_SHIFT_RANGE = 0.1  # share of the width
HEIGHT_SHIFT_RANGE = 0.1  # share of the height
SHEAR_RANGE = 5.0  # degrees
HORIZONTAL_FLIP = "auto"  # mirror half of the pictures left to right; auto: unless that changes a class
VERTICAL_FLIP = False  # mirror half of the pictures top to bottom; auto: unless that changes a class
BRIGHTNESS_RANGE = 0.2  # brighter and darker by up to this share
CONTRAST_RANGE = 0.2  # more and less contrast by up to this share
SATURATION_RANGE = 0.2  # more and less colour by up to this share
ERASING_PROBABILITY = 0.0  # how often a rectangle is painted over

# Evaluation and results
RUNS_DIR = "runs"  # where run folders go
TOP_K = 3  # k of the top-k accuracy, and names a prediction shows
BOOTSTRAP_SAMPLES = 2000  # draws behind the 95 % intervals
CALIBRATION_BINS = 10  # rows of the reliability table

# AWS: buckets, role, encryption
DATA_BUCKET = ""  # the bucket of the pictures; empty: <PROJECT_NAME>.data
OUTPUT_BUCKET = ""  # the bucket of the results; empty: <PROJECT_NAME>.output
BUCKET_NAMESPACE = "global"  # account-regional: bucket names that nobody else can take
ROLE = ""  # a role of your own for the jobs, name or ARN; empty: one is made
ROLE_BOUNDARY = ""  # ARN of the policy that is the role's permissions boundary; empty: none
KMS_KEY = ""  # ARN of the key that encrypts buckets, images, disks and results; empty: AWS's own
UPLOAD_AS = "files"  # shards: the pictures packed into a few tar files, faster for many small ones
SHARD_MB = 150  # size of a shard, in MB
UPLOAD_THREADS = "auto"  # files that are sent at once

# AWS: the training image
BASE_IMAGE = ""  # base image, such as a mirror's or NAME@sha256:…; empty: python:3.11-slim

# AWS: the training job
INSTANCE_COUNT = 1  # machines of a job
INSTANCE_PREFERENCES = ()  # further instance types, in the order in which they are tried
VOLUME_GB = 50  # disk of the machine, where it can be chosen
MAX_HOURS = 12.0  # a job that runs longer is stopped
SPOT = False  # spare capacity: cheaper, may be interrupted and goes on later
MAX_WAIT_HOURS = 24.0  # of a spot job, with waiting; at least MAX_HOURS
KEEP_ALIVE_MINUTES = 0  # the machine waits so long for the next job
INPUT_MODE = "File"  # File: downloaded before the start; FastFile: read from S3 as needed
# ShardedByS3Key: each of several machines gets its part of the training shards alone
INPUT_DISTRIBUTION = "FullyReplicated"
NETWORK_ISOLATION = True  # the container has no network and no credentials
SUBNETS = ()  # of your VPC, where the job shall run in it
SECURITY_GROUPS = ()  # of your VPC, with SUBNETS
