"""The computer's clock does its worst: 1970 twice, a day ahead, a step back, a leap second, days without the time. From the frame to the
store's query nothing is lost, nothing is there twice, and every tick is where it belongs, or waits until the time is known.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from clock_chaos import DAY_S, Cloud, Computer, S, Story, compiled_dbc
from test_recorder import identity  # noqa: F401 - a fixture

from edge.identity import Identity

BATTERY_CHANGED = 0  # 1970


@pytest.fixture
def story(tmp_path: Path, pki: Path, identity: Identity) -> Iterator[Story]:  # noqa: F811
    start_ns = (int(time.time()) + 60) * S + 123_000_000  # certificates are valid from now on
    compiled = compiled_dbc(tmp_path)
    state = tmp_path / "state"
    state.mkdir()
    with Cloud(tmp_path, pki, compiled) as cloud:
        yield Story(Computer(start_ns, start_ns), cloud, state, identity, compiled, start_ns)


def test_a_right_clock(story: Story) -> None:
    story.computer.kept = True
    with story.run() as agent:
        agent.drives(20)
        agent.uploads(story.cloud)
    story.all_is_right()
    with story.run() as agent:  # again in the same boot: the axis goes on
        agent.drives(10)
        agent.uploads(story.cloud)
    story.all_is_right()
    assert len(story.recorded) > 25


def test_1970_twice(story: Story) -> None:
    """Two boots with the same wrong time. Placed as they say, the second would overwrite the first."""
    computer = story.computer
    computer.real_ns = BATTERY_CHANGED
    with story.run() as agent:
        agent.drives(15)
        agent.uploads(story.cloud)
        story.nothing_is_placed()
    computer.boots_again(BATTERY_CHANGED)
    with story.run() as agent:
        agent.drives(15)
        agent.uploads(story.cloud)
        story.nothing_is_placed()
        computer.is_set(kept=True)
        agent.drives(5)
        agent.uploads(story.cloud)
    sent, late = story.cloud.placed(story.start_ns)
    assert sorted(sent) == [value for value in story.recorded if value > 6_000], "the boot of which the time is known"
    assert all(-0.01 <= each <= 0.21 for each in late)


def test_the_time_comes_in_a_later_run_of_the_boot(story: Story) -> None:
    computer = story.computer
    computer.real_ns = BATTERY_CHANGED
    for _ in range(3):
        with story.run() as agent:
            agent.drives(10)
            agent.uploads(story.cloud)
        story.nothing_is_placed()
    computer.is_set(kept=True)
    with story.run() as agent:
        agent.drives(5)
        agent.uploads(story.cloud)
    story.all_is_right()


@pytest.mark.parametrize("trust", ["auto", "system", "kernel"])
def test_a_day_ahead(story: Story, trust: str) -> None:
    """Where the clock is relied on, the cloud sees that a tick cannot have been recorded after it arrived, and waits for a better one."""
    computer = story.computer
    computer.is_set(DAY_S)
    with story.run(trust) as agent:  # type: ignore[arg-type]
        agent.drives(20)
        agent.uploads(story.cloud)
        story.nothing_is_placed()
        computer.is_set(kept=True)
        agent.drives(20)
        agent.uploads(story.cloud)
    story.all_is_right()
    computer.boots_again(computer.true_ns + round(600 * S))
    computer.kept = True
    with story.run(trust) as agent:  # type: ignore[arg-type]
        agent.drives(10)
        agent.uploads(story.cloud)
    story.all_is_right()


@pytest.mark.parametrize("step_s", [-3600.0, -60.0, -10.0, 10.0, 3600.0])
def test_a_step(story: Story, step_s: float) -> None:
    """A clock that was wrong and is set. What was placed by the wrong one stays; no tick takes another's place."""
    computer = story.computer
    computer.is_set(-step_s)
    if step_s < 0:  # ahead, and found out before anything is sent
        computer.kept = False
    with story.run("system") as agent:
        agent.drives(20)
        computer.is_set(kept=True)
        agent.drives(40)
        agent.uploads(story.cloud)
    sent, late = story.cloud.placed(story.start_ns)
    assert sorted(sent) == sorted(story.recorded)
    assert len(story.recorded) > 55
    right = [value for value, each in zip(sent, late, strict=True) if -0.01 <= each <= 0.21]
    assert set(right) >= {value for value in story.recorded if value >= 310}, "what was recorded ten seconds after the step"


