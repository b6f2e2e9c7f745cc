"""The suite of guest_*.py, run once on a real kernel with CAN in a virtual machine; each of its tests is one here."""

import os
import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from guest import SHARED, Ended, run
from prepared_car import prepare

import servers

HERE = Path(__file__).parent
NAMES = [name for path in sorted(HERE.glob("guest_*.py")) for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
KERNEL = CACHE / "cansight" / "guest-kernel"
TIMEOUT_S = 480.0  # it takes 80 s on two cores of which one is free, and minutes on a machine that has other work

pytestmark = pytest.mark.timeout(TIMEOUT_S + 30)


class Suite:
    """What the guest's pytest reported: name -> messages of failures."""

    def __init__(self, ended: Ended, report: Path) -> None:
        self.console = ended.console
        self.code = ended.code
        self.failures: dict[str, list[str]] = {}
        self.skipped: dict[str, str] = {}
        if not report.exists():
            return
        for case in ElementTree.parse(report).iter("testcase"):
            name = case.attrib["name"].partition("[")[0]
            found = self.failures.setdefault(name, [])
            found += [f"{part.attrib.get('message', '')}\n{part.text or ''}" for kind in ("failure", "error") for part in case.iter(kind)]
            for part in case.iter("skipped"):
                self.skipped[name] = part.attrib.get("message", "")


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    qemu = servers.program("qemu-system-x86_64", "qemu-system-x86")
    busybox = servers.program("busybox", "busybox-static")
    if b"ld-linux" in Path(busybox).read_bytes()[:4096]:
        servers.leave_out(f"{busybox} needs libraries, which an initial file system has not (Debian package busybox-static)")
    if not (KERNEL / "vmlinuz").exists():
        servers.leave_out(f"no kernel for the virtual machine in {KERNEL}; deploy/guest_kernel.sh fetches it")
    share = tmp_path_factory.mktemp("guest")
    prepare(share / "car")
    command = [sys.executable, "-m", "pytest", "-o", "python_files=guest_*.py", "-p", "no:xdist", "-p", "no:hypothesispytest"]
    command += [
        "-p",
        "no:playwright",
        "--timeout=120",
        "-v",
        "--durations=0",
        "--durations-min=0.5",
        f"--junitxml={SHARED}/junit.xml",
        str(HERE),
    ]
    ended = run(qemu, Path(busybox), KERNEL, share, command, HERE.parent.parent, {}, TIMEOUT_S)
    return Suite(ended, share / "junit.xml")


@pytest.mark.parametrize("name", NAMES)
def test_on_a_real_kernel(suite: Suite, name: str) -> None:
    assert name in suite.failures, f"the virtual machine did not run it (exit code {suite.code}):\n{suite.console[-4000:]}"
    assert name not in suite.skipped, suite.skipped.get(name)
    assert not suite.failures[name], "\n".join(suite.failures[name])
