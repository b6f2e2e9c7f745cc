"""Errors of the command line itself; every package has a tree of its own.

UsageError (exit 2)      bad settings, a wrong path, a port in use
└── WorkFailed (exit 1)  the command was right, the work was not done
"""


class UsageError(Exception):
    """What the user gave cannot be used; the message is one line that says where, what was expected and what was found."""

    exit_code = 2


class WorkFailed(UsageError):
    """The command was understood and its work failed."""

    exit_code = 1
