"""Errors of the contract between vehicle and cloud.

WireError                      every failure to read or write what travels; input is bad
├── FormatError                bytes, or values to be sent, that are not what the specification says; also a ValueError
│   └── Unsupported            authentic or well-formed, but of a version or kind this program does not know: land and keep
├── AuthenticationError        a tag, signature, certificate or name that does not hold
├── RecipientError             a recipient key document or key file that cannot be used
├── StreamError                a sealer used against its rules (announced twice, sequence space used up)
└── SegmentLogError            the log could not do its work (full disk, I/O error); nothing unsynced is kept
    └── SegmentLogLocked       another process has the log open
"""


class WireError(Exception):
    """Base of every error that `wire` raises on purpose; the message is one line."""

    exit_code = 2


class FormatError(WireError, ValueError):
    """Bytes, or a value that is to become bytes, are not what docs/wire.md says."""


class Unsupported(FormatError):
    """Bytes of a later version or an unknown kind: not damage, so the cloud lands them and keeps them for replay."""


class AuthenticationError(WireError):
    """A tag, signature, certificate or name does not hold: forged, altered, or opened with the wrong key."""


class RecipientError(WireError):
    """A recipient key document or key file cannot be used."""


class StreamError(WireError):
    """A stream was used against its rules; going on would repeat a nonce."""

    exit_code = 1


class SegmentLogError(WireError):
    """The segment log could not do its work; `cause_errno` is the system's error number, or None."""

    exit_code = 1

    def __init__(self, message: str, cause_errno: int | None = None) -> None:
        super().__init__(message)
        self.cause_errno = cause_errno


class SegmentLogLocked(SegmentLogError):
    """Another process has this log open."""

    exit_code = 2
