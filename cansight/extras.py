"""The extras of the installed distribution, and what of them is not installed."""

import importlib.metadata
from functools import cache

from packaging.requirements import Requirement

DISTRIBUTION = "cansight"
NAMED_OTHERWISE = {"can": "python-can", "paho": "paho-mqtt"}  # modules that are not called as the package that brings them


@cache
def requirements(extra: str) -> tuple[Requirement, ...]:
    """What the extra brings, on this platform; nothing when cansight itself is not installed."""
    try:
        texts = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return ()
    found = map(Requirement, texts)
    return tuple(one for one in found if one.marker is not None and one.marker.evaluate({"extra": extra}))


def missing(*extras: str) -> list[str]:
    """The packages of the extras that are not installed, in any version."""
    return sorted({one.name for extra in extras for one in requirements(extra) if not _installed(one.name)})


def bringing(module: str) -> list[str]:
    """The extras that bring a module, as `cansight[NAME]`, the smallest first."""
    top = module.partition(".")[0]
    package = NAMED_OTHERWISE.get(top, top).replace("_", "-").lower()
    extras = [extra for extra in ("sim", "edge", "cloud", "train", "dev") if any(one.name == package for one in requirements(extra))]
    return [f"{DISTRIBUTION}[{extra}]" for extra in extras]


def _installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
