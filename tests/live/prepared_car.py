"""A small car for the guest's agent: DBC files, already compiled, and certificates."""

from pathlib import Path

VEHICLE = "0123456789abcdef"
HEAD = 'VERSION ""\n\nBU_: ECU\n\n'
DRIVE = HEAD + 'BO_ 256 Motor: 8 ECU\n SG_ Speed : 0|16@1+ (1,0) [0|0] "rpm" ECU\n SG_ Torque : 16|16@1- (0.1,0) [0|0] "Nm" ECU\n'
BODY = HEAD + 'BO_ 512 Door: 2 ECU\n SG_ Opened : 0|16@1+ (1,0) [0|0] "" ECU\n'
FILES = ["drive.dbc@vcan0", "body.dbc@vcan1"]
POLLED = ["builtin:obd2@vcan0"]


def prepare(folder: Path) -> None:
    """Fill `folder`: pki/, the DBC files, and state/cache/."""
    from cloud import pki
    from dbc.compiler import load_compiled

    (folder / "state").mkdir(parents=True, mode=0o700)
    (folder / "drive.dbc").write_text(DRIVE)
    (folder / "body.dbc").write_text(BODY)
    load_compiled([str(folder / file) for file in FILES], folder / "state" / "cache")
    load_compiled(POLLED, folder / "state" / "cache")
    pki.init(folder / "pki")
    pki.vehicle(folder / "pki", VEHICLE)
