"""Errors of the service that are not the user's input; those are model.errors.UserError."""


class ServiceError(Exception):
    """One line: a port in use, a server out of reach, a full disk. The command line prints it and exits with 1."""
