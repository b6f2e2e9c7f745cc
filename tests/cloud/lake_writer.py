"""A lake's sink with a cursor in a file, and compaction between, until it is killed or has everything: `lake_writer.py FOLDER BATCHES`."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]

from cloud_samples import START_MS, make_rows  # noqa: E402

from cloud.events import TickRows  # noqa: E402
from cloud.lake.compaction import compact  # noqa: E402
from cloud.lake.folders import DAY_MS, Folders  # noqa: E402
from cloud.lake.sink import LakeSink  # noqa: E402


def batch(number: int) -> list[TickRows]:
    """Two classes of two vehicles, two ticks."""
    ticks = range(2 * number, 2 * number + 2)
    return [
        make_rows(ticks, vehicle=vehicle, sequence=number, stream=kind[:1].encode() * 16, columns=columns, consent_class=kind)
        for vehicle in ("aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb")
        for kind, columns in (("technical", (0, 1, 2, 3)), ("driving", (4, 5)))
    ]


def main(root: Path, batches: int) -> None:
    cursor = root / "cursor"
    sink = LakeSink(root / "lake", {}, buffer_bytes=400)
    at = int(cursor.read_text()) if cursor.exists() else 0
    print("began", flush=True)
    while at < batches:
        for number in range(at, min(at + 5, batches)):
            sink.take(batch(number))
        sink.flush()
        at = min(at + 5, batches)
        (root / "new").write_text(str(at))
        (root / "new").rename(cursor)
        print(at, flush=True)
        if at % 15 == 0:
            compact(Folders(root / "lake"), None, START_MS + (at % 2) * 3 * DAY_MS)
            print("compacted", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
