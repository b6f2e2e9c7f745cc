"""A second reader of docs/wire.md, written from the document alone: no code of the package, no NumPy, no msgspec.

Standard library, `cryptography` and, for zstd frames, `zstandard`. It is small and slow, and checks what it is given.
"""

import base64
import hashlib
import hmac
import json
import struct
import zlib
from typing import Any

import zstandard
from cryptography import x509
from cryptography.hazmat.primitives import hashes, hpke
from cryptography.hazmat.primitives.asymmetric import ec, mlkem, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

MASK = (1 << 64) - 1


def signed64(value: int) -> int:
    value &= MASK
    return value - (1 << 64) if value >> 63 else value


def unzigzag(value: int) -> int:
    return value >> 1 if value % 2 == 0 else -(value >> 1) - 1


def unpack(data: bytes) -> bytes:
    if data[0] == 0:
        return data[1:]
    assert data[0] == 1
    return zstandard.ZstdDecompressor().decompress(b"\x28\xb5\x2f\xfd" + data[1:])


def varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            assert byte or shift == 7, "longer than needed"
            return value, at


class Bits:
    def __init__(self, data: bytes) -> None:
        self.bits = [byte >> bit & 1 for byte in data for bit in range(8)]
        self.at = 0

    def field(self, width: int) -> int:
        bits = self.bits[self.at : self.at + width]
        assert len(bits) == width
        self.at += width
        return sum(bit << place for place, bit in enumerate(bits))

    def rice(self, count: int) -> list[int]:
        if count == 0:
            return []
        k = self.field(6)
        high = []
        for _ in range(count):
            zeros = 0
            while self.field(1) == 0:
                zeros += 1
            high.append(zeros)
        return [zeros << k | self.field(k) for zeros in high]

    def end(self) -> None:
        assert len(self.bits) - self.at < 8
        assert not any(self.bits[self.at :])


def columns_from_gaps(gaps: list[int]) -> list[int]:
    columns, last = [], -1
    for gap in gaps:
        last += gap + 1
        columns.append(last)
    return columns


def read_rows(body: bytes, baseline: dict[str, Any] | None) -> dict[str, Any]:
    data = unpack(body)
    flags, at = data[0], 1
    assert bool(flags & 1) == (baseline is not None)
    assert flags < 16
    ticks, at = varint(data, at)
    assert 1 <= ticks <= 3600
    start, at = varint(data, at)
    if baseline is None:
        width, at = varint(data, at)
        baseline = {"tick_ms": [0], "raw": [[0] * width], "reason": [[0] * width], "widths": None}
    m = len(baseline["raw"][0])
    count, at = varint(data, at)
    reasons, at = varint(data, at) if flags & 4 else (0, at)
    assert count <= m
    widths = None
    if flags & 8:
        assert not flags & 1
        widths = [list(data[at : at + m]), list(data[at + m : at + 2 * m])]
        at += 2 * m
    bits = Bits(data[at:])

    unit = 1000 if flags & 2 else 1
    tick_ms = [baseline["tick_ms"][0] + unzigzag(start) * unit]
    for step in bits.rice(ticks - 1):
        tick_ms.append(tick_ms[-1] + (step + 1) * unit)

    expected = baseline["widths"] or [[0] * m, [0] * m]
    listed = set(columns_from_gaps(bits.rice(count)))
    changed = [column for column in range(m) if (expected[0][column] > 0) != (column in listed)]

    reason_columns = columns_from_gaps(bits.rice(reasons))
    flips = bits.rice(reasons * ticks)
    reason = []
    for tick in range(ticks):
        row = list(reason[-1] if reason else baseline["reason"][0])
        for place, column in enumerate(reason_columns):
            row[column] ^= flips[tick * reasons + place]
        reason.append(row)

    width_codes = bits.rice(len(changed)) + bits.rice(len(changed) * (ticks - 1))
    delta_widths = []
    for place, code in enumerate(width_codes):
        column = changed[place % len(changed)]
        first = place < len(changed)
        hint = expected[0 if first else 1][column] if expected[0][column] > 0 else (5 if first else 2)
        delta_widths.append(unzigzag(code) + hint)
    deltas = [0 if size == 0 else bits.field(size - 1) | 1 << (size - 1) for size in delta_widths]
    bits.end()
    raw = []
    for tick in range(ticks):
        row = list(raw[-1] if raw else baseline["raw"][0])
        for place, column in enumerate(changed):
            row[column] = signed64(row[column] + unzigzag(deltas[tick * len(changed) + place]))
        raw.append(row)
    return {"tick_ms": tick_ms, "raw": raw, "reason": reason, "widths": widths}


def msgpack(data: bytes) -> Any:
    value, at = _msgpack(data, 0)
    assert at == len(data)
    return value


