"""The process that keeps a pool running: its router and its engines are its children.

It holds the place's lock as long as it lives, so that nothing is ever started twice, and writes
what it knows into the place's record. Should it be killed, the kernel ends its children.
"""

import asyncio
import contextlib
import copy
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn

import httpx
import msgspec

from sagepool.laptop import elsewhere
from sagepool.laptop.child import end_with_parent
from sagepool.laptop.errors import CommandError
from sagepool.laptop.home import Place
from sagepool.laptop.keeper import Keeper
from sagepool.laptop.launch import Launch
from sagepool.laptop.logfile import LogFile
from sagepool.laptop.process import ProcessId, identify, is_alive
from sagepool.laptop.record import Outcome, Record, write_file, write_record
from sagepool.laptop.unit import Unit

_ENDS_TO_FAILED: Final = 3
"""A process that ends so often before it was ever ready will not do better."""
_PROBE_TIMEOUT_S: Final = 3.0
_STARTING_POLL_S: Final = 0.2
_FOLDER_POLL_S: Final = 1.0
"""How often it looks whether its place is still there."""
_TABLE_POLL_S: Final = 1.0
"""How often the router is asked how the instances are, once all were ready."""


class Supervisor:
    """Runs a launch in a place.

    Args:
        launch: what to run.
        place: where the record, the router's file and the logs go.
        myself: this process.
        client: asks processes for their health.
        now: seconds since the epoch.
    """

    def __init__(
        self,
        launch: Launch,
        place: Place,
        myself: ProcessId,
        client: httpx.AsyncClient,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._launch = launch
        self._place = place
        self._lock_file = _file_id(place.lock_file)
        self._client = client
        self._stop = asyncio.Event()
        self._is_lacking = asyncio.Event()
        """Not all answers, or not all is known to answer."""
        self._is_lacking.set()
        self._failure = ""
        self._record = Record(
            name=launch.name,
            supervisor=myself,
            file=launch.file,
            address=launch.address,
            admin=launch.admin,
            outcome="starting",
            started_at=now(),
            request=launch.request,
        )
        self._keepers: list[Keeper] = []
        for part in launch.parts:
            self._keepers.append(
                Keeper(
                    part,
                    LogFile(place.logs / f"{part.name}.log"),
                    client,
                    on_change=self._part_changed,
                    on_move=self._write_router_file,
                    taken=self._taken_ports,
                )
            )
        self._elsewhere = elsewhere.awaited(launch.documents)
        self._record.parts = [*(keeper.record for keeper in self._keepers), *self._elsewhere]
        self._units = [
            Unit([k for k in self._keepers if first.name in (k.part.name, k.part.unit)])
            for first in launch.parts
            if not first.unit
        ]

    def _taken_ports(self) -> set[int]:
        fixed = {part.port or 0 for part in self._launch.parts}
        fixed |= {part.health_port or 0 for part in self._launch.parts}
        return fixed | {keeper.port for keeper in self._keepers}

    def stop(self) -> None:
        """End everything; `run` returns then."""
        self._stop.set()

    async def run(self) -> int:
        """Run until stopped or failed. Returns the exit code."""
        self._write_router_file()
        self._write_record()
        by_name = {keeper.part.name: keeper for keeper in self._keepers}
        tasks = [
            asyncio.create_task(unit.run([by_name[name] for name in unit.keepers[0].part.after]))
            for unit in self._units
        ]
        tasks.append(asyncio.create_task(self._end_with_the_place()))
        tasks.append(asyncio.create_task(self._follow_readiness()))
        stopping = asyncio.create_task(self._stop.wait())
        done, _ = await asyncio.wait([stopping, *tasks[:-1]], return_when="FIRST_COMPLETED")
        broken = next((task for task in done if task is not stopping), None)
        if broken is not None and not self._failure:
            self._failure = f"the supervisor broke down: {broken.exception()}"
        await self._end(tasks)
        return 1 if self._failure else 0

    async def _end(self, tasks: list[asyncio.Task[None]]) -> None:
        self._set_outcome("stopping", self._failure)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # The router first: its requests still need the engines.
        for kind in ("router", "engine"):
            await asyncio.gather(*(k.stop() for k in self._keepers if k.part.kind == kind))
        if self._failure:
            self._record.parts = []
            self._set_outcome("failed", self._failure)
        if self._has_place():
            self._place.router_file.unlink(missing_ok=True)
            if not self._failure:
                self._place.record.unlink(missing_ok=True)

    async def _end_with_the_place(self) -> NoReturn:
        """Stop when the folder is removed or replaced: no command would find the pool any more."""
        while True:
            await asyncio.sleep(_FOLDER_POLL_S)
            if not self._has_place():
                self.stop()

    def _has_place(self) -> bool:
        """Whether the folder is still this pool's, as far as it can be seen: what lies in another
        one of its name is another pool's."""
        try:
            return _file_id(self._place.lock_file) == self._lock_file
        except OSError:  # a file system that does not answer has removed nothing
            return True

    async def _follow_readiness(self) -> NoReturn:
        """Ready is what answers."""
        while True:
            while not await self._is_whole():
                starting = self._record.outcome == "starting"
                await asyncio.sleep(_STARTING_POLL_S if starting else _TABLE_POLL_S)
            self._is_lacking.clear()
            self._set_outcome("ready", "")
            while not self._is_lacking.is_set():
                # Processes tell when they end; of engines elsewhere, the router knows.
                with contextlib.suppress(TimeoutError):
                    limit_s = _TABLE_POLL_S if self._elsewhere else None
                    async with asyncio.timeout(limit_s):
                        await self._is_lacking.wait()
                await self._is_whole()

    async def _is_whole(self) -> bool:
        """Whether every process and engine elsewhere answers, and the router knows where each
        engine is now."""
        if not self._launch.admin:
            return self._all_ready()
        table = await elsewhere.read_table(self._client, self._launch.admin)
        if elsewhere.judge(self._elsewhere, table, self._record.outcome):
            self._part_changed()
        if table is None:
            return False
        known = {(m.name, url) for m in table.values() if m.routable for url in m.urls}
        engines = {(k.record.instance, k.url) for k in self._keepers if k.part.kind == "engine"}
        return engines <= known and self._all_ready()  # one may have ended meanwhile

    def _all_ready(self) -> bool:
        return all(part.phase == "ready" for part in self._record.parts)

    def _part_changed(self) -> None:
        if self._record.outcome == "starting":
            self._give_up_if_hopeless()
        elif self._record.outcome == "ready" and not self._all_ready():
            self._record.outcome = "degraded"
            self._is_lacking.set()
        self._write_record()

    def _give_up_if_hopeless(self) -> None:
        for unit in self._units:
            if unit.backoff.ends_ever >= _ENDS_TO_FAILED and not unit.is_stable:
                why = unit.culprit.record.message.partition("; it starts again")[0]
                name = unit.culprit.part.name
                self._failure = (
                    f"{name} did not start: {why} (its log: {self._place.logs / name}.log)"
                )
                self.stop()

    def _set_outcome(self, outcome: Outcome, message: str) -> None:
        self._record.outcome, self._record.message = outcome, message
        self._write_record()

    def _write_record(self) -> None:
        # On a full disk the pool goes on; the commands then see what was last written.
        if self._has_place():
            with contextlib.suppress(OSError):
                write_record(self._place, self._record)

    def _write_router_file(self) -> None:
        """The pool with its engines where they listen now; the router follows the file."""
        if not self._launch.documents or not self._has_place():
            return
        documents = list(self._launch.documents)
        for unit in self._units:
            instance = copy.deepcopy(unit.keepers[0].part.instance)
            if instance is not None:
                urls = {role: keeper.url for keeper in unit.keepers for role in keeper.part.roles}
                for endpoint in instance["spec"]["endpoints"]:
                    endpoint["url"] = urls[endpoint["role"]]
                documents.append(instance)
        text = "\n---\n".join(json.dumps(document, indent=1) for document in documents)
        try:
            write_file(self._place.router_file, text.encode())
        except OSError as error:
            self._failure = f"{self._place.router_file} cannot be written: {error.strerror}"
            self.stop()


def _file_id(path: Path) -> tuple[int, int] | None:
    """What tells a file from another one of the same name; None where there is none.

    Raises:
        OSError: it cannot be looked at.
    """
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino


async def _run(launch: Launch, place: Place) -> int:
    myself = identify(os.getpid())
    if myself is None:
        raise CommandError("/proc does not show this process: laptop mode needs Linux with /proc")
    # trust_env: a proxy of the environment is for the world outside
    async with httpx.AsyncClient(timeout=_PROBE_TIMEOUT_S, trust_env=False) as client:
        supervisor = Supervisor(launch, place, myself, client)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, supervisor.stop)
        return await supervisor.run()


def main() -> int:
    """Run the launch that stands on standard input, in the place of the arguments.

    Arguments: kind and name of the place, its folder. The lock is held by an inherited descriptor.
    """
    kind, name, folder = sys.argv[1:]
    launch = msgspec.json.decode(sys.stdin.buffer.read(), type=Launch)
    if launch.parent is not None:
        end_with_parent()
        if not is_alive(launch.parent):  # it ended before the kernel was asked to tell
            return 1
    place = Place("pool" if kind == "pool" else "engine", name, Path(folder))
    return asyncio.run(_run(launch, place))
