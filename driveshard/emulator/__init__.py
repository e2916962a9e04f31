"""Drive v3 on loopback: a server that speaks Google Drive's wire so that clients can be tested without Google.

Written from the wire's description alone; it imports nothing from the rest of driveshard, so that a misreading
of the protocol cannot be shared by the client and the server that tests it.
"""

from driveshard.emulator.faults import FAULTS, Fault, describe_faults
from driveshard.emulator.server import Emulator, run

__all__ = ["FAULTS", "Emulator", "Fault", "describe_faults", "run"]
