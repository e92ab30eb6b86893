"""Methods: one idea a file, each called as `score_cam` is."""
