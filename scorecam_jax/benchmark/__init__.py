"""Timings of Score-CAM, against the bare network and against other packages."""
