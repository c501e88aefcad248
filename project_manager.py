"""Train on SageMaker, a flag a step: --init_s3_buckets, --build_and_push_docker_image, --launch_training."""

import sys

from classifold.cli import run_project_manager

sys.exit(run_project_manager())
