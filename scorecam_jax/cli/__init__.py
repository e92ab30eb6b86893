"""The command `scorecam`: one file a command."""
