"""Another server process: `python child.py DATABASE CALLS`.

Starts the run, lets so many calls through, says its id and how many were answered, and then works
on until it is killed or the run is stopped; of that it tells the status it left.
"""

import asyncio
import os
import sys
from pathlib import Path

from fakes.houses import open_service
from fakes.models import FakeModel
from fakes.tasks import answer_addition, request


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


async def main() -> None:
    path, calls = Path(sys.argv[1]), int(sys.argv[2])
    model = FakeModel(answer_addition, concurrency=1)
    async with open_service(path, model) as service:
        model.hold_at(calls)
        run_id = (await service.start(request())).record.run_id
        await model.reached()
        # The last answer may still be on its way to the disk.
        finished = model.finished.total()
        kept = 0
        while kept < finished:
            kept = (await service.usage(run_id)).calls
        say(run_id)
        say(str(finished))
        await service.wait_until_settled(run_id)
        say("cancelled")


asyncio.run(main())
