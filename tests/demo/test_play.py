import asyncio
import io
import time

import pytest

from demo_cluster import DemoCluster
from sagepool_demo.checks import Story
from sagepool_demo.errors import ClientStopped
from sagepool_demo.events import Stopped
from sagepool_demo.observer import observe
from sagepool_demo.play import Play
from sagepool_demo.screen import Screen
from sagepool_demo.world import World


async def play(cluster: DemoCluster) -> tuple[Story, str]:
    """Run the client's part; returns what happened and what was on the screen."""
    out, story = io.StringIO(), Story(models=frozenset())
    screen = Screen(out, time.monotonic)
    async with asyncio.timeout(20), observe(cluster, screen, "rag") as observer:
        await observer.until(World.is_ready, "the pool is not Ready", 10)
        await Play(cluster, observer, screen, story, "chat").run()
    return story, out.getvalue()


async def test_an_engine_is_replaced_and_the_group_scaled_while_requests_flow() -> None:
    cluster = DemoCluster()
    story, _ = await play(cluster)
    verbs = [command[0] for command in cluster.commands]
    assert verbs == ["delete", "patch", "patch", "exec"]
    assert [c[-1].partition('"value": ')[2][:1] for c in cluster.commands[1:3]] == ["3", "1"]
    assert story.newcomers == {
        "rag-chat-3": "in place of rag-chat-1",
        "rag-chat-4": "with the scaling to 3",
    }
    assert story.finished is not None


async def test_all_that_happens_is_on_the_screen() -> None:
    _, screen = await play(DemoCluster())
    for line in (
        "2 clients stream chat, chat and embed",
        "$ kubectl delete pod rag-chat-1",
        "engine rag-chat-1  gone",
        "engine rag-chat-3  Ready",
        "$ kubectl patch spool rag",
    ):
        assert line in screen


@pytest.mark.parametrize(
    ("words", "sentence"),
    [([], "without a result"), ([Stopped(message="status 503")], "cannot go on: status 503")],
)
async def test_a_client_that_gives_up_ends_the_demo_with_its_reason(
    words: list[Stopped], sentence: str
) -> None:
    with pytest.RaisesGroup(
        pytest.RaisesExc(ClientStopped, match=sentence), flatten_subgroups=True
    ):
        await play(DemoCluster(closing_words=[*words]))
