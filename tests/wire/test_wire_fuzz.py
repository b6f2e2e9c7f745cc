"""Hostile bytes into every reader: nothing but a `WireError` comes out, and nothing that was altered is taken for genuine.

Mutations of the test vectors, from seeds, so that a failure comes back: it names its seed. The long form is a million inputs:
`make soak ARGS=tests/wire/test_wire_fuzz.py`.
"""

import json
import os
import random
import tempfile
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import make_vectors as vectors
import numpy as np
from cryptography import x509

from wire.codec import MAX_CELLS, decode_rows, encode_rows
from wire.envelope import StreamOpener, read_announcement
from wire.errors import WireError
from wire.messages import Kind, Rows, decode_message, encode_message
from wire.packing import compress, decompress
from wire.receipts import AnnouncementRequest, Receipt, decode_downlink, encode_receipt, encode_request
from wire.recipients import RecipientKey, read_recipient
from wire.segment_file import Scan, encode_record
from wire.segment_log import SegmentLog

INPUTS = 1_000_000 if os.environ.get("CANSIGHT_SOAK") else 12_000
WORTH = [0, 1, 2, 0x7F, 0x80, 0xFF]


def load(name: str) -> Any:
    return json.loads((vectors.FOLDER / f"{name}.json").read_text())


def mutated(choice: random.Random, seed: bytes, others: list[bytes]) -> bytes:
    """Some bits, bytes or runs changed; cut, repeated, or spliced with another input."""
    data = bytearray(seed)
    for _ in range(choice.choice((1, 1, 1, 2, 5))):
        at = choice.randrange(len(data) + 1)
        what = choice.randrange(8)
        if what == 0 and at < len(data):
            data[at] ^= 1 << choice.randrange(8)
        elif what == 1 and at < len(data):
            data[at] = choice.choice(WORTH)
        elif what == 2:
            del data[at : at + choice.choice((1, 2, 7, len(data)))]
        elif what == 3:
            data[at:at] = choice.randbytes(choice.choice((1, 2, 9)))
        elif what == 4:
            data[at:at] = data[max(0, at - choice.randrange(1, 20)) : at]
        elif what == 5:
            data[at : at + 4] = choice.choice((bytes(4), b"\xff" * 4, b"\x7f\xff\xff\xff", choice.randbytes(4)))
        elif what == 6:
            other = choice.choice(others)
            data[at:] = other[choice.randrange(len(other) + 1) :]
        elif at < len(data):
            data[at] = choice.randrange(256)
    return bytes(data)


