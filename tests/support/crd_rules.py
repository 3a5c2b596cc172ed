"""Every rule of the two kinds: an object that breaks it and the nearest one that does not."""

from dataclasses import dataclass, field
from typing import Any

from crd_objects import group_object, instance_object, pool_object

REAL = {"engine": {"type": "vllm"}, "model": {"name": "m", "uri": "hf://o/m"}}


@dataclass(frozen=True)
class Rule:
    """A rule with an object that breaks it and the nearest one that does not."""

    says: str
    """The server's message."""
    names: str
    """The field that the message names."""
    bad: dict[str, Any] = field(hash=False)
    good: dict[str, Any] = field(hash=False)


def _named(name: str) -> dict[str, Any]:
    pool = pool_object()
    pool["metadata"]["name"] = name
    return pool


def _pool_of(**group: Any) -> dict[str, Any]:
    return pool_object(groups=[group_object(**group)])


def _pair(**second: Any) -> dict[str, Any]:
    other = group_object(**{"name": "other", "role": "embedding", **second})
    return pool_object(groups=[group_object(), other])


def _env(**variable: Any) -> dict[str, Any]:
    return _pool_of(engine={"type": "simulator", "env": [{"name": "A", **variable}]})


def _elsewhere(url: str) -> dict[str, Any]:
    return instance_object(endpoints=[{"role": "llm", "url": url, "models": ["m"]}])


def _mixed(**fields: Any) -> dict[str, Any]:
    """A pool with one group that serves `m` for chat and `e` for embeddings."""
    group = {"role": "llm_embedding", "model": {"name": "m"}, "embeddingModel": {"name": "e"}}
    return _pool_of(**{**group, **fields})


def _pair_of(*, pool: Any = None, **fields: Any) -> dict[str, Any]:
    """The same on vLLM; `pool` are fields of the pool."""
    made = _mixed(
        **{
            "engine": {"type": "vllm"},
            "model": {"name": "m", "uri": "hf://o/m"},
            "embeddingModel": {"name": "e", "uri": "hf://o/e"},
            **fields,
        }
    )
    made["spec"].update(pool or {})
    return made


def _tokens(first: dict[str, str], second: dict[str, str]) -> dict[str, Any]:
    return {
        "model": {"name": "m", "uri": "hf://o/m", "tokenSecret": first},
        "embeddingModel": {"name": "e", "uri": "hf://o/e", "tokenSecret": second},
    }


def _beside_mixed(**second: Any) -> dict[str, Any]:
    """The same pool with a second group."""
    pool = _mixed(model={"name": "m", "aliases": ["n"]})
    pool["spec"]["groups"].append(group_object(name="other", **second))
    return pool


def _cache(**fields: Any) -> dict[str, Any]:
    return pool_object(cache=fields)


def _cloud(**fields: Any) -> dict[str, Any]:
    provider = {
        "baseUrl": "https://api.example.com/v1",
        "apiKeySecret": KEY,
        "models": {"bge-m3": "text-embedding"},
    }
    return pool_object(cloud={**provider, **fields})


def _scaled(role: str = "llm", **scaling: Any) -> dict[str, Any]:
    """A pool with a scaled group; a field of None is left out."""
    given = {"maxReplicas": 4, "target": {"inFlight": 32}, **scaling}
    kept = {name: value for name, value in given.items() if value is not None}
    return _pool_of(role=role, replicas=None, scaling=kept)


def _adapted(*adapters: str, **fields: Any) -> dict[str, Any]:
    """A pool whose first group has these adapters; the second embeds with `bge`, or `ada`."""
    found = [{"name": name, "uri": "hf://acme/bot"} for name in adapters]
    pool = _mixed(adapters=found, embeddingModel={"name": "bge", "aliases": ["ada"]}, **fields)
    pool["spec"]["groups"].append(group_object(name="other", model={"name": "n", "aliases": ["o"]}))
    return pool


def _served_from(uri: str, **model: Any) -> dict[str, Any]:
    return _pool_of(engine={"type": "vllm"}, model={"name": "m", "uri": uri, **model})


def _served_from_bucket(cache: Any, **model: Any) -> dict[str, Any]:
    pool = _served_from("s3://models/qwen-2.5", **model)
    return {**pool, "spec": {**pool["spec"], **({"cache": cache} if cache else {})}}


