"""The demo from start to end."""

import asyncio
from pathlib import Path
from typing import Final

from sagepool_cluster.cluster import find_provider
from sagepool_cluster.image import build_image
from sagepool_cluster.provider import Provider
from sagepool_crds import names
from sagepool_demo import manifests
from sagepool_demo.checks import Story, find_broken_promises
from sagepool_demo.cluster import Cluster
from sagepool_demo.errors import ProgramFailed
from sagepool_demo.observer import observe
from sagepool_demo.play import Play
from sagepool_demo.report import format_answered, format_figures, format_next_steps
from sagepool_demo.screen import Screen

ROOT: Final = Path(__file__).parents[2]
CLIENT_MODULES: Final = (
    "__init__", "client", "events", "figures", "paragraphs", "search", "traffic",
)  # fmt: skip
"""The part of this package that runs in the cluster."""

RELEASE: Final = "sagepool"
RELEASE_NAMESPACE: Final = "sagepool-system"
NAMESPACE: Final = "sagepool-demo"
POOL: Final = "rag"
CHAT: Final = "chat"
CHAT_MODEL: Final = "qwen2.5-7b"
CHAT_ALIAS: Final = "gpt-4o-mini"
EMBEDDING_MODEL: Final = "bge-m3"
CLIENTS: Final = 50

_READY_LIMIT_S: Final = 180.0


async def tell(screen: Screen) -> bool:
    """Run the demo; returns whether all was as promised.

    Raises:
        DemoError, ClusterError: it could not go on; also as parts of an exception group.
    """
    screen.title("A cluster, the image, the chart")
    provider = await asyncio.to_thread(find_provider, progress=screen)
    kubeconfig = await asyncio.to_thread(provider.up)
    cluster = Cluster(kubeconfig, await asyncio.to_thread(provider.tools), NAMESPACE)
    screen.say(f"the cluster answers ({provider.name}, {kubeconfig})")
    image, client_image = [
        await _load_image(provider, target, screen) for target in ("runtime", "demo")
    ]
    await _install(cluster, image, screen)
    story = Story(models=frozenset({CHAT_MODEL, EMBEDDING_MODEL}))
    screen.title(f"kubectl apply -f examples/{POOL}.yaml")
    await cluster.apply(manifests.build_namespace(NAMESPACE))
    async with observe(cluster, screen, POOL) as observer:
        example = str(ROOT / "examples" / f"{POOL}.yaml")
        generation = int(
            await cluster.kubectl(
                "apply", "-f", example, "--output=jsonpath={.metadata.generation}"
            )
        )
        await observer.until(
            # Of what was just applied: an earlier run's pool may be Ready as it was.
            lambda world: world.is_ready(generation),
            f"pool {POOL} is not Ready",
            _READY_LIMIT_S,
        )
        await _start_client(cluster, client_image, screen)
        await Play(cluster, observer, screen, story, CHAT).run()
    await _show_end(cluster, screen, story)
    return _judge(cluster, screen, story)


async def take_down(screen: Screen) -> None:
    """Remove what the demo installed; the cluster stays, and so do the CRDs, as the chart says.

    Raises:
        DemoError, ClusterError: the cluster does not answer, or refuses.
    """
    provider = await asyncio.to_thread(find_provider, progress=screen)
    if not provider.kubeconfig.exists():
        screen.say("there is no cluster, so nothing to remove")
        return
    cluster = Cluster(provider.kubeconfig, await asyncio.to_thread(provider.tools), NAMESPACE)
    await cluster.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found")
    screen.say(f"pool {POOL} and namespace {NAMESPACE} are gone")
    await cluster.helm(
        "uninstall", RELEASE, "--namespace", RELEASE_NAMESPACE, "--ignore-not-found", "--wait"
    )
    await cluster.kubectl("delete", "namespace", RELEASE_NAMESPACE, "--ignore-not-found")
    screen.say(f"release {RELEASE} and namespace {RELEASE_NAMESPACE} are gone; the CRDs stay")


async def _load_image(provider: Provider, target: str, screen: Screen) -> str:
    image = await asyncio.to_thread(build_image, screen, target)
    await asyncio.to_thread(provider.load_image, image.archive)
    screen.say(f"image {image.reference} is loaded")
    return image.reference


async def _install(cluster: Cluster, image: str, screen: Screen) -> None:
    repository, _, tag = image.rpartition(":")
    pending = await cluster.helm("list", "--pending", "--short", "--namespace", RELEASE_NAMESPACE)
    if RELEASE in pending.split():
        screen.say("an installation was cut short: it is removed first")
        await cluster.helm("uninstall", RELEASE, "--namespace", RELEASE_NAMESPACE, "--wait")
    # fmt: off
    command = (
        "upgrade", "--install", RELEASE, str(ROOT / "charts" / "sagepool"),
        "--namespace", RELEASE_NAMESPACE, "--create-namespace",
        "--set-string", f"image.repository={repository},image.tag={tag}",
        # The CRDs may be there already, from a test or an earlier release: they outlive both.
        "--take-ownership",
        "--wait", "--timeout", "2m",
    )
    # fmt: on
    try:
        await cluster.helm(*command)
    except ProgramFailed as error:
        raise ProgramFailed(
            f"{error}; see `kubectl --kubeconfig {cluster.kubeconfig} -n {RELEASE_NAMESPACE} "
            "describe pod` and `... logs -l app.kubernetes.io/component=operator`"
        ) from error
    screen.say(f"helm release {RELEASE} is installed in namespace {RELEASE_NAMESPACE}")


async def _start_client(cluster: Cluster, image: str, screen: Screen) -> None:
    package = Path(__file__).parent
    code = {f"{name}.py": (package / f"{name}.py").read_text() for name in CLIENT_MODULES}
    page = ROOT / "docs" / "concepts.md"
    url = f"http://{names.router_name(POOL)}.{NAMESPACE}.svc/v1"
    screen.title(f"A client in the cluster: openai at {url}")
    await cluster.kubectl("delete", "job", manifests.CLIENT, "--ignore-not-found")
    await cluster.apply(
        manifests.build_files(manifests.CODE, code),
        manifests.build_files(manifests.TEXT, {page.name: page.read_text()}),
        manifests.build_client(image, url, page.name, (CHAT_ALIAS, EMBEDDING_MODEL), CLIENTS),
    )


async def _show_end(cluster: Cluster, screen: Screen, story: Story) -> None:
    if story.finished is not None:
        screen.title(f"{CLIENTS} clients for {story.finished.elapsed_s:.0f} s")
        screen.block(format_figures(story.finished))
        screen.block("\n" + format_answered(story.finished))
    screen.title("kubectl get spool,sinst")
    screen.block(await cluster.kubectl("get", "spool,sinst"))


def _judge(cluster: Cluster, screen: Screen, story: Story) -> bool:
    broken = list(find_broken_promises(story))
    screen.title("Not as promised" if broken else "All as promised: no request failed")
    screen.block("\n".join(f"- {promise}" for promise in broken))
    screen.block(format_next_steps(cluster.kubeconfig, cluster.tools, NAMESPACE, POOL, CHAT_ALIAS))
    return not broken
