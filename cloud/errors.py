"""Errors of the cloud half.

CloudError
├── BackupError     a backup that cannot be made, is not whole, or would overwrite something (exit 1)
├── PkiError        a key or certificate file: missing, of the wrong kind, or already there
└── TablesUnusable  the database cannot be opened, or its tables are not this program's (exit 1)
"""


class CloudError(Exception):
    """Base of every error the cloud half raises on purpose; its message is one line and says what to do."""

    exit_code = 2


class PkiError(CloudError):
    """A key, certificate or folder of the fleet's key infrastructure is not as it must be."""


class BackupError(CloudError):
    """A backup cannot be made or brought back; nothing that was there is lost."""

    exit_code = 1


class TablesUnusable(CloudError):
    """The cloud's tables cannot be opened."""

    exit_code = 1
