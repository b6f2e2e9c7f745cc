"""Writes tests/wire/vectors/*.json with the package's own code: `python tests/wire/make_vectors.py`.

The vectors pin the format: they are made again only when docs/wire.md changes. Keys in them are for tests alone. Signatures and
HPKE are randomised, so the announcement differs at every run; everything else is the same.
"""

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np
from cryptography.hazmat.primitives.serialization import Encoding

from cloud import pki
from wire.codec import encode_rows
from wire.envelope import StreamSealer, announce
from wire.header import Header
from wire.messages import (
    Announcement,
    Clock,
    Contribution,
    FindingMessage,
    Gap,
    Kind,
    Rows,
    StatusMessage,
    Window,
    encode_message,
    pack_columns,
)
from wire.receipts import Status, encode_receipt, encode_request, receipt_tag
from wire.recipients import load_recipient_keys, read_recipient
from wire.segment_file import encode_record

FOLDER = Path(__file__).parent / "vectors"
VEHICLE = "0123456789abcdef"
STREAM = bytes(range(16))
KEY = bytes(range(100, 132))
LOWEST, HIGHEST = -(2**63), 2**63 - 1


def rows(tick_ms: list[int], raw: list[list[int]], reason: list[list[int]], widths: list[list[int]] | None = None) -> Rows:
    hints = None if widths is None else np.array(widths, np.uint8)
    return Rows(np.array(tick_ms, np.int64), np.array(raw, np.int64), np.array(reason, np.uint8), hints)


def plain(value: Rows | None) -> dict[str, Any] | None:
    if value is None:
        return None
    return {
        "tick_ms": value.tick_ms.tolist(),
        "raw": [[str(cell) for cell in row] for row in value.raw.tolist()],  # strings: JSON readers round what float64 cannot hold
        "reason": value.reason.tolist(),
        "widths": None if value.widths is None else value.widths.tolist(),
    }


