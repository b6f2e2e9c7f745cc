"""The receiving side of the replay benchmark, in a process of its own: a socket that delivers struct can_frame.

`python -m ... FD TOTAL OUT`: prints "ready"; once TOTAL frames are in, writes the kernel's stamps (int64 ns, CLOCK_REALTIME, taken as
each frame was sent) to OUT and prints a digest of all frames in the order in which they came.
"""

import hashlib
import socket
import sys
import time

import numpy as np

CAPACITY = 4096
IDLE_S = 0.0005  # between two looks: it is the kernel that stamps, so this costs no accuracy
RECORD = np.dtype([("id", "u4"), ("length", "u1"), ("data", "u1", (8,))])


def main(arguments: list[str]) -> None:
    from edge.sources.can_socket import report
    from edge.sources.receive_buffer import ReceiveBuffer

    number, total, output = int(arguments[0]), int(arguments[1]), arguments[2]
    digest, stamps, frames = hashlib.sha256(), [], 0
    with socket.socket(fileno=number) as source:
        report(source)
        buffer = ReceiveBuffer(CAPACITY)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while frames < total:
            if not buffer.receive(number):
                time.sleep(IDLE_S)
                continue
            found = buffer.take_plain(in_order=True)
            if found is None:
                raise ValueError("bench replay: something else than classic data frames came")
            _, block = found
            records = np.empty(len(block.timestamp_ns), RECORD)
            records["id"], records["length"], records["data"] = block.frame_id, block.length, block.data
            digest.update(records.data)
            stamps.append(block.timestamp_ns)
            frames += len(records)
    np.save(output, np.concatenate(stamps))
    sys.stdout.write(f"{digest.hexdigest()}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
