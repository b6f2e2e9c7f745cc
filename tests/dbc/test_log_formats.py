"""Every log format against an independent reading: python-can's, asammdf's, or the same capture in another format."""

from __future__ import annotations

import gzip
import io
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import can.io
import numpy as np
import pytest

from dbc.errors import LogFormatError
from dbc.frames import EFF_FLAG, ERR_FLAG, RTR_FLAG
from dbc.logs import open_log
from dbc.logs.candump import CandumpParser
from dbc.logs.writers import open_log_writer

Row = tuple[int, str, int, bytes, int]

PYTHON_CAN = [
    *(f"{name}.asc" for name in ("issue_1256", "issue_1299", "logfile", "logfile_errorframes", "single_frame", "single_frame_us_locale")),
    *(f"test_Can{name}.asc" for name in ("ErrorFrames", "FdMessage", "FdMessage64", "FdRemoteMessage", "Message", "RemoteMessage")),
    "test_CanMessage.asc.gz",
    "issue_1905.blf",
    *(f"test_Can{name}.blf" for name in ("ErrorFrameExt", "FdMessage", "FdMessage64", "Message", "Message2")),
    *(f"test_CanMessage{name}.trc" for name in ("", "_V1_0_BUS1", "_V1_1", "_V1_3", "_V2_0_BUS1", "_V2_1")),
]