def _msgpack(data: bytes, at: int) -> tuple[Any, int]:
    lead = data[at]
    at += 1
    constants = {0xC0: None, 0xC2: False, 0xC3: True}
    numbers = {0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q", 0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q"}
    sized = {0xC4: (">B", bytes), 0xC5: (">H", bytes), 0xD9: (">B", str), 0xDA: (">H", str), 0xDC: (">H", list), 0xDE: (">H", dict)}
    if lead <= 0x7F or lead >= 0xE0:
        return lead if lead <= 0x7F else lead - 256, at
    if lead in constants:
        return constants[lead], at
    if lead in numbers:
        layout = numbers[lead]
        return struct.unpack_from(layout, data, at)[0], at + struct.calcsize(layout)
    if lead in sized:
        layout, kind = sized[lead]
        size = struct.unpack_from(layout, data, at)[0]
        at += struct.calcsize(layout)
    else:
        size, kind = (lead & 0x1F, str) if 0xA0 <= lead <= 0xBF else (lead & 0x0F, list if lead & 0xF0 == 0x90 else dict)
    if kind in (bytes, str):
        raw = data[at : at + size]
        return raw.decode() if kind is str else raw.hex(), at + size
    items = []
    for _ in range(size * (2 if kind is dict else 1)):
        item, at = _msgpack(data, at)
        items.append(item)
    return dict(zip(items[::2], items[1::2], strict=True)) if kind is dict else items, at


def read_message(body: bytes) -> Any:
    return msgpack(unpack(body))


def read_header(data: bytes) -> tuple[str, bytes, int]:
    version, vehicle, stream, sequence = struct.unpack_from(">B8s16sI", data)
    assert version == 1
    return vehicle.hex(), stream, sequence


def decrypt(key: bytes, header: bytes, ciphertext: bytes) -> tuple[int, bytes]:
    nonce = bytes(8) + header[25:29]
    plain = AESGCM(key).decrypt(nonce, ciphertext, header)
    return plain[0], plain[1:]


def receipt_tag(key: bytes, header: bytes, status: int) -> bytes:
    tag_key = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=b"receipt").derive(key)
    return hmac.new(tag_key, header + bytes([status]), hashlib.sha256).digest()[:16]


def read_announcement(data: bytes, secret: bytes, fleet_ca: x509.Certificate) -> tuple[bytes, Any]:
    """(content key, message), after every check that docs/wire.md asks for but the dates."""
    header, at = data[:29], 29
    assert read_header(header)[2] == 0
    count, at = data[at], at + 1
    wraps = {}
    for _ in range(count):
        identity, size = struct.unpack_from(">8sH", data, at)
        wraps[identity] = data[at + 10 : at + 10 + size]
        at += 10 + size
    size = struct.unpack_from(">H", data, at)[0]
    certificate = x509.load_der_x509_certificate(data[at + 2 : at + 2 + size])
    at += 2 + size
    size = struct.unpack_from(">I", data, at)[0]
    ciphertext = data[at + 4 : at + 4 + size]
    at += 4 + size

    certificate.verify_directly_issued_by(fleet_ca)
    assert certificate.subject.rfc4514_string() == f"CN={read_header(header)[0]}"
    public_key = certificate.public_key()
    assert isinstance(public_key, ec.EllipticCurvePublicKey)
    public_key.verify(data[at:], data[:at], ec.ECDSA(hashes.SHA256()))

    seed, scalar = secret[:64], secret[64:]
    mlkem_key, x25519_key = mlkem.MLKEM768PrivateKey.from_seed_bytes(seed), x25519.X25519PrivateKey.from_private_bytes(scalar)
    public = mlkem_key.public_key().public_bytes_raw() + x25519_key.public_key().public_bytes_raw()
    suite = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
    wrapped = wraps[hashlib.sha256(public).digest()[:8]]
    key = suite.decrypt(wrapped, hpke.MLKEM768X25519PrivateKey(mlkem_key, x25519_key), b"cansight announcement 1" + header)
    kind, body = decrypt(key, header, ciphertext)
    assert kind == 0
    return key, read_message(body)


def read_downlink(data: bytes) -> dict[str, Any]:
    version, kind, stream = struct.unpack_from(">BB16s", data)
    assert version == 1
    if kind == 2:
        assert len(data) == 18
        return {"type": "request", "stream": stream.hex()}
    assert kind == 1
    count = struct.unpack_from(">H", data, 18)[0]
    entries = [struct.unpack_from(">IB16s", data, 20 + 21 * index) for index in range(count)]
    assert len(data) == 20 + 21 * count
    listed = [{"sequence": sequence, "status": status, "tag": tag.hex()} for sequence, status, tag in entries]
    return {"type": "receipt", "stream": stream.hex(), "entries": listed}


def read_recipient(document: str, fleet_ca: x509.Certificate) -> bytes:
    fields = json.loads(document)
    assert fields["format"] == "cansight recipient 1"
    public = base64.b64decode(fields["public_key"])
    ca_key = fleet_ca.public_key()
    assert isinstance(ca_key, ec.EllipticCurvePublicKey)
    signed = b"cansight recipient 1" + struct.pack(">Q", fields["not_after"]) + public
    ca_key.verify(base64.b64decode(fields["signature"]), signed, ec.ECDSA(hashes.SHA256()))
    return public


def read_segment(name: str, data: bytes) -> list[tuple[int, bytes]]:
    first, salt = int(name[:20]), int(name[21:29], 16)
    records, at = [], 0
    while at < len(data):
        marker, size, position, payload_crc, header_crc = struct.unpack_from(">4sIQII", data, at)
        payload = data[at + 24 : at + 24 + size]
        assert marker == b"\xc5\x1a\x9e\x47"
        assert header_crc == zlib.crc32(data[at : at + 20], salt)
        assert payload_crc == zlib.crc32(payload, salt)
        assert position == first + len(records)
        records.append((position, payload))
        at += 24 + size
    return records
