"""onnxruntime as a pack uses it: one thread, no arenas, and inputs and outputs in arrays that are there once.

A telematics unit has few cores and little memory, and a detector takes microseconds. What a tick costs is less the arithmetic than what
has to be fetched from memory that a second of frames has gone through since; so there is as little as possible to go through.
"""

import contextlib
import ctypes
import re
from collections.abc import Mapping

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

__all__ = ["Array", "Bound", "give_back", "one_line", "open_session"]

PROVIDERS = ["CPUExecutionProvider"]

Array = NDArray[np.float64] | NDArray[np.float32] | NDArray[np.bool_]


def open_session(model: bytes, once: bool = False) -> ort.InferenceSession:
    """A session over an ONNX file's bytes. Raises whatever onnxruntime raises: its exceptions share no base but Exception.

    once: it is run a few times and left. Then the graph is taken as it is: rewriting it takes half of a start, and pays from the hundredth
    run on.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.enable_cpu_mem_arena = options.enable_mem_pattern = False
    if once:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4  # what goes wrong is raised; onnxruntime would print it on stderr too
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(model, options, providers=PROVIDERS)


def give_back() -> None:
    """Return to the system what starting a model took and has freed. glibc keeps it, several times a large model's size."""
    with contextlib.suppress(OSError, AttributeError):  # another C library, without malloc_trim(3)
        ctypes.CDLL(None).malloc_trim(0)


class Bound:
    """A model whose inputs are read from, and outputs written to, the same arrays at every run: finding them costs as much as a model."""

    def __init__(self, model: bytes, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
        """inputs, outputs: C-contiguous arrays by name; whoever runs the model fills and reads them. Raises whatever onnxruntime raises."""
        self._session = open_session(model)
        vars(self._session)["_model_bytes"] = None  # kept for another try on other hardware; as large as the weights themselves
        self._binding = self._session.io_binding()
        self._arrays = dict(inputs), dict(outputs)  # an OrtValue is no more than a view of its array, which has to live
        for name, array in inputs.items():
            self._binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(array))
        for name, array in outputs.items():
            self._binding.bind_ortvalue_output(name, ort.OrtValue.ortvalue_from_numpy(array))

    def run(self) -> None:
        """From the inputs as they are now to the outputs. Raises whatever onnxruntime raises."""
        self._session.run_with_iobinding(self._binding)


_PLACE = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : (?:/\S+:\d+ .*?\) )?")
"""onnxruntime names the file and function of its own source before it says what is wrong."""


def one_line(error: Exception) -> str:
    """What onnxruntime says, without the place in its source, 300 characters at most."""
    return _PLACE.sub("", " ".join(str(error).split()))[:300]
