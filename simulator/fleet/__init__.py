"""Thousands of vehicles from one process: real certificates, real sealing, real custody, outages, and a ledger of everything sent.

source ─▶ sealer ─▶ custody ─▶ link (TLS, MQTT 5) ─▶ broker      receipts ─▶ custody, ledger ─▶ verify against the store
"""

from simulator.fleet.custody import Rules
from simulator.fleet.errors import FleetError, FleetFailed
from simulator.fleet.fleet import Fleet
from simulator.fleet.keys import Trust, vehicle_id
from simulator.fleet.ledger import Ledger, Reading
from simulator.fleet.link import Endpoint
from simulator.fleet.outages import Outage, parse
from simulator.fleet.plan import Plan
from simulator.fleet.prepared import prepare
from simulator.fleet.report import Report
from simulator.fleet.stores import Api, Influx
from simulator.fleet.verify import Comparison, compare, verify

__all__ = [
    "Api",
    "Comparison",
    "Endpoint",
    "Fleet",
    "FleetError",
    "FleetFailed",
    "Influx",
    "Ledger",
    "Outage",
    "Plan",
    "Reading",
    "Report",
    "Rules",
    "Trust",
    "compare",
    "parse",
    "prepare",
    "vehicle_id",
    "verify",
]
