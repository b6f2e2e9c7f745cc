"""What is done to the loop while it works: which part is killed when, and how which link fails. Decided by a seed, before anything runs."""

import random
from dataclasses import dataclass

AGENT, BROKER, AGGREGATOR, STORE, LINK = "agent", "broker", "aggregator", "store", "link"
DEATHS = {AGENT: 8, BROKER: 4, AGGREGATOR: 4, STORE: 4}  # of twenty
LINKS = VEHICLES_LINK, AGGREGATOR_LINK, STORE_LINK = "vehicles", "aggregator", "store"
AT_ONCE = ("reset", "hang up", "cut in a packet", "refuse")
UNHEARD = ("half open", "freeze")  # nobody is told, so the keep-alive or a missing answer must find it: takes a minute
STARTING = 0.2  # of the kills may strike somebody who is still starting
MOST_AWAY_S = {AGENT: 1.0, BROKER: 2.0, AGGREGATOR: 1.0, STORE: 3.0, LINK: 3.0}


@dataclass(frozen=True)
class Blow:
    """target: one of the four, to be killed, or LINK. away_s: until it is started or mended. choice: in [0, 1): which one, how much.

    starting: strikes also who has not come to work since it was started.
    """

    target: str
    away_s: float
    choice: float
    starting: bool = False
    link: str = ""
    fault: str = ""


def blows(seed: int, kills: int, cuts: int, unheard: int = 0) -> list[Blow]:
    """`kills` deaths of the four parts, `cuts` failures of links that an end hears of and `unheard` that nobody hears of, in any order."""
    dice = random.Random(seed)
    targets = [target for target, share in DEATHS.items() for _ in range(round(kills * share / sum(DEATHS.values())))]
    found = [Blow(target, dice.uniform(0, MOST_AWAY_S[target]), dice.random(), dice.random() < STARTING) for target in targets]
    for faults, number in ((AT_ONCE, cuts), (UNHEARD, unheard)):
        for count in range(number):
            link = LINKS[count % len(LINKS)]
            found.append(Blow(LINK, dice.uniform(0, MOST_AWAY_S[LINK]), dice.random(), link=link, fault=dice.choice(faults)))
    dice.shuffle(found)
    return found