def _adapter_from(uri: str) -> dict[str, Any]:
    return _pool_of(adapters=[{"name": "bot", "uri": uri}])


EXTERNAL = {"mode": "external", "maxReplicas": None, "target": None}
KEY = {"name": "s", "key": "k"}

RULES = [
    Rule(
        "replicas and scaling are both set: remove replicas to have the group scaled, or scaling "
        "to have a fixed number",
        "spec.groups[0].scaling",
        bad=_pool_of(replicas=2, scaling={"mode": "external"}),
        good=_pool_of(replicas=None, scaling={"mode": "external"}),
    ),
    Rule(
        "minReplicas is above maxReplicas: lower it, or raise maxReplicas",
        "spec.groups[0].scaling.minReplicas",
        bad=_scaled(minReplicas=5),
        good=_scaled(minReplicas=4),
    ),
    Rule(
        "maxReplicas is missing: say how many engines there may be at most, or set mode to "
        "external",
        "spec.groups[0].scaling",
        bad=_scaled(maxReplicas=None),
        good=_scaled(),
    ),
    Rule(
        "target is missing: say what one engine should have, for example target: {inFlight: 32}, "
        "or set mode to external",
        "spec.groups[0].scaling",
        bad=_scaled(target=None),
        good=_scaled(),
    ),
    Rule(
        "target is empty: say what one engine should have, for example inFlight: 32",
        "spec.groups[0].scaling.target",
        bad=_scaled(target={}),
        good=_scaled(target={"queuedRequests": 1}),
    ),
    *(
        Rule(
            "mode external leaves the number of engines to others: remove minReplicas, "
            "maxReplicas, target, scaleDownAfterSeconds and idleToZeroSeconds, or set mode to auto",
            "spec.groups[0].scaling.mode",
            bad=_scaled(**{**EXTERNAL, **field}),
            good=_scaled(**EXTERNAL, holdSeconds=60),
        )
        for field in (
            {"minReplicas": 0},
            {"maxReplicas": 4},
            {"target": {"inFlight": 1}},
            {"scaleDownAfterSeconds": 1},
            {"minReplicas": 0, "idleToZeroSeconds": 1},
        )
    ),
    *(
        Rule(
            "only a group without a last engine goes to zero: set minReplicas to 0, or remove "
            "idleToZeroSeconds",
            "spec.groups[0].scaling.idleToZeroSeconds",
            bad=_scaled(idleToZeroSeconds=60, **field),
            good=_scaled(idleToZeroSeconds=60, minReplicas=0),
        )
        for field in ({}, {"minReplicas": 1})
    ),
    Rule(
        "a group that keeps its last engine holds no request: set minReplicas to 0, or remove "
        "holdSeconds",
        "spec.groups[0].scaling.holdSeconds",
        bad=_scaled(holdSeconds=60),
        good=_scaled(holdSeconds=60, minReplicas=0),
    ),
    Rule(
        "embeddings have no first token: remove scaling.target.ttftMs, or scale by queuedTexts",
        "spec.groups[0].scaling.target.ttftMs",
        bad=_scaled("embedding", target={"ttftMs": 500}),
        good=_scaled("embedding", target={"queuedTexts": 256}),
    ),
    Rule(
        "only embeddings are counted in texts: remove scaling.target.queuedTexts, or scale by "
        "queuedRequests",
        "spec.groups[0].scaling.target.queuedTexts",
        bad=_scaled(target={"queuedTexts": 256}),
        good=_scaled(target={"ttftMs": 500}),
    ),
    Rule(
        "metadata.name becomes part of Service and pod names: use at most 40 lower-case letters, "
        "digits and hyphens, with a letter first",
        "<nil>",
        bad=_named("a" * 41),
        good=_named("a" * 40),
    ),
    Rule("with a letter first", "<nil>", bad=_named("1st.pool"), good=_named("first-pool")),
    Rule(
        "the name router belongs to the pool's router: give the group another name",
        "spec.groups[0].name",
        bad=_pool_of(name="router"),
        good=_pool_of(name="routers"),
    ),
    Rule(
        "maxSurge and maxUnavailable are both 0, so no pod could ever be replaced: set one of them "
        "to 1 or more",
        "spec.groups[0].rollout.maxSurge",
        bad=_pool_of(rollout={"maxSurge": 0}),
        good=_pool_of(rollout={"maxSurge": 0, "maxUnavailable": 1}),
    ),
    Rule(
        "two groups with different roles serve the same model name or alias: rename it in one of "
        "them",
        "spec.groups",
        bad=_pair(model={"name": "gpt-4o-mini"}),
        good=_pair(model={"name": "another"}),
    ),
    Rule(
        "two groups with different roles serve the same model name or alias",
        "spec.groups",
        bad=_pair(model={"name": "x", "aliases": ["qwen2.5-7b"]}),
        good=_pair(role="llm", model={"name": "x", "aliases": ["qwen2.5-7b"]}),
    ),
    Rule(
        "Duplicate value",
        "spec.groups[1]",
        bad=_pair(name="chat", role="llm", model={"name": "x"}),
        good=_pair(name="chat2", role="llm", model={"name": "x"}),
    ),
    Rule(
        "tei serves embeddings only: set role to embedding, or engine.type to vllm",
        "spec.groups[0].engine.type",
        bad=_pool_of(**{**REAL, "engine": {"type": "tei"}}),
        good=_pool_of(**{**REAL, "engine": {"type": "tei"}}, role="embedding"),
    ),
    Rule(
        "model.uri is missing: say what the engine loads, for example hf://Qwen/",
        "spec.groups[0].model",
        bad=_pool_of(engine={"type": "vllm"}),
        good=_pool_of(**REAL),
    ),
    Rule(
        "the simulator downloads nothing: remove model.revision, tokenSecret and",
        "spec.groups[0].model",
        bad=_pool_of(model={"name": "m", "revision": "main"}),
        good=_pool_of(model={"name": "m", "uri": "hf://o/m"}),
    ),
    Rule(
        "the simulator downloads nothing: remove model.revision, tokenSecret and",
        "spec.groups[0].model",
        bad=_pool_of(model={"name": "m", "tokenSecret": KEY}),
        good=_pool_of(
            engine={"type": "vllm"},
            model={"name": "m", "uri": "hf://o/m", "tokenSecret": KEY, "revision": "main"},
        ),
    ),
    *(
        Rule(
            "adapters answer chat: remove adapters and lora, or set role to llm",
            "spec.groups[0].adapters",
            bad=_pool_of(**{**REAL, "engine": {"type": engine}}, role="embedding", **fields),
            good=_pool_of(**REAL, **fields),
        )
        for engine in ("vllm", "tei")
        for fields in ({"lora": {}}, {"adapters": [{"name": "bot", "uri": "hf://acme/bot"}]})
    ),
    *(
        Rule(
            "an adapter has the name or alias of a model: rename it, so that a name means one "
            "model",
            "spec.groups",
            bad=_adapted("bot", name),
            good=_adapted("bot", f"{name}-bot"),
        )
        for name in ("m", "bge", "ada", "n", "o")
    ),
    Rule(
        "Duplicate value",
        "spec.groups[0].adapters[1]",
        bad=_adapted("bot", "bot"),
        good=_adapted("bot", "bot-2"),
    ),
    Rule(
        "write hf://OWNER/NAME, or the absolute path of a folder in the engine's container, for "
        "example /models/adapters/support",
        "spec.groups[0].adapters[0].uri",
        bad=_adapter_from("adapters/support"),
        good=_adapter_from("/models/adapters/support.v1"),
    ),
    Rule(
        "write hf://OWNER/NAME, or the absolute path",
        "spec.groups[0].adapters[0].uri",
        bad=_adapter_from("/models/../etc"),
        good=_adapter_from("hf://acme/support.v1"),
    ),
    Rule(
        "only vllm can be given a share of the GPU's memory: remove gpu.memoryFraction",
        "spec.groups[0].gpu",
        bad=_pool_of(gpu={"memoryFraction": 0.5}),
        good=_pool_of(**REAL, gpu={"memoryFraction": 0.5}),
    ),
    Rule(
        "only for vllm it is reckoned whether a model fits: remove gpu.memory",
        "spec.groups[0].gpu",
        bad=_pool_of(gpu={"memory": "80Gi"}),
        good=_pool_of(**REAL, gpu={"memory": "80Gi"}),
    ),
    Rule(
        "aliases repeats the model's own name: remove it there",
        "spec.groups[0].model.aliases",
        bad=_pool_of(model={"name": "m", "aliases": ["m"]}),
        good=_pool_of(model={"name": "m", "aliases": ["n"]}),
    ),
    Rule(
        "Duplicate value",
        "spec.groups[0].model.aliases[1]",
        bad=_pool_of(model={"name": "m", "aliases": ["n", "n"]}),
        good=_pool_of(model={"name": "m", "aliases": ["n", "o"]}),
    ),
    Rule(
        "two groups with different roles serve the same model name or alias",
        "spec.groups",
        bad=_beside_mixed(role="embedding", model={"name": "n"}),
        good=_beside_mixed(role="embedding", model={"name": "e"}),
    ),
    Rule(
        "two groups with different roles serve the same model name or alias",
        "spec.groups",
        bad=_beside_mixed(role="llm", model={"name": "x", "aliases": ["e"]}),
        good=_beside_mixed(role="llm", model={"name": "x", "aliases": ["m", "n"]}),
    ),
    Rule(
        "two groups with different roles serve the same model name or alias",
        "spec.groups",
        bad=_beside_mixed(role="llm_embedding", model={"name": "x"}, embeddingModel={"name": "n"}),
        good=_beside_mixed(role="llm_embedding", model={"name": "m"}, embeddingModel={"name": "e"}),
    ),
    Rule(
        "two groups with different roles serve the same model name or alias",
        "spec.groups",
        bad=_beside_mixed(role="llm_embedding", model={"name": "e"}, embeddingModel={"name": "x"}),
        good=_beside_mixed(role="llm_embedding", model={"name": "x"}, embeddingModel={"name": "y"}),
    ),
    Rule(
        "embeddingModel repeats a name or alias of model: give it another, so that a name means "
        "one model",
        "spec.groups[0].embeddingModel",
        bad=_mixed(embeddingModel={"name": "x", "aliases": ["m"]}),
        good=_mixed(embeddingModel={"name": "x", "aliases": ["y"]}),
    ),
    Rule(
        "embeddingModel is missing: role llm_embedding serves one model for chat (model) and one "
        "for embeddings; name the second, or set role to llm",
        "spec.groups[0].role",
        bad=_mixed(embeddingModel=None),
        good=_mixed(embeddingModel=None, role="llm"),
    ),
    Rule(
        "only role llm_embedding serves a second model: remove embeddingModel, or put it into a "
        "group of its own",
        "spec.groups[0].embeddingModel",
        bad=_mixed(role="embedding"),
        good=_mixed(role="embedding", embeddingModel=None),
    ),
    *(
        Rule(
            "only role llm_embedding on vllm has a second process: remove engine.embeddingArgs, "
            "or write them to engine.args",
            "spec.groups[0].engine.embeddingArgs",
            bad=bad,
            good=_pair_of(engine={"type": "vllm", "embeddingArgs": ["--seed=1"]}),
        )
        for bad in (
            _pool_of(**{**REAL, "engine": {"type": "vllm", "embeddingArgs": ["--seed=1"]}}),
            _mixed(engine={"type": "simulator", "embeddingArgs": ["--seed=1"]}),
        )
    ),
    Rule(
        "only role llm_embedding on vllm shares its part of the GPU's memory out: remove "
        "gpu.embeddingMemoryFraction",
        "spec.groups[0].gpu.embeddingMemoryFraction",
        bad=_pool_of(**REAL, gpu={"embeddingMemoryFraction": 0.2}),
        good=_pair_of(gpu={"embeddingMemoryFraction": 0.2}),
    ),
    Rule(
        "tei serves embeddings only: set role to embedding, or engine.type to vllm",
        "spec.groups[0].engine.type",
        bad=_pair_of(engine={"type": "tei"}),
        good=_pair_of(),
    ),
    *(
        Rule(
            "less than 0.05 of the GPU is left for chat: lower embeddingMemoryFraction (0.2 if "
            "left out), or raise memoryFraction (0.9 if left out)",
            "spec.groups[0].gpu",
            bad=_pair_of(gpu=bad),
            good=_pair_of(gpu=good),
        )
        for bad, good in (
            ({"embeddingMemoryFraction": 0.86}, {"embeddingMemoryFraction": 0.85}),
            ({"memoryFraction": 0.24}, {"memoryFraction": 0.25}),
            (
                {"memoryFraction": 0.5, "embeddingMemoryFraction": 0.6},
                {"memoryFraction": 1, "embeddingMemoryFraction": 0.6},
            ),
        )
    ),
    Rule(
        "the process for embeddings listens on the port after engine.port: set it to 65534 or less",
        "spec.groups[0].engine.port",
        bad=_pair_of(engine={"type": "vllm", "port": 65535}),
        good=_pair_of(engine={"type": "vllm", "port": 65534}),
    ),
    *(
        Rule(
            "command and args of container engine start both processes of role llm_embedding",
            "spec.groups[0].podTemplate",
            bad=_pair_of(podTemplate={"spec": {"containers": [{"name": "engine", field: ["x"]}]}}),
            good=_pair_of(podTemplate={"spec": {"containers": [{"name": "own", field: ["x"]}]}}),
        )
        for field in ("command", "args")
    ),
    Rule(
        "embeddingModel.uri is missing: say what the engine loads, for example hf://BAAI/",
        "spec.groups[0].embeddingModel",
        bad=_pair_of(embeddingModel={"name": "e"}),
        good=_mixed(),
    ),
    Rule(
        "only the hub asks for a token: remove embeddingModel.tokenSecret",
        "spec.groups[0].embeddingModel",
        bad=_pair_of(embeddingModel={"name": "e", "uri": "pvc://c/e", "tokenSecret": KEY}),
        good=_pair_of(embeddingModel={"name": "e", "uri": "pvc://c/e"}),
    ),
    Rule(
        "a model of a bucket (s3://) is fetched into the pool's cache",
        "spec.cache",
        bad=_pair_of(embeddingModel={"name": "e", "uri": "s3://models/e"}),
        good=_pair_of(
            embeddingModel={"name": "e", "uri": "s3://models/e"},
            pool={"cache": {"type": "pvc", "size": "1Gi"}},
        ),
    ),
    *(
        Rule(
            "two processes of one container have one token for the hub: name the same tokenSecret "
            "in model and embeddingModel, or fill in cache, which fetches each model with its own",
            "spec.groups",
            bad=_pair_of(**_tokens({"name": "s", "key": "k"}, other)),
            good=good,
        )
        for other, good in (
            ({"name": "t", "key": "k"}, _pair_of(**_tokens(KEY, KEY))),
            (
                {"name": "s", "key": "l"},
                _pair_of(
                    **_tokens(KEY, {"name": "s", "key": "l"}),
                    pool={"cache": {"type": "pvc", "size": "1Gi"}},
                ),
            ),
        )
    ),
    Rule(
        "the simulator downloads nothing: remove embeddingModel.revision, tokenSecret and "
        "credentialsSecret",
        "spec.groups[0].embeddingModel",
        bad=_mixed(embeddingModel={"name": "e", "revision": "main"}),
        good=_mixed(embeddingModel={"name": "e", "uri": "hf://o/m"}),
    ),
    Rule(
        "the simulator downloads nothing: remove embeddingModel.revision, tokenSecret and "
        "credentialsSecret",
        "spec.groups[0].embeddingModel",
        bad=_mixed(embeddingModel={"name": "e", "tokenSecret": KEY}),
        good=_mixed(embeddingModel={"name": "e"}),
    ),
    Rule(
        "source cloud needs a provider: fill in cloud, or set source to auto or local",
        "spec.source",
        bad=pool_object(source="cloud"),
        good=pool_object(source="local"),
    ),
    Rule(
        "sameEmbeddingSpace names a model that models does not map: map it there, or remove it "
        "here",
        "spec.cloud.sameEmbeddingSpace",
        bad=_cloud(sameEmbeddingSpace=["bge-m3", "other"]),
        good=_cloud(sameEmbeddingSpace=["bge-m3"]),
    ),
    Rule(
        "Duplicate value",
        "spec.cloud.when[1]",
        bad=_cloud(when=["absent", "absent"]),
        good=_cloud(when=["absent", "starting"]),
    ),
    Rule(
        "should have at least 1 properties",
        "spec.cloud.models",
        bad=_cloud(models={}),
        good=_cloud(models={f"model-{i}": "their-model" for i in range(64)}),
    ),
    Rule(
        "write the provider's address with scheme and path, without a query, for example "
        "https://api.example.com/v1",
        "spec.cloud.baseUrl",
        bad=_cloud(baseUrl="api.example.com/v1"),
        good=_cloud(baseUrl="https://api.example.com"),
    ),
    Rule(
        "a device's name has lower-case letters, digits and hyphens only, with a letter or digit "
        "first and last",
        "spec.device",
        bad=instance_object(device="gpu-"),
        good=instance_object(device="0-gpu"),
    ),
    Rule(
        "set value or valueFrom, not both: remove one",
        "spec.groups[0].engine.env[0]",
        bad=_env(value="1", valueFrom={"secretKeyRef": KEY}),
        good=_env(valueFrom={"secretKeyRef": KEY}),
    ),
    Rule(
        "set exactly one of secretKeyRef, configMapKeyRef and fieldRef",
        "spec.groups[0].engine.env[0].valueFrom",
        bad=_env(valueFrom={"secretKeyRef": KEY, "configMapKeyRef": KEY}),
        good=_env(valueFrom={"configMapKeyRef": KEY}),
    ),
    Rule(
        "set exactly one of secretKeyRef, configMapKeyRef and fieldRef",
        "spec.groups[0].engine.env[0].valueFrom",
        bad=_env(valueFrom={}),
        good=_env(valueFrom={"fieldRef": {"fieldPath": "status.podIP"}}),
    ),
    Rule(
        "url is missing: write the engine's address, for example http://10.0.0.7:8000",
        "spec.endpoints",
        bad=instance_object(endpoints=[{"role": "llm", "models": ["m"]}]),
        good=instance_object(group="chat", endpoints=[{"role": "llm", "models": ["m"]}]),
    ),
    Rule(
        "Duplicate value",
        "spec.endpoints[1]",
        bad=instance_object(endpoints=[{"role": "llm", "url": "http://a", "models": ["m"]}] * 2),
        good=instance_object(
            endpoints=[
                {"role": "llm", "url": "http://a", "models": ["m"]},
                {"role": "embedding", "url": "http://a", "models": ["n"]},
            ]
        ),
    ),
    Rule(
        "write the engine's address with scheme and port, without /v1 and without a query",
        "spec.endpoints[0].url",
        bad=_elsewhere("http://fd00::7:8000"),
        good=_elsewhere("http://[fd00::7]:8000"),
    ),
    Rule(
        "a model's name starts with a letter or digit; letters, digits and . _ / : - follow",
        "spec.groups[0].model.name",
        bad=_pool_of(model={"name": "my model"}),
        good=_pool_of(model={"name": "Org/my-model:v1.0"}),
    ),
    Rule(
        "a group's name becomes part of pod names: use lower-case letters, digits and hyphens",
        "spec.groups[0].name",
        bad=_pool_of(name="Chat_1"),
        good=_pool_of(name="chat-1"),
    ),
    Rule(
        "names of objects have lower-case letters, digits, hyphens and dots only",
        "spec.groups[0].engine.env[0].valueFrom.secretKeyRef.name",
        bad=_env(valueFrom={"secretKeyRef": {"name": "My_Secret", "key": "k"}}),
        good=_env(valueFrom={"secretKeyRef": {"name": "my-secret.v1", "key": "k"}}),
    ),
    Rule(
        "keys have letters, digits and - _ . only",
        "spec.groups[0].engine.env[0].valueFrom.secretKeyRef.key",
        bad=_env(valueFrom={"secretKeyRef": {"name": "s", "key": "a/b"}}),
        good=_env(valueFrom={"secretKeyRef": {"name": "s", "key": "a_B.c-d"}}),
    ),
    Rule(
        "names of variables have letters, digits and - _ . only, and no digit first",
        "spec.groups[0].engine.env[0].name",
        bad=_pool_of(engine={"type": "simulator", "env": [{"name": "1A", "value": ""}]}),
        good=_pool_of(engine={"type": "simulator", "env": [{"name": "_A1", "value": ""}]}),
    ),
    Rule(
        "write hf://OWNER/NAME, for example hf://Qwen/Qwen2.5-7B-Instruct",
        "spec.groups[0].model.uri",
        bad=_pool_of(engine={"type": "vllm"}, model={"name": "m", "uri": "Qwen/Qwen2.5"}),
        good=_pool_of(engine={"type": "vllm"}, model={"name": "m", "uri": "hf://Qwen/Qwen2.5"}),
    ),
    *(
        Rule(
            "s3://BUCKET/FOLDER for one in a bucket, or pvc://CLAIM/FOLDER for one that lies on a",
            "spec.groups[0].model.uri",
            bad=_served_from(uri),
            good=_served_from("pvc://my-models.v1/a/qwen2.5"),
        )
        for uri in (
            "pvc://",
            "pvc://Models/a",
            "pvc://models/",
            "pvc://models/../a",
            "s3://B/a",
            "s3://m/",
        )
    ),
    Rule(
        "a folder of a claim or a bucket has no revisions: remove revision, and name the folder",
        "spec.groups[0].model.revision",
        bad=_served_from("pvc://models/qwen", revision="main"),
        good=_served_from("pvc://models"),
    ),
    Rule(
        "only the hub asks for a token: remove model.tokenSecret",
        "spec.groups[0].model",
        bad=_served_from("pvc://models/qwen", tokenSecret=KEY),
        good=_pool_of(
            engine={"type": "vllm"},
            model={"name": "m", "uri": "pvc://models/qwen", "tokenSecret": KEY},
            adapters=[{"name": "bot", "uri": "hf://acme/bot"}],
        ),
    ),
    Rule(
        "credentialsSecret opens a bucket: remove it, or name a model in one, s3://BUCKET/FOLDER",
        "spec.groups[0].model.credentialsSecret",
        bad=_served_from("hf://o/m", credentialsSecret="s3"),
        good=_served_from_bucket({"type": "pvc", "claimName": "m"}, credentialsSecret="s3"),
    ),
    *(
        Rule(
            "a model of a bucket (s3://) is fetched into the pool's cache: fill in cache",
            "spec.cache",
            bad=_served_from_bucket(cache),
            good=_served_from_bucket({"type": "pvc", "size": "1Gi"}),
        )
        for cache in (None, {"type": "none"})
    ),
    Rule(
        "write the resource's full name, for example nvidia.com/gpu or amd.com/gpu",
        "spec.groups[0].gpu.resourceName",
        bad=_pool_of(gpu={"resourceName": "gpu"}),
        good=_pool_of(gpu={"resourceName": "amd.com/gpu"}),
    ),
    Rule(
        "write a quantity of Kubernetes as a text, for example '500m', '2' or '1Gi'",
        "spec.router.resources.limits",
        bad=pool_object(router={"resources": {"limits": {"memory": "1 GB"}}}),
        good=pool_object(router={"resources": {"limits": {"memory": "1Gi"}}}),
    ),
    Rule(
        "claimName, size, storageClassName and accessMode belong to type pvc",
        "spec.cache.type",
        bad=_cache(type="hostPath", path="/mnt/models", size="10Gi"),
        good=_cache(type="hostPath", path="/mnt/models"),
    ),
    Rule(
        "type pvc needs a claim: name one in claimName, or give a size to have one made",
        "spec.cache.type",
        bad=_cache(type="pvc"),
        good=_cache(type="pvc", claimName="models"),
    ),
    Rule(
        "storageClassName and accessMode are for a claim that is made: add size",
        "spec.cache.size",
        bad=_cache(type="pvc", claimName="models", storageClassName="fast"),
        good=_cache(type="pvc", size="10Gi", storageClassName="fast"),
    ),
    Rule(
        "path is the folder of type hostPath: set both, or neither",
        "spec.cache.path",
        bad=_cache(type="hostPath"),
        good=_cache(type="none"),
    ),
    Rule(
        "type none keeps no model: remove reclaimPolicy, or set type to pvc or hostPath",
        "spec.cache.reclaimPolicy",
        bad=_cache(type="none", reclaimPolicy="Delete"),
        good=_cache(type="none", reclaimPolicy="Retain"),
    ),
    Rule(
        "write an absolute path, for example /mnt/models",
        "spec.cache.path",
        bad=_cache(type="hostPath", path="/mnt/../etc"),
        good=_cache(type="hostPath", path="/mnt/models-1/v.2"),
    ),
    Rule(
        "unknown field",
        "spec.replica",
        bad=pool_object(replica=1),
        good=pool_object(suspend=True),
    ),
]
