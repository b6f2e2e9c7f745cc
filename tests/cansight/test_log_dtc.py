"""`cansight log dtc`: each protocol's codes, from the first report to the one without them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

LOG = """\
(1700000001.000000) can0 7E8#0443010301AAAAAA
(1700000001.100000) can0 7E8#044701C100AAAAAA
(1700000001.200000) can0 18FECA21#40FF9C00030500FF
(1700000001.300000) can0 612#075902FF43004C08
(1700000002.000000) can0 7E8#024300AAAAAAAAAA
(1700000003.000000) can0 18FECA21#00FF00000000FFFF
"""


def dtc(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cansight", "log", "dtc", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_codes_of_three_protocols(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text(LOG)
    done = dtc(log, "--answer", "612", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found = [[entry[name] for name in ("ecu", "protocol", "code", "kind", "to_the_end")] for entry in json.loads(done.stdout)]
    assert found == [
        ["7E8", "OBD-II", "P0301", "stored", False],  # its service 03 says so a second later; the pending one is service 07's
        ["7E8", "OBD-II", "U0100", "pending", True],
        ["21", "J1939", "SPN 156 FMI 3", "active", False],
        ["612", "UDS", "C0300-4C", "stored", True],
    ]
    first = json.loads(done.stdout)[0]
    assert (first["first"], first["last_change"]) == ("2023-11-14T22:13:21.000+00:00", "2023-11-14T22:13:22.000+00:00")
    lines = dtc(log).stdout.splitlines()
    assert len(lines) == 4
    assert "P0301" in lines[0]
    assert "gone at" in lines[0]
    assert lines[-1] == f"{log}: 3 codes; 2 ECUs report"


def test_a_recorded_machine(data_dir: Path) -> None:
    done = dtc(data_dir / "logs" / "css_electronics" / "11111111-j1939-gnss.mf4", "--json")
    codes = [entry["code"] for entry in json.loads(done.stdout)]
    assert codes == ["SPN 980 FMI 9", "SPN 3216 FMI 20", "SPN 609 FMI 9", "SPN 609 FMI 12"]


@pytest.mark.parametrize("command", [["info", "-"], ["decode", "-", "--dbc", "builtin:obd2", "-o", "out.csv"], ["dtc", "-"]])
def test_an_empty_pipe_is_one_line(command: list[str], tmp_path: Path) -> None:
    whole = [sys.executable, "-m", "cansight", "log", *command]
    done = subprocess.run(whole, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "cansight: -: is empty: nothing came through the pipe\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["/none.log"], "/none.log: cannot be read: No such file"),
        (["--answer", "zz", "/none.log"], "'zz' is no identifier; expected hexadecimal"),
        ([], "Missing argument"),
        (["/"], "/: cannot be read"),
    ],
)
def test_wrong_input_is_one_line(arguments: list[str], says: str) -> None:
    done = dtc(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