def test_to_and_fro(story: Story) -> None:
    """A clock that is set again and again, by whole seconds: nothing overwrites anything."""
    computer = story.computer
    with story.run("system") as agent:
        for error_s in (0.0, -20.0, -40.0, 0.0, -20.0, 3.0, 0.0):
            computer.is_set(error_s)
            agent.drives(20)
        agent.uploads(story.cloud)
    story.all_is_right(error_s=45)
    assert len(story.recorded) > 130


@pytest.mark.parametrize("leap_s", [-1.0, 1.0])
def test_a_leap_second(story: Story, leap_s: float) -> None:
    """The kernel repeats or leaves out a second: ticks go on evenly, in the placing that they have."""
    computer = story.computer
    computer.kept = True
    with story.run() as agent:
        agent.drives(15)
        computer.real_ns += round(leap_s * S)
        agent.drives(15)
        agent.uploads(story.cloud)
    story.all_is_right()
    assert len(story.recorded) >= 28
    assert len(set(story.recorded)) == len(story.recorded)


def test_days_without_time_and_connection(story: Story) -> None:
    computer = story.computer
    computer.real_ns = BATTERY_CHANGED
    with story.run() as agent:
        for _ in range(3):
            agent.drives(8)
            agent.sleeps(DAY_S)
        computer.is_set(kept=True)
        agent.drives(5)
        agent.uploads(story.cloud)
    story.all_is_right(error_s=6)  # a value that is held for some seconds when the bus goes to sleep
    assert len(story.recorded) > 25


def test_the_clock_falls_back_to_where_it_was_switched_off(story: Story) -> None:
    """A clock without a battery, of a computer that notes the time when it goes (fake-hwclock, systemd-timesyncd): plausible, and late.
    The kernel says that nobody has kept it yet, and on this vehicle somebody does.
    """
    computer = story.computer
    computer.kept = True
    with story.run() as agent:
        agent.drives(10)
        agent.uploads(story.cloud)
    computer.boots_again(computer.real_ns, 30 * DAY_S)
    with story.run() as agent:
        agent.drives(10)
        agent.uploads(story.cloud)
        computer.is_set(kept=True)
        agent.drives(5)
        agent.uploads(story.cloud)
    story.all_is_right()


def test_the_cloud_starts_again_between(story: Story) -> None:
    computer = story.computer
    computer.real_ns = BATTERY_CHANGED
    with story.run() as agent:
        agent.drives(12)
        agent.uploads(story.cloud)
        story.nothing_is_placed()
        story.cloud.__exit__()
        story.cloud.__enter__()
        computer.is_set(kept=True)
        agent.looks()
        agent.uploads(story.cloud)
        story.cloud.__exit__()
        story.cloud.__enter__()
        agent.drives(4)
        agent.uploads(story.cloud)
    story.all_is_right()


@pytest.mark.parametrize("damaged", [b'{"boot": 7', b'{"\xff": 7}'])
def test_a_file_that_is_damaged_costs_what_earlier_runs_of_the_boot_did_not_know(
    story: Story, caplog: pytest.LogCaptureFixture, damaged: bytes
) -> None:
    story.computer.kept = True
    (story.state / "clock.json").write_bytes(damaged)
    with story.run() as agent:
        agent.drives(5)
        agent.uploads(story.cloud)
    story.all_is_right()
    assert [message for message in caplog.messages if "clock.json: cannot be read" in message]