def rows(path: Path | str, **options: Any) -> list[Row]:
    """(stamp in microseconds, channel, identifier with flags, payload, length)."""
    found = []
    for block in open_log(path, **options):
        for at in range(len(block)):
            remote = int(block.frame_id[at]) & RTR_FLAG
            length = int(block.length[at])
            data = b"" if remote else block.data[at, :length].tobytes()
            found.append(
                ((int(block.timestamp_ns[at]) + 500) // 1000, block.channels[block.channel[at]], int(block.frame_id[at]), data, length)
            )
    return found


def python_cans(path: Path) -> list[Row]:
    reader: Any
    if ".asc" in path.name:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        reader = can.io.ASCReader(io.StringIO(content.decode("utf-8", errors="replace")), relative_timestamp=False)
    elif path.suffix == ".blf":
        reader = can.io.BLFReader(str(path))
    else:
        reader = can.io.TRCReader(str(path))
    first = 1 if path.suffix == ".trc" else 0  # python-can numbers a TRC's buses from 1, the others' from 0
    found = []
    for message in reader:
        flags = ERR_FLAG if message.is_error_frame else EFF_FLAG * message.is_extended_id | RTR_FLAG * message.is_remote_frame
        data = b"" if message.is_remote_frame else bytes(message.data)
        length = min(message.dlc, 8) if message.is_remote_frame else len(data)
        channel = f"can{max(message.channel - first, 0)}"
        found.append((round(message.timestamp * 1e6), channel, message.arbitration_id | flags, data, length))
    return found


@pytest.mark.parametrize("name", PYTHON_CAN)
def test_python_cans_files_read_as_python_can_reads_them(data_dir: Path, name: str) -> None:
    path = data_dir / "logs" / "python_can" / name
    expected = python_cans(path)
    assert expected
    reader = open_log(path)
    for _ in reader:
        pass
    assert reader.skipped == 0
    assert rows(path) == expected


def test_one_capture_in_six_formats_is_one_sequence(data_dir: Path, tmp_path: Path) -> None:
    forms, sequences = {}, []
    for number, path in enumerate(sorted((data_dir / "logs" / "savvycan").iterdir())):
        if path.name == "LICENSE":
            continue
        copy = tmp_path / str(number)  # a name that says nothing
        shutil.copyfile(path, copy)
        reader = open_log(copy)
        sequence = [(int(block.frame_id[at]), block.data[at, : block.length[at]].tobytes()) for block in reader for at in range(len(block))]
        forms[path.name], sequences = reader.format, [*sequences, sequence]
        assert reader.skipped == 0
    assert forms == {
        "BusMasterLog.log": "busmaster",
        "CRTD_Log.txt": "crtd",
        "GVRET_Log.csv": "gvret",
        "GenericID_Log.csv": "generic-csv",
        "MicrochipLog.log": "microchip",
        "candump.log": "candump",
    }
    assert len(sequences[0]) == 12_974
    assert all(sequence == sequences[0] for sequence in sequences)


def test_stamps_have_the_units_of_their_formats(data_dir: Path) -> None:
    folder = data_dir / "logs" / "savvycan"
    first = {name: rows(folder / name)[0][0] for name in ("GVRET_Log.csv", "CRTD_Log.txt", "MicrochipLog.log", "candump.log")}
    assert first == {"GVRET_Log.csv": 166_064_000, "CRTD_Log.txt": 166_064_000, "MicrochipLog.log": 166_064_000, "candump.log": 166_000_000}
    # 23 September 2015, 22:20:14.992
    assert rows(folder / "BusMasterLog.log")[0][0] == 1_443_046_814_992_000


def test_columns_that_come_and_go(data_dir: Path) -> None:
    folder = data_dir / "logs" / "kona_ev"
    without = rows(folder / "221217-1-2021-pcan-bcan-no-key.csv")
    assert without[0] == (303_004_300, "can0", 0x450, bytes.fromhex("00C205"), 3)
    assert {row[1] for row in without} == {"can0", "can1"}
    with_direction = rows(folder / "250105-1-2020-comp-can-heating.csv")
    assert with_direction[1] == (22_214_519, "can0", 0x140, bytes.fromhex("013C0000BD000000"), 8)


def test_a_date_that_python_can_refuses(data_dir: Path) -> None:
    found = rows(data_dir / "logs" / "kona_ev" / "bms-idle-30sec.asc")
    assert found[0] == (1_699_562_193_000_000 + 153_600, "can0", 0x594, bytes.fromhex("34213421A0610420"), 8)


def test_mf4_equals_asammdfs_frames_in_order_of_time(data_dir: Path) -> None:
    import asammdf

    path = data_dir / "logs" / "css_electronics" / "j1939-truck.mf4"
    expected: list[tuple[int, str, int, bytes]] = []
    with asammdf.MDF(path) as mdf:
        start_us = round(mdf.header.start_time.timestamp() * 1e6)
        for group in (0, 23):

            def get(name: str, group: int = group) -> Any:
                return mdf.get(f"CAN_DataFrame.{name}", group=group)

            seconds, length = get("ID").timestamps, get("DataLength").samples
            fields = zip(
                seconds, get("BusChannel").samples, get("ID").samples, get("IDE").samples, get("DataBytes").samples, length, strict=True
            )
            expected += [
                (start_us + round(second * 1e6), f"can{int(bus) - 1}", int(number) | (EFF_FLAG if ide else 0), data[: int(size)].tobytes())
                for second, bus, number, ide, data, size in fields
            ]
    ours = [(round(int(stamp) / 1000), *rest) for stamp, *rest in _nanosecond_rows(path)]
    assert sorted(ours) == sorted(expected)
    stamps = [row[0] for row in ours]
    assert stamps == sorted(stamps)
    assert len(ours) == 150_411


def _nanosecond_rows(path: Path) -> list[tuple[int, str, int, bytes]]:
    return [
        (
            int(block.timestamp_ns[at]),
            block.channels[block.channel[at]],
            int(block.frame_id[at]),
            block.data[at, : block.length[at]].tobytes(),
        )
        for block in open_log(path)
        for at in range(len(block))
    ]


# ruff: noqa: E501
SYNTHETIC = [
    ("canhacker", b"Time   ID     DLC Data                    Comment\n59.990 18EA0003 8 BE FE 00 00 FF FF FF FF \n00,010 301      2 A6 07 hello\n",
     [(59_990_000, "can0", 0x18EA0003 | EFF_FLAG, bytes.fromhex("BEFE0000FFFFFFFF"), 8), (60_010_000, "can0", 0x301, b"\xa6\x07", 2)]),
    ("crtd", b"1.5 2T29 18DB33F1 02 01 00\n-0.25 R11 7e8 aa\n2.0 CEV Event a text\n",
     [(1_500_000, "can1", 0x18DB33F1 | EFF_FLAG, b"\x02\x01\x00", 3), (-250_000, "can0", 0x7E8, b"\xaa", 1)]),
    ("busmaster",
     b"***BUSMASTER Ver 3.2.2***\r\n***START DATE AND TIME 1:1:1970 0:0:0:000***\r\n***DEC***\r\n***ABSOLUTE MODE***\r\n"
     b"0:00:01:0005 Rx 1 291 s 2 255 16\r\n0:00:01:0006 Tx 2 0x418382091 x 0\r\n0:00:02:0000 Rx 1 17 sr 4\r\n",
     [(1_000_500, "can0", 0x123, b"\xff\x10", 2), (1_000_600, "can1", 418382091 | EFF_FLAG, b"", 0), (2_000_000, "can0", 17 | RTR_FLAG, b"", 4)]),
    ("microchip", b"Microchip Technology Inc.\nCAN BUS Analyzer\n-1.5;RX;0x7E8x;1;0x0A;\n2;TX;0x1FFFFFFF;0;\n",
     [(-1_500, "can0", 0x7E8 | EFF_FLAG, b"\x0a", 1), (2_000, "can0", 0x1FFFFFFF | EFF_FLAG, b"", 0)]),
    ("csv", b"timestamp,arbitration_id,extended,remote,error,dlc,data\n1.5,0xdadada,1,0,0,3,AQID\n2e-06,0x1,0,1,0,4,\n",
     [(1_500_000, "can0", 0xDADADA | EFF_FLAG, b"\x01\x02\x03", 3), (2, "can0", 1 | RTR_FLAG, b"", 4)]),
    ("generic-csv", b"ID,Data Bytes\n0x7E8,aa BB\n18DB33F1,\n", [(0, "can0", 0x7E8, b"\xaa\xbb", 2), (1000, "can0", 0x18DB33F1 | EFF_FLAG, b"", 0)]),
    ("gvret", b"Time Stamp,ID,Extended,Dir,Bus,LEN,D1,D2\n-5,0000021a,FALSE,Rx,2,1,fe,,\n7,1FFFFFFF,True,Tx,0,0,\n",
     [(-5, "can2", 0x21A, b"\xfe", 1), (7, "can0", 0x1FFFFFFF | EFF_FLAG, b"", 0)]),
    ("candump",
     b"  can0  123   [2]  11 AB\n (001.500000)  can1  18DB33F1   [3]  02 01 00   '...'\n (001.600000)  vcan0  7FF   [4]  remote request\n",
     [(0, "can0", 0x123, b"\x11\xab", 2), (1_500_000, "can1", 0x18DB33F1 | EFF_FLAG, b"\x02\x01\x00", 3), (1_600_000, "vcan0", 0x7FF | RTR_FLAG, b"", 4)]),
    ("candump", b"# a comment\n(1.000000) 123#11\n", [(1_000_000, "can0", 0x123, b"\x11", 1)]),
    ("asc", b"date Sat Sep 30 00:00:00 2017 UTC\nbase dec timestamps relative\n0.5 1 291 Rx d 2 255 16\n0.25 2 418382091x Tx d 0\n",
     [(1_506_729_600_500_000, "can0", 0x123, b"\xff\x10", 2), (1_506_729_600_750_000, "can1", 418382091 | EFF_FLAG, b"", 0)]),
]  # fmt: skip


@pytest.mark.parametrize(("form", "text", "expected"), SYNTHETIC)
def test_what_the_recorded_material_does_not_have(tmp_path: Path, form: str, text: bytes, expected: list[Row]) -> None:
    path = tmp_path / "log"
    for content in (
        text,
        gzip.compress(text),
        b"\xef\xbb\xbf" + text,
        text.replace(b"\r\n", b"\n").replace(b"\n", b"\r"),
        text + b"\0" * 5000,
    ):
        path.write_bytes(content)
        reader = open_log(path, strict=True)
        assert sum(len(block) for block in reader) == len(expected)
        assert reader.format == form
        assert rows(path) == expected


@pytest.mark.parametrize(("form", "text", "expected"), SYNTHETIC)
def test_a_broken_line_is_counted_with_its_number_and_stops_a_strict_reader(
    tmp_path: Path, form: str, text: bytes, expected: list[Row]
) -> None:
    path = tmp_path / "log"
    header = text.count(b"\n") + 1
    path.write_bytes(text + b"12:3 @@ no frame;\n")
    reader = open_log(path)
    frames = sum(len(block) for block in reader)
    assert (frames, reader.skipped, reader.first_skipped) == (len(expected), 1, header)
    with pytest.raises(LogFormatError, match=f":{header}: is no line of a {form} log"):
        rows(path, strict=True)


def test_terminal_output_before_the_first_frame(data_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "log"
    for name in ("GVRET_Log.csv", "CRTD_Log.txt", "MicrochipLog.log", "BusMasterLog.log"):
        path.write_bytes(b"Last login: Mon\nroot@car:~# start\n" + (data_dir / "logs" / "savvycan" / name).read_bytes())
        assert len(rows(path)) == 12_974


@pytest.mark.parametrize("suffix", [".log", ".asc", ".blf", ".mf4"])
def test_what_is_written_reads_back(data_dir: Path, tmp_path: Path, suffix: str) -> None:
    text = (
        b"(1700000820.298000) can0 085#7C33800047E07C7F\n(1700000820.298001) can1 12345678#\n(1700000821.000000) can0 7FF##1"
        + b"A5" * 64
        + b"\n(1700000821.000001) can0 085#R4\n(1700000821.000002) can2 20000000#\n"
    )
    path = tmp_path / f"log{suffix}"
    with open_log_writer(path) as writer:
        writer.write(CandumpParser().parse(text, 0))
    source = tmp_path / "source"
    source.write_bytes(text)
    assert rows(path) == rows(source)
    drive = data_dir / "logs" / "mustang_s550" / "mustang_s550.log"
    with open_log_writer(path) as writer:
        for block in open_log(drive):
            writer.write(block)
    assert rows(path) == rows(drive)
    assert [item.name for item in tmp_path.iterdir() if "partial" in item.name] == []


def test_a_failed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "log.asc"
    path.write_text("old")
    with pytest.raises(RuntimeError), open_log_writer(path):
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["ID", "IDE", "BusChannel", "DataLength", "EDL"])
def test_an_mf4_whose_channel_has_another_data_type_is_damaged(tmp_path: Path, name: str) -> None:
    import asammdf

    types: dict[str, Any] = {"ID": "<u4", "IDE": "u1", "BusChannel": "u1", "DataLength": "u1", "EDL": "u1", "DataBytes": ("u1", (8,))}
    types[name] = ("u1", (1,))  # bytes, as a bit error in the channel's block makes it
    fields = [(f"CAN_DataFrame.{field}", *(kind if isinstance(kind, tuple) else (kind,))) for field, kind in types.items()]
    path = tmp_path / "log.mf4"
    with asammdf.MDF(version="4.10") as mdf:
        mdf.append(asammdf.Signal(np.ones(24, fields), timestamps=np.arange(24) / 100, name="CAN_DataFrame"), common_timebase=True)
        mdf.save(path)
    with pytest.raises(LogFormatError, match=rf"damaged MF4 log: the channel CAN_DataFrame\.{name} is not one number a frame"):
        list(open_log(path))


def test_blocks_of_mf4_are_no_larger_than_asked_for(data_dir: Path) -> None:
    sizes = [len(block) for block in open_log(data_dir / "logs" / "css_electronics" / "j1939-truck.mf4", block_frames=1000)]
    assert max(sizes) <= 1000
    assert sum(sizes) == 150_411
    assert np.mean(sizes) > 900


def test_a_gvret_header_that_is_written_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"Time\tStamp , ID,Extended,Bus,LEN,D1\n5,21A,false,0,1,FE\n5,21A,false,0\n")
    reader = open_log(path)
    assert sum(len(block) for block in reader) == 1
    assert (reader.skipped, reader.first_skipped) == (1, 3)


