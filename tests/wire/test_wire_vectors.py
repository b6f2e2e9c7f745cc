"""The vectors of docs/wire.md: a decoder written from the document reads what the package makes, and the package makes it still."""

import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

sys.path.insert(0, str(Path(__file__).parent))  # the two scripts beside this file

import make_vectors as vectors
import second_decoder as second

from wire.codec import decode_rows, encode_rows
from wire.envelope import StreamOpener, StreamSealer, read_announcement
from wire.errors import FormatError
from wire.messages import Kind, Rows, decode_message
from wire.receipts import Status, decode_downlink
from wire.recipients import RecipientKey, read_recipient
from wire.segment_log import SegmentLog


def load(name: str) -> Any:
    return json.loads((vectors.FOLDER / f"{name}.json").read_text())


def numbers(rows: dict[str, Any] | None) -> dict[str, Any] | None:
    return None if rows is None else rows | {"raw": [[int(cell) for cell in row] for row in rows["raw"]]}


def as_rows(rows: dict[str, Any] | None) -> Rows | None:
    given = numbers(rows)
    return None if given is None else vectors.rows(**given)


@pytest.mark.parametrize("case", load("rows"), ids=lambda case: case["name"])
def test_rows(case: dict[str, Any]) -> None:
    body, baseline = bytes.fromhex(case["body"]), as_rows(case["baseline"])
    assert second.read_rows(body, numbers(case["baseline"])) == numbers(case["rows"])
    assert vectors.plain(decode_rows(body, baseline)) == case["rows"]
    if body[0] == 0:  # what zstd makes of the others may differ from version to version
        expected = as_rows(case["rows"])
        assert expected is not None
        assert encode_rows(expected, baseline) == body


@pytest.mark.parametrize("case", load("refused"), ids=lambda case: case["name"])
def test_rows_that_are_refused(case: dict[str, Any]) -> None:
    body = bytes.fromhex(case["body"])
    with pytest.raises(FormatError):
        decode_rows(body, as_rows(case["baseline"]))
    with pytest.raises((AssertionError, IndexError)):
        second.read_rows(body, numbers(case["baseline"]))


@pytest.mark.parametrize("case", load("messages"), ids=lambda case: Kind(case["kind"]).name)
def test_messages(case: dict[str, Any]) -> None:
    body = bytes.fromhex(case["body"])
    assert second.read_message(body) == case["message"]
    assert vectors.builtins(decode_message(Kind(case["kind"]), body)) == case["message"]


def test_batches_and_their_tags() -> None:
    stream = load("stream")
    key, vehicle, identity = bytes.fromhex(stream["content_key"]), stream["vehicle"], bytes.fromhex(stream["stream"])
    sealer, opener = StreamSealer(vehicle, identity, key), StreamOpener(vehicle, identity, key)
    for batch in stream["batches"]:
        data, body = bytes.fromhex(batch["data"]), bytes.fromhex(batch["body"])
        assert second.read_header(data) == (vehicle, identity, batch["sequence"])
        assert second.decrypt(key, data[:29], data[29:]) == (batch["kind"], body)
        assert opener.open(data)[1:] == (Kind(batch["kind"]), body)
        sealed = sealer.seal(Kind(batch["kind"]), body)
        assert sealed.data == data
        for status in Status:
            tag = bytes.fromhex(batch["tags"][status.name])
            assert second.receipt_tag(key, data[:29], status) == tag == sealed.tags[status]


def test_announcement_and_recipient() -> None:
    case = load("announcement")
    ca, data = x509.load_pem_x509_certificate(case["fleet_ca"].encode()), bytes.fromhex(case["data"])
    private, now = RecipientKey(bytes.fromhex(case["recipient_secret"])), datetime.fromisoformat(case["now"])

    assert second.read_recipient(case["recipient_document"], ca) == private.public()
    assert read_recipient(case["recipient_document"].encode(), ca, now.timestamp()).key_id.hex() == case["recipient_key_id"]

    key, message = second.read_announcement(data, private.secret, ca)
    assert key.hex() == case["content_key"]
    assert message == case["announcement"]
    assert second.read_rows(bytes.fromhex(message["baseline"]), None) == numbers(case["baseline"])

    opened = read_announcement(data, {private.key_id: private}, ca, now)
    assert opened.key == key
    assert vectors.builtins(opened.announcement) == case["announcement"]
    assert opened.columns.tolist() == case["column_indices"]
    assert vectors.plain(opened.baseline) == case["baseline"]


@pytest.mark.parametrize("case", load("downlinks"), ids=lambda case: case["type"])
def test_downlinks(case: dict[str, Any]) -> None:
    data = bytes.fromhex(case["data"])
    assert second.read_downlink(data) == {key: value for key, value in case.items() if key != "data"}
    message = decode_downlink(data)
    assert message.stream.hex() == case["stream"]
    made = [downlink for downlink in vectors.downlinks() if downlink["type"] == case["type"]]
    assert made == [case]


def test_segment(tmp_path: Path) -> None:
    case = load("segment")
    expected = [(1000 + index, bytes.fromhex(payload)) for index, payload in enumerate(case["payloads"])]
    assert second.read_segment(case["name"], bytes.fromhex(case["data"])) == expected
    assert vectors.segment() == case
    (tmp_path / case["name"]).write_bytes(bytes.fromhex(case["data"]))
    with SegmentLog(tmp_path) as log:
        assert list(log.read()) == expected
