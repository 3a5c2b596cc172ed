"""One process: its port, start, health and end."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

import httpx

from sagepool.laptop import ports
from sagepool.laptop.child import Child, start_child
from sagepool.laptop.launch import PORT, PartLaunch
from sagepool.laptop.logfile import LogFile, plain
from sagepool.laptop.process import STOP_S, ProcessId, end, identify, listens, session_members
from sagepool.laptop.record import PartRecord, Phase

_STARTING_POLL_S: Final = 0.2
_READY_POLL_S: Final = 2.0
_SILENT: Final = "it does not answer: nothing listens at its port"
"""Which is as it should be while it starts."""
_FAILURES_TO_BROKEN: Final = 3


class Keeper:
    """One process of the launch.

    Args:
        part: what to run.
        log: takes its output.
        client: asks for its health.
        on_change: called when its record has changed.
        on_move: called when its port has changed, before the process starts.
        taken: ports that others of the launch have.
        sleep: waits that many seconds.
        stop_s: seconds from SIGTERM to SIGKILL.
    """

    def __init__(
        self,
        part: PartLaunch,
        log: LogFile,
        client: httpx.AsyncClient,
        *,
        on_change: Callable[[], None],
        on_move: Callable[[], None],
        taken: Callable[[], set[int]],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        stop_s: float = STOP_S,
    ) -> None:
        self.part = part
        self.is_stable = asyncio.Event()
        """Set once it has been ready."""
        self.is_ready = asyncio.Event()
        """Set while the present process has been ready."""
        self._log = log
        self._client = client
        self._on_change = on_change
        self._on_move = on_move
        self._taken = taken
        self._sleep = sleep
        self._stop_s = stop_s
        self._child: Child | None = None
        self._starting = asyncio.Lock()
        """Held while there is no telling yet whether there is a process to end."""
        self._claim = ports.PortClaim(part.port) if part.port else ports.claim_port(taken())
        self.record = PartRecord(
            name=part.name,
            kind=part.kind,
            group=part.group,
            engine=part.engine,
            models=part.models,
            url=self.url,
            phase="waiting",
            instance=(part.unit or part.name) if part.roles else "",
            gpus=part.gpus,
        )

    @property
    def port(self) -> int:
        """Where it listens, or is going to."""
        return self._claim.port

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    async def run(self) -> str:
        """From the start to the end of one process; returns why it ended."""
        self._move_from_busy_port()
        self.is_ready.clear()
        try:
            async with self._starting:
                child = self._child = await self._start()
        except OSError as error:
            return f"{self.part.command[0]} cannot be started: {error.strerror or error}"
        self.record.process = identify(child.pid)
        self.say("starting", "")
        watching = asyncio.create_task(self._watch_health())
        try:
            code = await child.wait()
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        # What it started must not outlive it, nor keep its output open.
        await _sweep(self.record.process)
        await child.finish()
        how = f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
        # Whom a signal has ended does not know why: an error in its log is an older one.
        last = self._log.cause() if code > 0 else self._log.last_line()
        return f"it ended with {how}" + (f": {last[:300]}" if last else "")

    def rest(self, why: str) -> None:
        """Its process has ended, and another one will be started."""
        self.record.process = None
        self.record.restarts += 1
        self.say("waiting", why)

    async def end(self) -> None:
        """SIGTERM, SIGKILL ten seconds later."""
        async with self._starting:
            child = self._child
        if child is None or child.code is not None:
            return
        self.say("stopping", "")
        child.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(self._stop_s):
                await child.wait()
        except TimeoutError:
            child.send_signal(signal.SIGKILL)
            await child.wait()

    async def stop(self) -> None:
        """End it for good; nothing of its session is left."""
        await self.end()
        await _sweep(self.record.process)
        if self._child is not None:
            await self._child.finish()
        self._claim.release()
        self._log.close()

    def say(self, phase: Phase, message: str) -> None:
        """Record how it is."""
        if (phase, message) != (self.record.phase, self.record.message):
            self.record.phase, self.record.message, self.record.doing = phase, message, ""
            self._on_change()

    async def _start(self) -> Child:
        self._log.begin()
        command = [word.replace(PORT, str(self.port)) for word in self.part.command]
        return await start_child(command, {**os.environ, **self.part.environment}, self._log.write)

    async def _watch_health(self) -> NoReturn:
        port = self.part.health_port or self.port
        url = f"http://127.0.0.1:{port}{self.part.health_path}"
        failures = 0
        while True:
            problem = await self._ask(url)
            if not problem and self.record.phase != "ready" and not self._listens(port):
                problem = f"another program answers on port {port}"
                self.say(self.record.phase, problem)
            failures = failures + 1 if problem else 0
            if not problem:
                self.is_stable.set()
                self.is_ready.set()
                self.say("ready", "")
            elif self.record.phase == "ready" and failures >= _FAILURES_TO_BROKEN:
                self.say("broken", problem)
            elif self.record.phase == "starting":
                self._tell_start("" if problem == _SILENT else problem)
            settled = self.record.phase == "ready" and not failures
            await self._sleep(_READY_POLL_S if settled else _STARTING_POLL_S)

    def _tell_start(self, problem: str) -> None:
        """Record how far its start is: an engine may load for half an hour."""
        doing = plain(self._log.last_line())
        is_news = (problem, doing) != (self.record.message, self.record.doing)
        self.record.message, self.record.doing = problem, doing
        if is_news:
            self._on_change()

    def _listens(self, port: int) -> bool:
        return self.record.process is not None and listens(self.record.process, port)

    async def _ask(self, url: str) -> str:
        """What is wrong; empty when it is healthy."""
        try:
            answer = await self._client.get(url)
        except httpx.ConnectError:
            return _SILENT
        except httpx.HTTPError as error:
            return f"it does not answer: {error or type(error).__name__}"
        return "" if answer.status_code == 200 else f"its health check answers {answer.status_code}"

    def _move_from_busy_port(self) -> None:
        """Another program may have taken the port while the process was away."""
        if self.part.port is None and not ports.can_listen("127.0.0.1", self.port):
            self._claim.release()
            self._claim = ports.claim_port(self._taken())
            self.record.url = self.url
            self._on_move()


async def _sweep(leader: ProcessId | None) -> None:
    """End what is left of a session whose leader has ended."""
    if leader is not None:
        left = [member for member in session_members(leader) if member != leader]
        if left:
            await asyncio.to_thread(end, left, 1.0)
