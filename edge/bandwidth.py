"""The bandwidth cap: a token bucket over what goes up. Pure."""

BURST_S = 2.0  # of the rate at a time
MESSAGE_BYTES = 130  # around a batch: MQTT (topic, packet id) 33, TLS record 22, TCP/IPv6 72 bytes


class TokenBucket:
    """Live batches and findings may go while any token is there, and into debt by one; the backlog waits until the bucket is half full, so
    that a large batch of it is never paid for by the live ones behind it for long.

    bytes_per_s: above 0. Kept as the time at which the bucket is full (the generic cell rate algorithm, ITU-T I.371).
    """

    def __init__(self, bytes_per_s: float) -> None:
        self._rate = bytes_per_s
        self._full_s = float("-inf")

    def ready_s(self, *, backlog: bool) -> float:
        """From when on a batch may go."""
        return self._full_s - (BURST_S / 2 if backlog else BURST_S)

    def take(self, payload_bytes: int, now_s: float) -> None:
        """A batch goes."""
        self._full_s = max(self._full_s, now_s) + (payload_bytes + MESSAGE_BYTES) / self._rate
