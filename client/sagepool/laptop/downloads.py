"""What engines that start here load from the hub, and with which token."""

from collections.abc import Iterator

from sagepool.laptop.models import HUB_VARIABLES, Wanted
from sagepool.laptop.plan import Options, downloading_processes
from sagepool.laptop.secrets import Secrets
from sagepool_crds.pool import Group, InferencePool
from sagepool_operator.engines.container import HUB_SCHEME, hub_model, hub_token

_WAY = "name a Secret with a token in model.tokenSecret, or set HF_TOKEN"


def wanted_of_pool(pool: InferencePool, options: Options, secrets: Secrets) -> Iterator[Wanted]:
    """Models and adapters that the pool's engines load.

    Raises:
        WrongUse: a key is missing that the pool names.
    """
    for process in downloading_processes(pool, options):
        yield from _wanted_of_process(process, secrets)


def _wanted_of_process(process: Group, secrets: Secrets) -> Iterator[Wanted]:
    wanted_by = f"group {process.name}"
    own = [*hub_token(process, "HF_TOKEN"), *(v.to_object() for v in process.engine.env)]
    environment = secrets.environment((v for v in own if v["name"] in HUB_VARIABLES), wanted_by)
    yield Wanted(
        hub_model(process),
        wanted_by,
        process.model.revision,
        environment=environment,
        way_to_give_token=_WAY,
    )
    for adapter in process.adapters:
        if adapter.uri.startswith(HUB_SCHEME):
            yield Wanted(
                adapter.uri.removeprefix(HUB_SCHEME),
                wanted_by,
                kind="adapter",
                environment=environment,
                way_to_give_token=_WAY,
            )
