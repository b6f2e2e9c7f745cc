"""The usual way into InfluxDB: a paho client, JSON, one influxdb-client `Point` with all its fields for each tick.

`python -m cansight.benchmarks.cloud_rival PKI PORT URL DATABASE`: says `ready` when it is subscribed; on SIGTERM prints one JSON line. No
sealing, no landing log, no receipts, no tickets: it does less. The points are sent by a plain POST, 1,000 at a time, because
influxdb-client's own write call does not speak to 1.x; what it would cost beside is not counted.
"""

import json
import queue
import signal
import ssl
import sys
import time
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import urllib3
from influxdb_client.client.write.point import Point
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from wire.topics import UP_FILTER

POINTS = 1000


def main(arguments: list[str]) -> None:
    """Until SIGTERM; then what has arrived is written and counted."""
    pki, port, url, database = Path(arguments[0]), int(arguments[1]), arguments[2], arguments[3]
    arrived: queue.SimpleQueue[tuple[str, bytes] | None] = queue.SimpleQueue()
    signal.signal(signal.SIGTERM, lambda *_: arrived.put(None))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cafile=pki / "fleet-ca.pem")
    context.load_cert_chain(pki / "aggregator.pem", pki / "aggregator.key")
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="aggregator", protocol=MQTTProtocolVersion.MQTTv5)
    client.tls_set_context(context)

    def on_connect(*_: Any) -> None:
        client.subscribe(UP_FILTER, qos=1)

    def on_subscribe(*_: Any) -> None:
        sys.stdout.write("ready\n")
        sys.stdout.flush()

    def on_message(_client: Any, _data: Any, message: mqtt.MQTTMessage) -> None:
        arrived.put((message.topic, bytes(message.payload)))

    client.on_connect, client.on_subscribe, client.on_message = on_connect, on_subscribe, on_message
    client.connect("localhost", port, 60)
    client.loop_start()
    pool = urllib3.PoolManager()
    start_ns, cpu_s, values, lines = time.time_ns(), time.process_time(), 0, []
    while (one := arrived.get()) is not None:
        vehicle = one[0].split("/")[-1]
        for tick in json.loads(one[1]):
            point = Point("signals").tag("vehicle", vehicle).tag("model", "car").time(start_ns + tick.pop("t") * 1_000_000_000)
            for name, value in tick.items():
                point.field(name, value)
            values += len(tick)
            lines.append(point.to_line_protocol())
        if len(lines) >= POINTS or arrived.empty():
            pool.request("POST", f"{url}/write?db={database}", body="\n".join(lines).encode())
            lines.clear()
    client.disconnect()
    sys.stdout.write(json.dumps({"values": values, "cpu_s": time.process_time() - cpu_s}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
