"""Detectors: the pack's format and runtime, training and evaluation."""

import os

# onnxruntime (since 1.29, on Linux too) writes a device id and sends usage events to its maker unless this is set before it is loaded.
# An owner's vehicle says nothing that the owner's catalogue does not list, so the switch is not left to the environment.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
