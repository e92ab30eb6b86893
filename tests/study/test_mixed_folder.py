"""One folder of everything through every command and the Python function."""

import json

import numpy as np
import pytest
from PIL import Image

from scorecam_jax import models
from scorecam_jax.study import study
from tests.cli.conftest import here, no_cache, no_lines, traces  # noqa: F401
from tests.cli.test_report import parts
from tests.cli.toy import BLUE, RED, scorecam
from tests.reading.test_dicom import write

BOX = [8, 8, 8, 8]
