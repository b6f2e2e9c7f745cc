"""What a car is like at an instant: the columns of the model's state, and `State`, which holds them for n vehicles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["CELLS", "COLUMNS", "SENSORS", "WHEELS", "Array", "Column", "Mask", "State"]

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

CELLS = 96  # cell groups in series
SENSORS = 24  # of cell temperature
WHEELS = 4  # front left, front right, rear left, rear right


@dataclass(frozen=True, slots=True)
class Column:
    """One column. `width`: 1 for shape (n,), else (n, width). `smooth`: between two instants it may be interpolated; else it holds."""

    name: str
    unit: str
    width: int
    smooth: bool
    meaning: str


# name; unit; shape: empty (n,), w (n, 4), c (n, 96), t (n, 24); `~` interpolates, `=` holds; meaning.
# Flags are 0 or 1; states are the numbers given. Signs: currents and powers of the traction battery are positive when it discharges, the
# 12 V battery's when it charges, torques when they drive, angles and curvatures to the left, gradients uphill.
_TABLE = """
time_s                     | s     |   | ~ | since the scenario's start
trip_s                     | s     |   | ~ | since this key-on; 0 while the key is off
key                        | state |   | = | 0 off, 1 accessory, 2 on, 3 ready to drive
ready                      | flag  |   | = | the drive may turn the wheels
mode                       | state |   | = | 0 parked, 1 driving, 2 AC charging, 3 DC charging
bus.drive                  | flag  |   | = | the drive bus (can0) is awake
bus.body                   | flag  |   | = | the body bus (can1) is awake
bus.energy                 | flag  |   | = | the energy bus (can2) is awake
derating                   | 0..1  |   | ~ | share of the drive's power that is withheld
derating_cause             | state |   | = | 0 none, 1 battery hot, 2 motor hot, 3 inverter hot, 4 battery empty, 5 battery protection
protection                 | flag  |   | = | the battery protects itself: limp-home power only
warning                    | state |   | = | 0 none, 1 amber, 2 red
auxiliary_w                | W     |   | ~ | high voltage taken by the 12 V converter
climate_w                  | W     |   | ~ | high voltage taken by compressor and heater
pack_w                     | W     |   | ~ | at the battery's terminals
lighting_a                 | A     |   | ~ | 12 V: lamps
blower_a                   | A     |   | ~ | 12 V: cabin blower
infotainment_a             | A     |   | ~ | 12 V: displays, radio
seat_a                     | A     |   | ~ | 12 V: seat heaters
pump_a                     | A     |   | ~ | 12 V: both coolant pumps and the radiator fan
drive.speed                | m/s   |   | ~ | of the car
drive.acceleration         | m/s2  |   | ~ | along the road
drive.distance_m           | m     |   | ~ | since this key-on
drive.odometer_km          | km    |   | ~ | since the car was made
drive.torque               | N m   |   | ~ | of the motor
drive.torque_request       | N m   |   | ~ | asked of the motor, within its limits
drive.friction_torque      | N m   |   | ~ | of the friction brakes, all wheels
drive.regeneration_limit   | N m   |   | ~ | of the motor, at present
drive.motor_rad_s          | rad/s |   | ~ |
drive.current_q            | A     |   | ~ | torque-forming, rms
drive.current_d            | A     |   | ~ | field-forming, rms
drive.motor_loss_w         | W     |   | ~ |
drive.inverter_loss_w      | W     |   | ~ |
drive.mechanical_w         | W     |   | ~ | at the motor's shaft
drive.electric_w           | W     |   | ~ | at the inverter's input; 0 when not ready
drive.pedal                | 0..1  |   | ~ | accelerator
drive.limit_cause          | state |   | = | 0 none, 1 motor, 2 battery, 3 derating, 4 regeneration
drive.vibration_g          | g     |   | ~ | rms at the motor's bearing shield
drive.push_n               | N     |   | ~ | of the driven wheels on the car, without friction brakes
drive.air_n                | N     |   | ~ | aerodynamic drag
drive.rolling_n            | N     |   | ~ | rolling resistance, with dragging brakes and bearing
drive.grade_n              | N     |   | ~ | of the gradient
drive.mass_kg              | kg    |   | = | car, people, load and trailer
drive.regenerated_kwh      | kWh   |   | ~ | electric, since this key-on
drive.used_kwh             | kWh   |   | ~ | electric, by the inverter, without what it gave back, since this key-on
drive.software             | number|   | = | version of the drive's software (1, 2 or 3)
battery.charge             | 0..1  |   | ~ | true state of charge
battery.current            | A     |   | ~ |
battery.voltage            | V     |   | ~ | at the terminals
battery.polarisation_v     | V     |   | ~ | of the pack's RC branch
battery.heat_w             | W     |   | ~ | made in the battery
battery.resistance         | ohm   |   | ~ | ohmic, at present
battery.open_circuit_v     | V     |   | ~ | of the pack
battery.charged_a_h        | A h   |   | ~ | into the battery, since it was made
battery.discharged_a_h     | A h   |   | ~ | out of the battery, since it was made
battery.charged_kwh        | kWh   |   | ~ | into the battery, since it was made
battery.discharged_kwh     | kWh   |   | ~ | out of the battery, since it was made
battery.trip_charged_kwh   | kWh   |   | ~ | into the battery, since this key-on
battery.trip_discharged_kwh| kWh   |   | ~ | out of the battery, since this key-on
battery.discharge_limit_w  | W     |   | ~ | allowed
battery.charge_limit_w     | W     |   | ~ | allowed
battery.health             | 0..1  |   | ~ | true capacity over the capacity when new
battery.capacity_a_h       | A h   |   | ~ | true, now
battery.resistance_growth  | ratio |   | ~ | resistance at 25 C over that when new
battery.calendar_loss      | 0..1  |   | ~ | capacity lost by time
battery.cycle_loss         | 0..1  |   | ~ | capacity lost by use
battery.cycles             | count |   | ~ | equivalent full cycles
battery.fast_charges       | count |   | = | DC charges begun
battery.charges            | count |   | = | AC and DC charges begun
battery.contactor          | state |   | = | 0 open, 1 precharge, 2 closed
battery.contactor_cycles   | count |   | = |
battery.contactor_c        | C     |   | ~ |
battery.busbar_c           | C     |   | ~ |
battery.insulation_kohm    | kohm  |   | ~ | to the chassis
battery.balancing          | flag  |   | = | resistors across high cells are on
cells.voltage              | V     | c | ~ | of each cell group
cells.charge               | 0..1  | c | ~ | of each cell group, from the mean
cells.resistance           | ratio | c | ~ | of each cell group, to the mean when healthy
cells.temperature_c        | C     | t | ~ | at each sensor
loop.battery_c             | C     |   | ~ | mean of the battery
loop.coolant_c             | C     |   | ~ | battery loop, into the battery
loop.outlet_c              | C     |   | ~ | battery loop, out of the battery
loop.pump_rpm              | 1/min |   | ~ |
loop.flow_l_min            | L/min |   | ~ |
loop.pressure_kpa          | kPa   |   | ~ | rise across the pump
loop.pump_w                | W     |   | ~ |
loop.pump_c                | C     |   | ~ |
loop.pump_duty             | 0..1  |   | ~ | asked of the pump
loop.level                 | %     |   | ~ | of the reservoir
loop.chiller_valve         | 0..1  |   | ~ |
loop.chiller_w             | W     |   | ~ |
loop.heater_w              | W     |   | ~ |
loop.plate_w               | W     |   | ~ | from the battery to the coolant
loop.radiator_w            | W     |   | ~ | given off
loop.radiator_nominal_w    | W     |   | ~ | that the control unit computes: without a leak's air in the radiator
drive_loop.coolant_c       | C     |   | ~ | into the drive
drive_loop.return_c        | C     |   | ~ | out of the drive
drive_loop.stator_c        | C     |   | ~ |
drive_loop.rotor_c         | C     |   | ~ |
drive_loop.oil_c           | C     |   | ~ | of the gear
drive_loop.inverter_c      | C     |   | ~ |
drive_loop.capacitor_c     | C     |   | ~ |
drive_loop.converter_c     | C     |   | ~ |
drive_loop.charger_c       | C     |   | ~ |
drive_loop.bearing_c       | C     |   | ~ | of the motor
drive_loop.pump_rpm        | 1/min |   | ~ |
drive_loop.flow_l_min      | L/min |   | ~ |
drive_loop.level           | %     |   | ~ | of the reservoir
front.fan_duty             | 0..1  |   | ~ | asked of the fan
front.fan_rpm              | 1/min |   | ~ |
front.fan_current_a        | A     |   | ~ |
front.shutter              | 0..1  |   | ~ | open
front.air_m_s              | m/s   |   | ~ | through the radiators
climate.cabin_c            | C     |   | ~ |
climate.humidity           | 0..1  |   | ~ | in the cabin
climate.co2_ppm            | ppm   |   | ~ | in the cabin
climate.setpoint_c         | C     |   | = |
climate.heater_w           | W     |   | ~ | heat
climate.compressor_w       | W     |   | ~ | electric
climate.compressor_rpm     | 1/min |   | ~ |
climate.blower             | 0..1  |   | ~ |
climate.recirculation      | 0..1  |   | ~ |
climate.blend              | 0..1  |   | ~ |
climate.vent_c             | C     |   | ~ |
climate.evaporator_c       | C     |   | ~ |
climate.high_bar           | bar   |   | ~ | refrigerant, absolute
climate.low_bar            | bar   |   | ~ | refrigerant, absolute
climate.air_m3_h           | m3/h  |   | ~ | through the filter
climate.particles          | ug/m3 |   | ~ | in the cabin
climate.mode               | state |   | = | 0 off, 1 ventilation, 2 cooling, 3 heating
climate.filter_load        | 0..1  |   | ~ | 0 new, 1 at its end
climate.filter_efficiency  | 0..1  |   | ~ |
climate.filter_drop_pa     | Pa    |   | ~ |
climate.filter_days        | d     |   | ~ | since the filter was changed
steering.curvature         | 1/m   |   | ~ |
steering.angle_deg         | deg   |   | ~ |
steering.rate_deg_s        | deg/s |   | ~ |
steering.hand_n_m          | N m   |   | ~ |
steering.assist_a          | A     |   | ~ |
steering.lateral_m_s2      | m/s2  |   | ~ |
steering.yaw_deg_s         | deg/s |   | ~ |
steering.motor_c           | C     |   | ~ |
brakes.disc_c              | C     | w | ~ |
brakes.torque_n_m          | N m   | w | ~ | friction at each wheel, drag included
brakes.pad_mm              | mm    | w | ~ | lining left; new 12 front, 11 rear, worn 2
brakes.pressure_bar        | bar   |   | ~ | of the master cylinder
brakes.fluid_level         | %     |   | ~ |
tyres.temperature_c        | C     | w | ~ | of the air inside
tyres.pressure_kpa         | kPa   | w | ~ | above the atmosphere
tyres.air                  | ratio | w | ~ | mass of air over that at the placard's pressure and 20 C
tyres.tread_mm             | mm    | w | ~ |
tyres.placard_kpa          | kPa   |   | = | that this load asks for, cold
tyres.set                  | state |   | = | 0 summer, 1 winter, 2 all-season
low.charge                 | 0..1  |   | ~ | of the 12 V battery
low.battery_c              | C     |   | ~ |
low.voltage                | V     |   | ~ |
low.current                | A     |   | ~ | into the battery
low.load_a                 | A     |   | ~ | of all consumers
low.converter_a            | A     |   | ~ | output of the 12 V converter
low.converter_input_w      | W     |   | ~ |
low.converter_loss_w       | W     |   | ~ |
low.converter_on           | flag  |   | = |
low.health                 | 0..1  |   | ~ | of the 12 V battery
low.resistance_m_ohm       | mohm  |   | ~ |
low.crank_v                | V     |   | = | lowest voltage of the last wake-up
low.seat_c                 | C     |   | ~ | of the driver's seat
charging.state             | state |   | = | 0 unplugged, 1 plugged, 2 charging, 3 done, 4 fault
charging.pilot             | state |   | = | control pilot of IEC 61851-1: 0 A, 1 B, 2 C
charging.lid               | flag  |   | = | the port's lid is open
charging.kind              | state |   | = | 0 none, 1 AC, 2 DC
charging.grid_w            | W     |   | ~ | taken from the socket or the station
charging.power_w           | W     |   | ~ | into the high-voltage system
charging.current_a         | A     |   | ~ | into the high-voltage system
charging.limit_a           | A     |   | ~ | offered by socket or station
charging.grid_v            | V     |   | ~ | of a phase; 0 unplugged and with DC
charging.port_c            | C     |   | ~ | of the port's contacts
charging.session_kwh       | kWh   |   | ~ | into the battery, this charge
charging.session_s         | s     |   | ~ | since plugged in
charging.remaining_s       | s     |   | ~ | until the target, as the car estimates
charging.target            | 0..1  |   | = | state of charge to stop at
world.ambient_c            | C     |   | ~ |
world.filtered_ambient_c   | C     |   | ~ | as instruments show it
world.pressure_kpa         | kPa   |   | ~ |
world.density_kg_m3        | kg/m3 |   | ~ | of the air
world.humidity             | 0..1  |   | ~ |
world.solar                | W/m2  |   | ~ |
world.sun_deg              | deg   |   | ~ | height of the sun
world.rain                 | 0..1  |   | ~ |
world.wind_m_s             | m/s   |   | ~ | against the car
world.particles            | ug/m3 |   | ~ |
world.lane_m               | m     |   | ~ | from the middle of the lane
world.lane_quality         | %     |   | ~ |
world.gap_m                | m     |   | ~ | to the vehicle ahead, 200: none
world.gap_rate             | m/s   |   | ~ |
world.lead                 | flag  |   | = | there is a vehicle ahead
world.satellites           | count |   | ~ |
world.dilution             | ratio |   | ~ | horizontal
world.kind                 | state |   | = | 0 urban, 1 rural, 2 motorway
world.limit_m_s            | m/s   |   | = | speed limit
world.gradient             | ratio |   | ~ | rise over run
world.curvature            | 1/m   |   | ~ | of the road
world.latitude             | deg   |   | ~ |
world.longitude            | deg   |   | ~ |
world.altitude_m           | m     |   | ~ |
world.heading_deg          | deg   |   | = | clockwise from north, 0..360
world.grip                 | N     |   | ~ | of the hands on the wheel
world.lux                  | lx    |   | ~ |
body.door                  | flag  |   | = | the driver's door is open
body.belt                  | flag  |   | = | the driver's belt is fastened
body.locked                | flag  |   | = |
body.gear                  | state |   | = | 0 P, 1 R, 2 N, 3 D
body.turn                  | state |   | = | 0 none, 1 left, 2 right
body.blink                 | flag  |   | = | the indicator is asked for (frames make the 0.7 s flashes)
body.wiper                 | state |   | = | 0 off, 1 interval, 2 slow, 3 fast
body.wiper_a               | A     |   | ~ |
body.low_beam              | flag  |   | = |
body.high_beam             | flag  |   | = |
body.daytime               | flag  |   | = |
body.parking               | state |   | = | 0 released, 1 moving, 2 applied
body.clamp_kn              | kN    |   | ~ |
body.actuator_a            | A     |   | = |
body.window                | %     |   | ~ | open
body.cruise                | state |   | = | 0 off, 1 standby, 2 active
body.cruise_km_h           | km/h  |   | = |
body.seat_level            | state |   | = |
body.hands                 | flag  |   | = |
body.washer_level          | %     |   | ~ |
body.occupants             | count |   | = | in this trip
body.trailer               | flag  |   | = | a trailer is coupled
body.trips                 | count |   | = | key-ons since the car was made
body.hours                 | h     |   | ~ | ready, since the car was made
"""

_WIDTHS = {"": 1, "w": WHEELS, "c": CELLS, "t": SENSORS}


def _columns() -> Iterator[Column]:
    for line in _TABLE.strip().splitlines():
        name, unit, width, smooth, meaning = (part.strip() for part in line.split("|"))
        yield Column(name, unit, _WIDTHS[width], smooth == "~", meaning)


COLUMNS: Mapping[str, Column] = {column.name: column for column in _columns()}


def _rows() -> dict[str, slice]:
    rows, at = {}, 0
    for column in COLUMNS.values():
        rows[column.name] = slice(at, at + column.width)
        at += column.width
    return rows


class State(dict[str, Array]):
    """The columns of n vehicles, in one block that the model updates in place.

    state["drive.speed"]  (n,) float64; state["cells.voltage"]  (n, 96), a view whose `.T` is contiguous. Views stay the same arrays.
    block                 (rows, n) float64: every column's rows one below another, in the order of COLUMNS
    rows["cells.voltage"] the slice of a column in `block`
    smooth                (rows,) bool: may be interpolated
    """

    rows: Mapping[str, slice] = _rows()
    smooth: NDArray[np.bool_] = np.concatenate([np.full(column.width, column.smooth) for column in COLUMNS.values()])

    def __init__(self, vehicles: int) -> None:
        self.vehicles = vehicles
        self.block: Array = np.zeros((len(self.smooth), vehicles))
        for name, where in self.rows.items():
            self[name] = self.block[where.start] if COLUMNS[name].width == 1 else self.block[where].T
