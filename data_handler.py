"""Divide the pictures into three sets: `classifold split` under the name the template gave it."""

import sys

from classifold.cli import run_data_handler

sys.exit(run_data_handler())
