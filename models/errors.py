"""Errors of the packs and of what makes them; every message is one line.

ModelsError (exit 2)
├── PackError                a pack that cannot be used: not a pack, damaged, of another format
│   ├── PackSignatureError   not signed, or not by the key that is trusted here
│   └── PackSchemaError      made for signals that this DBC does not have, or has otherwise
├── StateError               what was kept of a pack on a vehicle cannot be read
├── TrainingDataError        logs or tables that nothing can be learned from
└── ModelsWorkFailed (exit 1)
    ├── TrainingFailed       the data could be read, and no detector came out of it
    └── ScoreError           onnxruntime failed on a pack that had loaded
"""


class ModelsError(Exception):
    """Base of everything that `models` raises on purpose; the message says what was wrong, where, and what to do."""

    exit_code = 2


class PackError(ModelsError):
    """The folder is not a pack that this version can load."""


class PackSignatureError(PackError):
    """The manifest carries no signature, or one that the trusted key did not make."""


class PackSchemaError(PackError):
    """The pack's signals are not those of the DBC at hand."""


class StateError(ModelsError):
    """The state that was kept of a pack is damaged or not of its shape; the pack begins anew."""


class TrainingDataError(ModelsError):
    """The data given to train or score cannot be used."""


class ModelsWorkFailed(ModelsError):
    """The input was right and the work failed."""

    exit_code = 1


class TrainingFailed(ModelsWorkFailed):
    """Nothing that could be shipped came out of the training data."""


class ScoreError(ModelsWorkFailed):
    """onnxruntime raised while it scored a tick."""