BASE = rows([1_700_000_820_000], [[5, 0, -7, 100, HIGHEST]], [[0, 1, 0, 0, 0]])
HINTED = rows([1_700_000_820_000], [[5, 0, -7, 100, 3]], [[0, 0, 0, 0, 0]], [[3, 0, 1, 0, 7], [2, 0, 1, 0, 6]])
ROWS = {
    "a baseline": (BASE, None),
    "a baseline with expected widths": (HINTED, None),
    "nothing changed": (rows([1_700_000_822_000], [[5, 0, -7, 100, HIGHEST]], [[0, 1, 0, 0, 0]]), BASE),
    "one column changes": (rows([1_700_000_821_000], [[6, 0, -7, 100, HIGHEST]], [[0, 1, 0, 0, 0]]), BASE),
    "two ticks, reasons change": (
        rows([1_700_000_821_000, 1_700_000_822_000], [[5, 12, -9, 100, 1], [5, 13, -9, 101, 0]], [[0, 0, 0, 0, 0], [0, 0, 2, 0, 0]]),
        BASE,
    ),
    "64-bit wrap": (
        rows([1_700_000_821_000, 1_700_000_823_000], [[5, 0, -7, 100, LOWEST], [LOWEST, 0, -7, 100, HIGHEST]], [[0, 1, 0, 0, 0]] * 2),
        BASE,
    ),
    "milliseconds, before the baseline": (
        rows([1_700_000_819_500, 1_700_000_819_501], [[5, 0, -7, 100, 0]] * 2, [[0, 1, 0, 0, 0]] * 2),
        BASE,
    ),
    "expected widths, as expected": (
        rows([1_700_000_821_000, 1_700_000_822_000], [[9, 0, -8, 100, -40], [7, 0, -7, 100, -60]], [[0] * 5] * 2),
        HINTED,
    ),
    "expected widths, otherwise": (rows([1_700_000_821_000], [[5, 900, -7, 100, 3]], [[0] * 5]), HINTED),
    "no columns": (rows([1000, 2000, 3000], [[], [], []], [[], [], []]), None),
    "many ticks, compressed": (
        rows([1000 * tick for tick in range(1, 121)], [[tick // 40, 1 << 40] for tick in range(120)], [[0, 0]] * 120),
        None,
    ),
}

MESSAGES = [
    FindingMessage(
        finding_id=STREAM,
        state="active",
        pack_id="coolant-1",
        fault_code="CE-COOL-01",
        tick_ms=1_700_000_822_000,
        since_ms=1_700_000_812_000,
        score=4.25,
        threshold=2.5,
        p_value=0.001,
        contributions=[Contribution(signal="Cooling.Flow", unit="l/min", expected=12.5, seen=12.125, share=0.75)],
        window=Window(
            tick_ms=[1_700_000_821_000, 1_700_000_822_000], signals=["score", "Cooling.Flow"], values=[[1.5, 4.25], [None, 12.125]]
        ),
    ),
    FindingMessage(
        finding_id=STREAM[::-1],
        state="cleared",
        pack_id="coolant-1",
        fault_code="CE-COOL-01",
        tick_ms=1_700_000_922_000,
        since_ms=1_700_000_812_000,
        score=0.5,
        threshold=2.5,
        p_value=None,
        contributions=[],
        window=Window(tick_ms=[], signals=[], values=[]),
        repeats=3,
    ),
    Gap(stream=STREAM, first=7, last=9, reason="the outbox was full"),
    StatusMessage(tick_ms=1_700_000_822_000, state="running", counters={"frames": 87212.0}),
    Clock(boot_ms=5000, utc_ms=1_700_000_822_000, source="system"),
]


def refused() -> list[dict[str, Any]]:
    """Bodies of rows that a reader must not take, from one that it takes."""
    value, baseline = ROWS["two ticks, reasons change"]
    body = encode_rows(value, baseline)
    assert body[0] == 0, "not compressed"
    flags, ticks, rest = body[1], body[2], body[3:]
    cases = {
        "an unknown mode": b"\x02" + body[1:],
        "an unknown flag": bytes([0, flags | 16, ticks]) + rest,
        "not against the baseline": bytes([0, flags & ~1, ticks]) + rest,
        "expected widths outside a baseline": bytes([0, flags | 8, ticks]) + rest,
        "no tick": bytes([0, flags, 0]) + rest,
        "a number longer than needed": bytes([0, flags, ticks | 0x80, 0]) + rest,
        "a byte left over": body + b"\0",
        "it ends early": body[:-1],
        "more columns than the stream has": bytes([0, flags, ticks, rest[0], 6]) + rest[2:],
        "nothing": b"",
    }
    return [{"name": name, "baseline": plain(baseline), "body": case.hex()} for name, case in cases.items()]


def bytes_hex(value: Any) -> Any:
    """bytes -> hexadecimal, in a tree of builtins."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {key: bytes_hex(item) for key, item in value.items()}
    return [bytes_hex(item) for item in value] if isinstance(value, list) else value


def builtins(message: Any) -> Any:
    return bytes_hex(msgspec.to_builtins(message, builtin_types=(bytes,)))


def batches() -> list[dict[str, Any]]:
    sealer = StreamSealer(VEHICLE, STREAM, KEY)
    made = []
    for kind, body in [(Kind.ROWS, encode_rows(*ROWS["one column changes"])), *(encode_message(message) for message in MESSAGES)]:
        sealed = sealer.seal(kind, body)
        tags = {status.name: tag.hex() for status, tag in sealed.tags.items()}
        made.append({"sequence": sealed.header.sequence, "kind": int(kind), "body": body.hex(), "data": sealed.data.hex(), "tags": tags})
    return made


def announcement() -> dict[str, Any]:
    message = Announcement(
        boot_id=bytes(range(16, 32)),
        clock=Clock(boot_ms=0, utc_ms=0, source="log"),
        schema_id=bytes(range(32, 48)),
        consent_class="technical",
        columns=pack_columns(np.array([1, 0, 1, 1, 0, 0, 0, 0, 1, 1], np.bool_)),
        pack_ids=["coolant-1"],
        campaign_id="default",
        agent="cansight 0.1.0",
        baseline=encode_rows(HINTED, None),
    )
    with TemporaryDirectory() as temporary:
        folder = Path(temporary) / "fleet"
        pki.init(folder)
        pki.vehicle(folder, VEHICLE)
        ca, _ = pki.load_ca(folder)
        document = (folder / "recipient.json").read_bytes()
        recipient = read_recipient(document, ca, time.time())
        private = load_recipient_keys([folder / "recipient.key"])[recipient.key_id]
        stem = folder / "vehicles" / VEHICLE
        certificate, key = pki.load_certificate(stem.with_suffix(".pem")), pki.load_key(stem.with_suffix(".key"))
        sealed = announce(StreamSealer(VEHICLE, STREAM, KEY), message, [recipient], certificate, key)
        return {
            "now": datetime.now(UTC).isoformat(timespec="seconds"),
            "fleet_ca": ca.public_bytes(Encoding.PEM).decode(),
            "recipient_document": document.decode(),
            "recipient_secret": private.secret.hex(),
            "recipient_key_id": recipient.key_id.hex(),
            "data": sealed.data.hex(),
            "content_key": KEY.hex(),
            "announcement": builtins(message),
            "column_indices": [0, 2, 3, 8, 9],
            "baseline": plain(HINTED),
        }


def downlinks() -> list[dict[str, Any]]:
    entries = [
        (sequence, status, receipt_tag(KEY, Header(VEHICLE, STREAM, sequence).pack(), status)) for sequence, status in enumerate(Status)
    ]
    listed = [{"sequence": sequence, "status": int(status), "tag": tag.hex()} for sequence, status, tag in entries]
    return [
        {"data": encode_receipt(STREAM, entries).hex(), "type": "receipt", "stream": STREAM.hex(), "entries": listed},
        {"data": encode_request(STREAM).hex(), "type": "request", "stream": STREAM.hex()},
    ]


def segment() -> dict[str, Any]:
    salt, first = 0xC0FFEE42, 1000
    payloads = [b"", b"one", bytes(40)]
    data = b"".join(encode_record(salt, first + index, payload) for index, payload in enumerate(payloads))
    return {"name": f"{first:020d}-{salt:08x}.seg", "data": data.hex(), "payloads": [payload.hex() for payload in payloads]}


def main() -> None:
    cases = [
        {"name": name, "baseline": plain(baseline), "body": encode_rows(value, baseline).hex(), "rows": plain(value)}
        for name, (value, baseline) in ROWS.items()
    ]
    stream = {"vehicle": VEHICLE, "stream": STREAM.hex(), "content_key": KEY.hex(), "batches": batches()}
    messages = [
        {"kind": int(kind), "body": body.hex(), "message": builtins(message)}
        for message in MESSAGES
        for kind, body in [encode_message(message)]
    ]
    files = {
        "rows": cases,
        "refused": refused(),
        "messages": messages,
        "stream": stream,
        "announcement": announcement(),
        "downlinks": downlinks(),
        "segment": segment(),
    }
    for name, content in files.items():
        (FOLDER / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
