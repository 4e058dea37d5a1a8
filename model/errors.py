"""Errors that a user can cause, each one line that names the input, the limit and the way out."""


class UserError(Exception):
    """Bad input or usage. The command line prints it and exits with 2; the service answers INVALID_ARGUMENT."""


class CheckpointError(UserError):
    """A checkpoint directory that is missing, incomplete, corrupt or of another version."""
