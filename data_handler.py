"""Divide the pictures into three sets: `classifold split` under the name the template gave it."""

import sys

# This folder is not searched for modules: a random.py of the project must not hide Python's.
if not sys.flags.safe_path:
    sys.path.pop(0)

from classifold.cli.main import run_data_handler

sys.exit(run_data_handler())
