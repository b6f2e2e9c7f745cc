"""What a broker's operator and a thief of the flash can see: sealed batches, no value, no name, no VIN."""

import itertools
import ssl
import struct
import threading
import zlib
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest

import processes
import servers

HEADER = 29  # bytes of clear header, docs/wire.md
VIN = "WCANSIGHT0TEST001"
DBC = """VERSION ""

BU_: ECU

BO_ 256 Motor: 8 ECU
 SG_ Torque : 0|16@1- (0.1,0) [-3000|3000] "Nm" ECU
 SG_ Speed : 16|16@1+ (0.25,0) [0|16000] "rpm" ECU
 SG_ Power : 32|32@1+ (0.001,0) [0|400000] "kW" ECU

BO_ 512 Identity: 8 ECU
 SG_ Part M : 0|8@1+ (1,0) [0|2] "" ECU
 SG_ Vin0 m0 : 8|56@1+ (1,0) [0|0] "" ECU
 SG_ Vin1 m1 : 8|56@1+ (1,0) [0|0] "" ECU
 SG_ Vin2 m2 : 8|56@1+ (1,0) [0|0] "" ECU

CM_ SG_ 512 Vin0 "vehicle identification number, part 1";
"""
CATALOGUE = """vehicle = "car"
faults = {}
subsystems.body = { en = "Body", zh = "车身" }
purposes.identification = { en = "To tell the car apart", zh = "车内识别" }
""" + "".join(
    f'[signals."Identity.{name}"]\nsubsystem = "body"\npurpose = "identification"\nprivacy = "identity"\nen = "VIN"\nzh = "车辆识别码"\n\n'
    for name in ("Part", "Vin0", "Vin1", "Vin2")
)


def drive(path: Path, seconds: int) -> list[bytes]:
    """A log whose payloads are unmistakable; returns those payloads."""
    lines, payloads = [], []
    state = 0x1234_5678_9ABC_DEF1
    for tick in range(seconds * 10):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        payload = struct.pack("<Q", state)
        part = tick % 3
        identity = bytes([part]) + VIN[part * 7 : part * 7 + 7].encode().ljust(7, b"\0")
        stamp = 1_700_000_000 + tick / 10
        lines += [f"({stamp:.6f}) can0 100#{payload.hex().upper()}", f"({stamp + 0.001:.6f}) can0 200#{identity.hex().upper()}"]
        payloads.append(payload)
    path.write_text("\n".join(lines) + "\n")
    return payloads


def spy(pki: Path, port: int, vehicle: str) -> tuple[mqtt.Client, list[bytes]]:
    """A client that the broker lets read everything, as a broker's operator can."""
    heard: list[bytes] = []
    subscribed = threading.Event()
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=vehicle, protocol=mqtt.MQTTv5)
    context = ssl.create_default_context(cafile=str(pki / "fleet-ca.pem"))
    context.load_cert_chain(pki / "vehicles" / f"{vehicle}.pem", pki / "vehicles" / f"{vehicle}.key")
    client.tls_set_context(context)
    client.on_message = lambda _client, _data, message: heard.append(message.topic.encode() + b"\0" + message.payload)
    client.on_subscribe = lambda *_: subscribed.set()
    client.connect("localhost", port)
    client.subscribe("#", qos=1)
    client.loop_start()
    assert subscribed.wait(30)
    return client, heard


@pytest.mark.timeout(180)
def test_neither_the_broker_nor_the_flash_holds_a_value_a_name_or_the_vin_in_clear(tmp_path: Path, pki: Path) -> None:
    from cloud.pki import vehicle as enrol

    log, dbc, catalogue = tmp_path / "drive.log", tmp_path / "car.dbc", tmp_path / "catalogue.toml"
    payloads = drive(log, 60)
    dbc.write_text(DBC)
    catalogue.write_text(CATALOGUE)
    vehicle, operator = enrol(pki), enrol(pki)
    folder = tmp_path / "broker"
    folder.mkdir()
    server = servers.mosquitto(folder, pki)
    for rules in folder.glob("*acl*"):
        rules.write_text(rules.read_text() + f"\nuser {operator}\ntopic read #\n")
    server.start()
    try:
        client, heard = spy(pki, server.port, operator)
        edge = processes.edge_settings(tmp_path, pki, server.port, vehicle, log, [str(dbc)], dbc={"catalogue": str(catalogue)})
        agent = processes.cansight("edge", "run", "-c", edge, log=tmp_path / "edge.log")
        try:  # no aggregator: without a receipt the outbox keeps everything
            processes.until(lambda: len(heard) >= 10, "sealed batches at the broker")
        finally:
            agent.terminate()
            assert agent.wait(20) == 0, (tmp_path / "edge.log").read_text()
        client.disconnect()
        client.loop_stop()
    finally:
        server.stop()

    state = tmp_path / vehicle
    outbox = [path.read_bytes() for path in (state / "outbox").rglob("*") if path.is_file()]
    assert sum(map(len, outbox)) > 3000, "the outbox holds the unreceipted batches"
    words = [VIN[:7].encode(), VIN[7:14].encode(), b"Motor", b"Torque", b"Speed", b"Identity"]
    for text in itertools.chain(heard, outbox, [server.log_text.encode()]):
        for word in words:
            for form in (word, word.decode().encode("utf-16-le"), word.hex().encode(), word.hex().upper().encode()):
                assert form not in text
        for payload in payloads:
            for piece in (payload, payload[:5], payload[3:], payload[3:][::-1], payload.hex().encode()):
                assert piece not in text
    messages = [text.partition(b"\0")[2] for text in heard]
    sealed = b"".join(
        message[HEADER:] for message in messages if message[HEADER - 4 : HEADER] != bytes(4)
    )  # sequence 0 holds a certificate
    assert len(sealed) > 500
    assert len(zlib.compress(sealed, 9)) >= len(sealed), "what is sealed cannot be told from random bytes"

    status = (state / "status.json").read_text()
    assert not any(word.decode() in status for word in words)
    said = (tmp_path / "edge.log").read_text()
    assert VIN[:7] not in said
