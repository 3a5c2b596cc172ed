"""The engine that ships with us: no GPU, no weights."""

from collections.abc import Sequence

from sagepool_crds.pool import Group
from sagepool_operator.config import Images
from sagepool_operator.engines.container import EngineContainer, merge_args, merge_env


def build(group: Group, images: Images, _folders: Sequence[str]) -> EngineContainer:
    """The container that plays the group's models, two of a mixed group in one process."""
    flags = [
        "--host=0.0.0.0",
        f"--port={group.engine.port}",
        *(f"--model={model.name}={role}" for role, model in group.served),
        # Longer than the routers' idle limit, so that they are the ones that close.
        "--keep-alive-timeout=75",
    ]
    if group.model.uri is not None:
        flags.append(f"--root={group.model.uri}")
    room = group.lora_room
    if room is not None:
        flags += ["--enable-lora", f"--max-lora-rank={room.max_rank}"]
    given = group.engine.image
    return EngineContainer(
        image=given or images.own,
        pull_policy="IfNotPresent" if given else images.pull_policy,
        command=("sagepool-simulator", "serve"),
        args=merge_args(flags, group.engine.args),
        env=merge_env((), group.engine.env),
        load_limit_s=600,
        probe_period_s=1,
        stop_limit_s=30,
        is_ours=True,
        requests={"cpu": "50m", "memory": "64Mi"},
    )
