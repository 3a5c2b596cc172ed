"""The client as seen from outside: its events drawn, and what is done to the pool meanwhile."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import aclosing, suppress
from typing import Final, assert_never

from sagepool_demo.checks import Story
from sagepool_demo.cluster import Kubernetes
from sagepool_demo.errors import ClientStopped, ProgramFailed, TookTooLong
from sagepool_demo.events import (
    Answered,
    Chunk,
    Embedded,
    Event,
    Finished,
    Flowing,
    Found,
    Listed,
    Progressed,
    Stopped,
    read_event,
)
from sagepool_demo.manifests import CLIENT
from sagepool_demo.observer import Observer
from sagepool_demo.screen import Screen

_START_LIMIT_S: Final = 90.0
_CHANGE_LIMIT_S: Final = 90.0
_NEWCOMER_LIMIT_S: Final = 20.0
_RETRY_S: Final = 0.3
_PROGRESS_INTERVAL_S: Final = 3.0


class Play:
    """One run of the client, from its first word to its last."""

    def __init__(
        self, cluster: Kubernetes, observer: Observer, screen: Screen, story: Story, group: str
    ) -> None:
        """`group` is the chat group whose engines come and go; what happens goes into `story`."""
        self._cluster = cluster
        self._observer = observer
        self._screen = screen
        self._story = story
        self._group = group
        self._flowing = asyncio.Event()
        self._heard = asyncio.Condition()
        self._answered: frozenset[str] = frozenset()
        self._drawn_at_s = 0.0

    async def run(self) -> None:
        """Listen to the client while engines come and go, then end it.

        Raises:
            DemoError: as the only kind of error in an exception group.
        """
        async with asyncio.TaskGroup() as tasks:
            listener = tasks.create_task(self._listen())
            await _within(self._flowing.wait(), "the client's requests flow", _START_LIMIT_S)
            await self._replace_engine()
            await self._scale(3)
            await self._scale(1)
            await self._cluster.kubectl("exec", f"job/{CLIENT}", "--", "sh", "-c", "kill -TERM 1")
            await _within(listener, "the client ends", _START_LIMIT_S)

    async def _replace_engine(self) -> None:
        before = self._observer.world.ready_instances(self._group)
        victim = min(before)
        self._screen.say(f"$ kubectl delete pod {victim}")
        await self._cluster.kubectl("delete", "pod", victim, "--wait=false")
        await self._observer.until(
            lambda world: (
                victim not in world.instances and world.is_settled(self._group, len(before))
            ),
            f"pod {victim} is not replaced",
            _CHANGE_LIMIT_S,
        )
        await self._meet_newcomers(before, f"in place of {victim}")

    async def _scale(self, replicas: int) -> None:
        before = self._observer.world.ready_instances(self._group)
        pool = self._observer.world.name
        change = json.dumps(self._replicas_patch(replicas))
        self._screen.say(f"$ kubectl patch spool {pool} --type json --patch '{change}'")
        await self._cluster.kubectl("patch", "spool", pool, "--type=json", f"--patch={change}")
        await self._observer.until(
            lambda world: world.is_settled(self._group, replicas),
            f"group {self._group} does not come to {replicas} engines",
            _CHANGE_LIMIT_S,
        )
        await self._meet_newcomers(before, f"with the scaling to {replicas}")

    def _replicas_patch(self, replicas: int) -> list[dict[str, object]]:
        pool = self._observer.world.pool
        groups = [group.name for group in pool.spec.groups] if pool else []
        path = f"/spec/groups/{groups.index(self._group)}/replicas"
        return [{"op": "add", "path": path, "value": replicas}]

    async def _meet_newcomers(self, before: frozenset[str], cause: str) -> None:
        """Let requests reach the engines that are new; whether they did is judged later."""
        newcomers = self._observer.world.ready_instances(self._group) - before
        self._story.newcomers.update(dict.fromkeys(newcomers, cause))
        with suppress(TimeoutError):
            async with asyncio.timeout(_NEWCOMER_LIMIT_S), self._heard:
                await self._heard.wait_for(lambda: newcomers <= self._answered)

    async def _listen(self) -> None:
        async for event in self._events():
            self._note(event)
            self._draw(event)
            async with self._heard:
                self._heard.notify_all()
        if self._story.finished is None:
            raise ClientStopped(
                f"the client ended without a result: see `kubectl logs job/{CLIENT}`"
            )

    async def _events(self) -> AsyncIterator[Event]:
        deadline = time.monotonic() + _START_LIMIT_S
        while True:
            try:
                async with aclosing(self._cluster.follow_log(f"job/{CLIENT}")) as lines:
                    async for line in lines:
                        event = read_event(line)
                        if event is not None:
                            yield event
                return
            except ProgramFailed as error:
                # There is no log before the container runs, and kubectl does not wait for that.
                if "waiting to start" not in str(error):
                    raise
                if time.monotonic() > deadline:
                    raise TookTooLong(f"the client's pod does not start: {error}") from error
                await asyncio.sleep(_RETRY_S)

    def _note(self, event: Event) -> None:
        story = self._story
        match event:
            case Listed():
                story.listed = event
            case Answered():
                story.answered = event
            case Found():
                story.found.append(event)
            case Flowing():
                self._flowing.set()
            case Progressed():
                self._answered = frozenset(event.answered)
            case Finished():
                story.finished = event
            case Stopped():
                raise ClientStopped(f"the client in the cluster cannot go on: {event.message}")
            case Chunk() | Embedded():
                pass
            case _:
                assert_never(event)

    def _draw(self, event: Event) -> None:
        screen = self._screen
        match event:
            case Listed():
                screen.say(f"models: {', '.join(event.models)}")
            case Chunk():
                screen.piece(event.text)
            case Answered():
                screen.say(
                    f"{event.instance} answered for {event.model} in {event.chunks} pieces, "
                    f"the first after {event.first_token_s * 1000:.0f} ms"
                )
            case Embedded():
                screen.say(
                    f"{event.paragraphs} paragraphs of docs/concepts.md are vectors of "
                    f"{event.dimension} numbers after {event.latency_s * 1000:.0f} ms"
                )
            case Found():
                screen.say(f"? {event.question}")
                screen.block(f"{'':9}{event.similarity:.2f} {event.heading}: {event.excerpt}...")
            case Flowing():
                screen.say(f"{event.clients} clients stream chat, chat and embed")
            case Progressed() if event.elapsed_s - self._drawn_at_s >= _PROGRESS_INTERVAL_S:
                self._drawn_at_s = event.elapsed_s
                screen.say(f"{event.requests} requests, {event.failures} failed")
            case _:
                pass


async def _within(awaited: Awaitable[object], what: str, limit_s: float) -> None:
    try:
        async with asyncio.timeout(limit_s):
            await awaited
    except TimeoutError as error:
        raise TookTooLong(f"waited {limit_s:g} s, in vain, until {what}") from error