class Targets:
    """Each takes hostile bytes, and returns whether they were read; it asserts what must hold of what was read."""

    def __init__(self) -> None:
        self.rows = [(bytes.fromhex(case["body"]), self._rows(case["baseline"])) for case in load("rows")]
        self.bodies = [decompress(body, 1 << 20) for body, _ in self.rows]
        self.messages = [(Kind(case["kind"]), decompress(bytes.fromhex(case["body"]), 1 << 20)) for case in load("messages")]
        stream = load("stream")
        self.opener = StreamOpener(stream["vehicle"], bytes.fromhex(stream["stream"]), bytes.fromhex(stream["content_key"]))
        self.batches = [bytes.fromhex(batch["data"]) for batch in stream["batches"]]
        case = load("announcement")
        private = RecipientKey(bytes.fromhex(case["recipient_secret"]))
        self.keys = {private.key_id: private}
        self.ca = x509.load_pem_x509_certificate(case["fleet_ca"].encode())
        self.now = datetime.fromisoformat(case["now"])
        self.document = case["recipient_document"].encode()
        self.recipient = read_recipient(self.document, self.ca, self.now.timestamp())
        self.announcement_message = bytes.fromhex(case["data"])
        self.downlinks = [bytes.fromhex(one["data"]) for one in load("downlinks")]
        self.log = bytes.fromhex(load("segment")["data"])

    @staticmethod
    def _rows(given: dict[str, Any] | None) -> Rows | None:
        return None if given is None else vectors.rows(**(given | {"raw": [[int(cell) for cell in row] for row in given["raw"]]}))

    def packed_rows(self, choice: random.Random) -> None:
        at = choice.randrange(len(self.rows))
        body, baseline = self.rows[at]
        if choice.random() < 0.8:  # behind the compression, which would refuse nearly everything
            body = b"\0" + mutated(choice, self.bodies[at], self.bodies)
        else:
            body = mutated(choice, body, [one for one, _ in self.rows])
        found = decode_rows(body, baseline)
        assert found.raw.size <= MAX_CELLS
        again = decode_rows(encode_rows(found, baseline), baseline)
        assert np.array_equal(again.raw, found.raw)
        assert np.array_equal(again.reason, found.reason)
        assert np.array_equal(again.tick_ms, found.tick_ms)

    def message(self, choice: random.Random) -> None:
        kind, plain = choice.choice(self.messages)
        body = b"\0" + mutated(choice, plain, [plain for _, plain in self.messages])
        found = decode_message(kind, body if choice.randrange(2) else compress(body[1:]))
        assert encode_message(found)[0] is kind

    def batch(self, choice: random.Random) -> None:
        data = mutated(choice, choice.choice(self.batches), self.batches)
        self.opener.open(data)
        assert data in self.batches, "a forgery was accepted"

    def announcement(self, choice: random.Random) -> None:
        data = mutated(choice, self.announcement_message, self.batches)
        read_announcement(data, self.keys, self.ca, self.now)
        assert data == self.announcement_message, "a forgery was accepted"

    def recipient_document(self, choice: random.Random) -> None:
        data = mutated(choice, self.document, [self.document])
        found = read_recipient(data, self.ca, self.now.timestamp())
        assert (found.public, found.not_after) == (self.recipient.public, self.recipient.not_after), "a forgery was accepted"

    def downlink(self, choice: random.Random) -> None:
        data = mutated(choice, choice.choice(self.downlinks), self.downlinks)
        said = decode_downlink(data)
        if isinstance(said, AnnouncementRequest):
            assert encode_request(said.stream) == data
        else:
            assert isinstance(said, Receipt)
            assert encode_receipt(said.stream, [(one.sequence, one.status, one.tag) for one in said.entries]) == data

    def segment(self, choice: random.Random) -> None:
        salt = 0xC0FFEE42
        data = mutated(choice, self.log, [encode_record(0, 3, b"another's"), self.log])
        found = list(Scan(data, salt).records())
        genuine = {payload for _, _, payload in Scan(self.log, salt).records()}
        assert all(payload in genuine for _, _, payload in found), "a record was made up"


def test_hostile_bytes_make_wire_errors_and_nothing_altered_is_accepted() -> None:
    targets = Targets()
    shares: list[tuple[Callable[[random.Random], None], int]] = [
        (targets.packed_rows, 30), (targets.message, 20), (targets.batch, 25), (targets.announcement, 4),
        (targets.recipient_document, 3), (targets.downlink, 10), (targets.segment, 8),
    ]  # fmt: skip
    turns = [target for target, share in shares for _ in range(share)]
    read: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    several_lines = 0
    for number in range(INPUTS):
        choice = random.Random(number)
        target = turns[number % len(turns)]
        try:
            target(choice)
        except WireError as error:
            refused[type(error).__name__] += 1
            several_lines += "\n" in str(error)
        except Exception as error:
            raise AssertionError(f"seed {number}, {target.__name__}: {type(error).__name__}: {error}") from error
        else:
            read[target.__name__] += 1
    print(f"{INPUTS:,} inputs: refused {dict(refused)}, read {dict(read)}")
    assert refused.keys() >= {"FormatError", "AuthenticationError"}
    assert sum(refused.values()) > INPUTS / 2
    assert not several_lines
    assert read["packed_rows"], "mutations must get past the first checks"


def test_a_log_of_hostile_bytes_is_opened() -> None:
    """Whole files, which recovery cuts and goes on in."""
    log = bytes.fromhex(load("segment")["data"])
    for number in range(INPUTS // 100):
        choice = random.Random(number)
        # In memory where there is such a file system: it is the bytes that matter.
        with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as name:
            (Path(name) / load("segment")["name"]).write_bytes(mutated(choice, log, [log]))
            with SegmentLog(Path(name)) as opened:
                before = dict(opened.read())
                last = opened.append(b"goes on")
                opened.sync()
                assert dict(opened.read()) == before | {last: b"goes on"}
