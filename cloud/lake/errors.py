"""What goes wrong with the lake."""

from cloud.errors import CloudError


class LakeError(CloudError):
    """Somebody else is at it, a file is damaged, a query is wrong."""

    exit_code = 1


class LakeBusy(LakeError):
    """Somebody else compacts it or deletes from it."""
