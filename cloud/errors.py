"""Errors of the cloud half.

CloudError
└── PkiError    a key or certificate file: missing, of the wrong kind, or already there
"""


class CloudError(Exception):
    """Base of every error the cloud half raises on purpose; its message is one line and says what to do."""

    exit_code = 2


class PkiError(CloudError):
    """A key, certificate or folder of the fleet's key infrastructure is not as it must be."""
