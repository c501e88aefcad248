"""Train on SageMaker, a flag a step: --init_s3_buckets, --build_and_push_docker_image, --launch_training."""

import sys

# This folder is not searched for modules: a random.py of the project must not hide Python's.
if not sys.flags.safe_path:
    sys.path.pop(0)

from classifold.cli.main import run_project_manager

sys.exit(run_project_manager())
