"""What can go wrong on the vehicle.

EdgeError                      base; exit code 2: settings, files or the frames' source are not usable
├── ConfigError                a setting, or a file it names, is missing or not what it should be
├── SourceError                the frames' source cannot be opened
└── OutboxError                the outbox could not do its work (exit code 1): another agent has it open, the flash fails
"""


class EdgeError(Exception):
    """Base of every error that `edge` raises on purpose; the message is one line."""

    exit_code = 2


class ConfigError(EdgeError):
    """A setting, or a file that it names, cannot be used."""


class SourceError(EdgeError):
    """The frames' source cannot be opened."""


class OutboxError(EdgeError):
    """The outbox could not do its work."""

    exit_code = 1
