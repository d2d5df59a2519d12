"""Make an export of many days: one invented day, exported, and its ticks again on each following day.

python -m tests.bench.month DIRECTORY DAYS TICKS_A_DAY
"""

import dataclasses
import datetime
import json
import subprocess
import sys
from pathlib import Path

from tasks.demo.load import create_schema, load
from tasks.demo.local_server import PostgresServer
from tasks.demo.recording import Recording
from tasks.export_directory import index_csv
from tasks.market_files import market_file
from tasks.market_files.file_facts import FileFacts
from tasks.market_files.market_file import MarketWriter
from tasks.market_files.time_span import DAY_US
from tasks.storage.layout import Layout


def main(directory: Path, days: int, ticks: int) -> None:
    """Make the export."""
    recording = Recording(ticks, 60, 1, datetime.datetime(2026, 3, 1, tzinfo=datetime.UTC), skew=1.4)
    tasks = [sys.executable, "-P", "-m", "tasks"]
    with PostgresServer() as server:
        server.create_database("month")
        create_schema(server.connect("month"))
        load(recording, server.conninfo("month"))
        environment = server.environment("month")
        subprocess.run(
            [*tasks, "ExportAll", "--report", "false", "--output-dir", str(directory)], env=environment, check=True
        )
    layout = Layout(directory)
    rows = dict(index_csv.read(layout.index))
    for market_id in list(rows):
        for day in range(1, days):
            new_id = f"{market_id}{day:02}"
            facts = again_on(layout, market_id, new_id, day * DAY_US)
            rows[new_id] = dataclasses.replace(
                rows[market_id], market_id=new_id, facts=facts, file_path=layout.file_path(new_id)
            )
    layout.index.write_bytes(b"".join(index_csv.render(dict(sorted(rows.items())))))


def again_on(layout: Layout, market_id: str, new_id: str, later_us: int) -> FileFacts:
    """Write the ticks and the metadata of a market again, as those of another market, some time later."""
    with MarketWriter(layout.market_file(new_id), new_id) as writer:
        for ticks in market_file.read(layout.market_file(market_id)):
            writer.write(
                dataclasses.replace(
                    ticks, publish_time=ticks.publish_time + later_us, received_at=ticks.received_at + later_us
                )
            )
        facts, _ = writer.finish(int(layout.market_file(market_id).stat().st_mtime * 1e6))
        writer.file.publish()
    known = json.loads(layout.metadata_file(market_id).read_text())
    layout.metadata_file(new_id).write_text(json.dumps(known | {"marketId": new_id}, indent=2))
    return facts


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute(), int(sys.argv[2]), int(sys.argv[3]))
