"""What a bus says of itself around its waking and its sleep: times alone say what whole frames say."""

import numpy as np
import pytest

from dbc.catalogue import Catalogue
from dbc.compiler import compile_dbc
from dbc.decoder import Decoder
from dbc.integrity import with_checks
from dbc.network import network_names
from dbc.sampler import Sampler
from dbc.vehicles import CATALOGUE, DBC_FILES
from models.evaluation.bus import bus_figures
from simulator import scenario
from simulator.bus_changes import BusTimes, Change
from simulator.frames import FrameMaker
from simulator.signals import Traits
from simulator.trip import Trip

START_NS = 1_767_225_600 * 10**9


@pytest.mark.parametrize("awake", [[0, 0, 0, 7, 7, 7, 7], [7, 7, 7, 6, 6, 6, 6], [2, 2, 0, 7, 7, 7, 7]])
def test_times_alone_give_the_figures_of_whole_frames(awake: list[int]) -> None:
    compiled = compile_dbc(DBC_FILES)
    times = BusTimes()
    change = Change(0, 1000.0, np.inf, np.array(awake, np.uint8))
    (around,) = times.around([change] * 3, 4)
    names = network_names(compiled.schema)
    told = bus_figures(around.count, around.seen_us, times.channel, times.period_ms)
    trip = Trip(scenario("healthy"), 1, None, compiled)
    trip.second()
    checked = with_checks(compiled, Catalogue.load(CATALOGUE).checks)
    for number in range(3):
        shift_ns = round((1.0 - around.end_s[number, 0] % 1.0) % 1.0 * 1e9)
        maker = FrameMaker(compiled, Traits(compiled.schema), (number, 0))
        decoder, sampler = Decoder(checked, compiled.schema.channels), Sampler(compiled.schema)
        seen: dict[int, np.ndarray] = {}
        for second, buses in enumerate(awake):
            flags = [bool(buses >> bit & 1) for bit in range(3)]
            block = maker.block(second, trip.values, trip.values, flags, START_NS + shift_ns + second * 10**9, 0)
            if len(block.timestamp_ns):
                for snapshot in sampler.feed(block, decoder.decode(block)):
                    seen[(snapshot.tick_ns - START_NS) // 10**9 - 1] = snapshot.network
        assert len(seen) >= 3
        for tick, figures in seen.items():
            if tick < 2 or not any(awake[tick - 1 : tick + 1]):  # that the buses were awake before, the frames' maker cannot know
                continue
            off = np.abs(figures - told[tick, :, number])
            worst = int(np.argmax(off))
            assert off[worst] <= 1.0, (tick, names[worst], figures[worst], told[tick, worst, number])  # one frame more or less at an edge
            assert (off > 0.1).sum() <= 6
