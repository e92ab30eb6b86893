"""The commands of `scorecam`: each module's `run` takes the options and returns an exit status."""
