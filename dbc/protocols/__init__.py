"""Messages that are more than one CAN frame: J1939, NMEA 2000, ISO-TP with OBD-II and UDS. Heard, never spoken; see docs/protocols.md."""

from dbc.protocols.reassembler import HIDDEN, Reassembler
from dbc.protocols.sources import SourceSurvey
from dbc.protocols.transfers import Counts
from dbc.protocols.trouble import TroubleCodes, TroubleEvent

__all__ = ["HIDDEN", "Counts", "Reassembler", "SourceSurvey", "TroubleCodes", "TroubleEvent"]