def test_binary_logs_are_read_without_python_can_and_what_it_brings(tmp_path: Path) -> None:
    messages = [
        can.Message(timestamp=1.5, arbitration_id=0x123, is_extended_id=False, data=b"12345678"),
        can.Message(timestamp=1.75, arbitration_id=0x1ABCDEF0, is_extended_id=True, data=b"1"),
        can.Message(timestamp=2.000001, arbitration_id=0x7FF, is_extended_id=False, is_remote_frame=True, dlc=3),
        can.Message(timestamp=2.5, arbitration_id=4, is_extended_id=False, is_error_frame=True),
        can.Message(timestamp=3.5, arbitration_id=5, is_extended_id=False, data=b""),
    ]
    for path, writer in ((tmp_path / "log.db", can.SqliteWriter), (tmp_path / "log.blf", can.BLFWriter)):
        with writer(str(path)) as log:
            for message in messages:
                log.on_message_received(message)
    code = (
        "import sys\nfrom dbc.logs import open_log\n"
        f"for name in ({str(tmp_path / 'log.db')!r}, {str(tmp_path / 'log.blf')!r}):\n"
        "    for b in open_log(name):\n"
        "        print(b.frame_id.tolist(), b.length.tolist(), [d[:n].tobytes() for d, n in zip(b.data, b.length)])\n"
        "print(sorted({'can', 'cantools', 'pandas', 'asammdf'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2], check=True)
    sqlite, blf, modules = done.stdout.splitlines()
    identifiers = [0x123, EFF_FLAG | 0x1ABCDEF0, RTR_FLAG | 0x7FF, ERR_FLAG | 4, 5]
    assert sqlite == f"{identifiers} [8, 1, 3, 0, 0] {[b'12345678', b'1', bytes(3), b'', b'']}"
    assert blf.startswith(str([0x123, EFF_FLAG | 0x1ABCDEF0, RTR_FLAG | 0x7FF])[:-1])
    assert modules == "[]"
