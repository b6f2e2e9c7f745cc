"""The registrar: answers vehicles that renew. It has the CA's key and nothing else of the cloud: no batches, no recipient keys.

`answer` is the whole policy, without a connection; `serve` holds the connection. A vehicle that gets no answer asks again, so nothing
is kept here but the certificates themselves, in the fleet's folder, where revoking finds them.
"""

import logging
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.reasoncodes import ReasonCode

from cloud.certificates import BACKDATE, certify, common_name, issued_by, usages, validity
from cloud.config import BrokerConfig
from cloud.errors import PkiError
from cloud.inlet import tls_context
from cloud.pki import DAYS, REGISTRAR, load_ca
from cloud.pki_files import PUBLIC, load_certificates, locked, write
from cloud.pki_revocation import certificates_of, revoked_names
from wire.errors import WireError
from wire.renewal import decode_renewal, encode_certificate
from wire.topics import RENEW_FILTER, certificate, renewing

MAX_CERTIFICATES = 8  # of one vehicle in date: who has stolen a key cannot fill the folder
KEEPALIVE_S = 30
MAX_PAUSE_S = 60

log = logging.getLogger(__name__)


def answer(folder: Path, vehicle: str, request: bytes, now: datetime, days: int = DAYS) -> bytes:
    """The certificate that `vehicle` has asked for, durable in `folder` before it is given. now: aware.

    The certificate in use must be this fleet's, in date, of that vehicle, for TLS clients, past half of its life or an old CA's;
    and the vehicle must have been enrolled in `folder` and not be revoked. A key that has a certificate gets the same one again. WireError
    or PkiError say why there is none.
    """
    asked = decode_renewal(request, vehicle)
    with locked(folder):
        ca, ca_key = load_ca(folder)
        issuer = issued_by(asked.certificate, load_certificates(folder / "fleet-ca.pem"))
        _require_good(asked.certificate, issuer, now)
        known = certificates_of(folder, vehicle)
        revoked = revoked_names(folder)
        serial = f"{asked.certificate.serial_number:x}"
        if vehicle in revoked or any(serial in one.serials for one in revoked.values()):
            raise PkiError(f"vehicle {vehicle}: is revoked")
        if asked.public_key == asked.certificate.public_key():
            raise PkiError(f"vehicle {vehicle}: asks for the key that it has; a renewal takes a new one")
        current = [one for one in known if one.not_valid_after_utc > now]
        for one in current:
            if one.public_key() == asked.public_key and issued_by(one, [ca]):
                return encode_certificate(one)
        if issuer == ca and now < _half(asked.certificate):
            raise PkiError(f"vehicle {vehicle}: asks before half of its certificate's life is over")
        if len(current) >= MAX_CERTIFICATES:
            raise PkiError(f"vehicle {vehicle}: has {len(current)} certificates in date; revoke it if its key was stolen")
        made = certify(asked.public_key, vehicle, ca, ca_key, ExtendedKeyUsageOID.CLIENT_AUTH, now - BACKDATE, now + timedelta(days=days))
        write(folder / "vehicles" / f"{vehicle}.{made.serial_number:x}.pem", made.public_bytes(Encoding.PEM), PUBLIC)
    return encode_certificate(made)


def _require_good(certificate: x509.Certificate, issuer: x509.Certificate | None, now: datetime) -> None:
    name = common_name(certificate)
    if issuer is None:
        raise PkiError(f"vehicle {name}: its certificate is not this fleet's")
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise PkiError(
            f"vehicle {name}: its certificate is valid from {validity(certificate)}; it needs `cansight pki renew` and a workshop"
        )
    if ExtendedKeyUsageOID.CLIENT_AUTH not in usages(certificate):
        raise PkiError(f"vehicle {name}: its certificate is not for TLS clients")


def _half(certificate: x509.Certificate) -> datetime:
    return certificate.not_valid_before_utc + (certificate.not_valid_after_utc - certificate.not_valid_before_utc) / 2


class Registrar:
    """The service. `run` holds the connection until `stop`; what it refuses is said once for each reason and counted."""

    def __init__(self, folder: Path, host: str, port: int, days: int = DAYS) -> None:
        self.folder = folder
        self.days = days
        self.config = BrokerConfig(
            ca=str(folder / "fleet-ca.pem"),
            certificate=str(folder / f"{REGISTRAR}.pem"),
            key=str(folder / f"{REGISTRAR}.key"),
            host=host,
            port=port,
        )
        self.answered = 0
        self.refused: Counter[str] = Counter()
        self._stop = threading.Event()

    def stop(self) -> None:
        self._stop.set()

    def run(self) -> None:
        """Raises PkiError or CloudError for files that cannot be used; a broker that is away is waited for."""
        load_ca(self.folder)
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=REGISTRAR, protocol=MQTTProtocolVersion.MQTTv5)
        client.tls_set_context(tls_context(self.config))
        client.reconnect_delay_set(1, MAX_PAUSE_S)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.connect_async(self.config.host, self.config.port, KEEPALIVE_S)
        client.loop_start()
        self._stop.wait()
        client.disconnect()
        client.loop_stop()

    def _on_connect(self, client: mqtt.Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Any) -> None:
        if reason.is_failure:
            log.warning("broker %s:%d refuses: %s", self.config.host, self.config.port, reason)
            return
        client.subscribe(RENEW_FILTER, qos=1)
        log.info("connected to broker %s:%d; vehicles may renew", self.config.host, self.config.port)

    def _on_disconnect(self, _client: mqtt.Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Any) -> None:
        if not self._stop.is_set():
            log.warning("broker %s:%d is away: %s", self.config.host, self.config.port, reason)

    def _on_message(self, client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        try:
            vehicle = renewing(message.topic)
            given = answer(self.folder, vehicle, bytes(message.payload), datetime.now(UTC), self.days)
        except (WireError, PkiError, UnicodeDecodeError) as error:
            self._refuse(str(error))
            return
        self.answered += 1
        client.publish(certificate(vehicle), given, qos=1)
        log.info("vehicle %s has a new certificate", vehicle)

    def _refuse(self, why: str) -> None:
        self.refused[why] += 1
        if self.refused[why] == 1 and len(self.refused) <= 1000:  # whoever sends nonsense must not fill the log
            log.warning("refused: %s", why)
