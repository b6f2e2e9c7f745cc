"""How often a token may ask: a bucket of points that fills steadily. Pure: monotonic seconds are a parameter."""

from collections.abc import Mapping
from dataclasses import dataclass

from cloud.roles import Role

__all__ = ["RATES", "STRANGERS", "Bucket", "Rate", "take"]


@dataclass(frozen=True, slots=True)
class Rate:
    """`per_s` points come a second, at most `most` are held. A route says how many points a request costs (1 if it says nothing)."""

    per_s: float
    most: float


# A page asks some 5 times a second; a demonstration of 50 vehicles polls 500 newest ticks a second, a tenth of a point each.
RATES: Mapping[Role, Rate] = {
    Role.OPERATOR: Rate(200.0, 1000.0),
    Role.SERVICE: Rate(50.0, 300.0),
    Role.READ_ONLY: Rate(50.0, 300.0),
    Role.OWNER: Rate(10.0, 100.0),
}
STRANGERS = Rate(5.0, 50.0)
"""Of one address, for requests without a good token: each costs a look into the database."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """What was left, and when."""

    points: float
    at_s: float


def take(bucket: Bucket | None, rate: Rate, cost: float, now_s: float) -> tuple[Bucket, float]:
    """The bucket after a request, and 0; or the bucket as it fills and the seconds to wait, where there is too little in it.

    None is a bucket nobody has taken from. What costs more than a whole bucket waits until it is full, and empties it.
    """
    points = rate.most if bucket is None else min(rate.most, bucket.points + max(0.0, now_s - bucket.at_s) * rate.per_s)
    needed = min(cost, rate.most)
    if points < needed:
        return Bucket(points, now_s), (needed - points) / rate.per_s
    return Bucket(points - needed, now_s), 0.0
