"""What a pool becomes on this machine: processes, their command lines and what they see."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from crd_objects import (
    cloud_object,
    group_object,
    instance_object,
    mixed_group_object,
    pool_object,
)
from laptop_plan import GPUS, Plan, engines, install_vllm, plan_objects
from sagepool.laptop.errors import WrongUse
from sagepool.laptop.gpus import Gpu
from sagepool.laptop.home import Home
from sagepool.laptop.launch import Launch
from sagepool.laptop.request import StartRequest, prepare

VLLM = {"type": "vllm"}
REAL = {"name": "qwen", "uri": "hf://Qwen/Qwen2.5"}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.fixture(autouse=True)
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the PATH with vLLM in it."""
    folder = tmp_path / "bin"
    install_vllm(folder)
    monkeypatch.setenv("PATH", str(folder))
    return folder


@pytest.fixture
def plan(home: Home) -> Plan:
    def build(*objects: dict[str, Any], gpus: Sequence[Gpu] = GPUS, **backends: str) -> Launch:
        return plan_objects(home, *objects, read_gpus=lambda: gpus, **backends)

    return build


def test_every_replica_of_every_group_is_a_process(plan: Plan) -> None:
    launch = plan(pool_object())
    assert [part.name for part in launch.parts] == ["router", "chat-0", "chat-1", "embed-0"]
    assert launch.address == "http://127.0.0.1:8000"


@pytest.mark.parametrize("engine", ["vllm", "simulator"])
def test_an_engine_starts_with_its_adapters(plan: Plan, tmp_path: Path, engine: str) -> None:
    folder = tmp_path / "coder"
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    adapters = [
        {"name": "bot", "uri": "hf://acme/bot"},
        {"name": "coder", "uri": str(folder)},
    ]
    group = group_object(engine={"type": engine}, model=REAL, adapters=adapters, replicas=1)
    chat = engines(plan(pool_object(groups=[group])))["chat-0"]
    at = chat.command.index("--lora-modules")
    assert chat.command[at + 1 : at + 3] == ["bot=acme/bot", f"coder={folder}"]
    assert chat.command[at + 3 : at + 4] == []
    assert "--enable-lora" in chat.command
    assert chat.models == ["qwen", "bot", "coder"]


def test_an_adapter_that_is_not_on_this_machine_is_refused(plan: Plan, tmp_path: Path) -> None:
    adapters = [{"name": "bot", "uri": str(tmp_path / "bot")}]
    group = group_object(adapters=adapters)
    with pytest.raises(WrongUse, match=r"group chat: adapter bot: .*/bot holds no adapter_config"):
        plan(pool_object(groups=[group]))


@pytest.mark.parametrize("uri", ["pvc://models/qwen", "s3://models/qwen"])
def test_a_model_that_only_a_cluster_can_reach_is_refused(plan: Plan, uri: str) -> None:
    group = group_object(engine=VLLM, model={"name": "qwen", "uri": uri})
    cache = {"type": "pvc", "claimName": "models"}
    with pytest.raises(WrongUse, match=rf"group chat: {uri} is for a cluster"):
        plan(pool_object(groups=[group], cache=cache))


def test_an_engine_that_loads_a_model_is_not_put_on_a_group_without_one(plan: Plan) -> None:
    with pytest.raises(
        WrongUse,
        match=r"--llm-backend: .*spec\.groups\[0\]\.model: .*model\.uri is missing: say what",
    ):
        plan(pool_object(groups=[group_object(model={"name": "qwen"})]), llm="vllm")


def test_the_router_answers_outside_and_its_admin_port_only_here(plan: Plan, home: Home) -> None:
    router = plan(pool_object()).parts[0]
    assert Path(router.command[0]).name == "sagepool-router"
    assert {
        "--source=file",
        f"--config={home.folder}/pools/rag/router.yaml",
        "--host=127.0.0.1",
        "--port=8000",
        "--admin-host=127.0.0.1",
        "--admin-port=9090",
    } <= set(router.command)


@pytest.mark.parametrize(
    ("scaling", "count"),
    [
        ({"mode": "external"}, 1),
        ({"minReplicas": 0, "maxReplicas": 4, "target": {"inFlight": 8}}, 1),
        ({"minReplicas": 2, "maxReplicas": 4, "target": {"inFlight": 8}}, 2),
    ],
)
def test_scaled_group_has_its_least_and_one_at_least(
    plan: Plan, scaling: dict[str, Any], count: int
) -> None:
    group = group_object(name="chat", replicas=None, scaling=scaling)
    assert len(engines(plan(pool_object(groups=[group])))) == count
    off = pool_object(groups=[group], suspend=True)
    assert not engines(plan(off))


def test_vllm_is_told_what_it_is_told_in_a_cluster(plan: Plan) -> None:
    group = group_object(
        engine={**VLLM, "args": ["--max-model-len=8192"]},
        model={**REAL, "revision": "v1"},
        gpu={"count": 2, "memoryFraction": 0.8},
        replicas=1,
    )
    chat = engines(plan(pool_object(groups=[group])))["chat-0"]
    assert chat.command[1:3] == ["serve", "Qwen/Qwen2.5"]
    assert chat.command[0].endswith("/bin/vllm")
    assert {
        "--host=127.0.0.1",
        "--port={port}",
        "--served-model-name=qwen",
        "--revision=v1",
        "--tensor-parallel-size=2",
        "--gpu-memory-utilization=0.8",
        "--max-model-len=8192",
    } <= set(chat.command)
    assert [word for word in chat.command if word.startswith("--host")] == ["--host=127.0.0.1"]
    assert chat.environment["CUDA_VISIBLE_DEVICES"] == "GPU-a,GPU-b"


def test_caches_are_this_user_s_own(plan: Plan) -> None:
    group = group_object(engine={**VLLM, "env": [{"name": "A", "value": "1"}]}, model=REAL)
    environment = engines(plan(pool_object(groups=[group])))["chat-0"].environment
    assert environment["A"] == "1"
    assert {"HF_HOME", "VLLM_CACHE_ROOT"} & set(environment) == set()


def test_a_group_without_a_gpu_sees_none(plan: Plan) -> None:
    group = group_object(engine=VLLM, model=REAL)
    chat = engines(plan(pool_object(groups=[group])))["chat-0"]
    assert chat.environment["CUDA_VISIBLE_DEVICES"] == ""


def two_on_a_gpu() -> dict[str, Any]:
    chat = group_object(
        engine=VLLM, model=REAL, gpu={"memoryFraction": 0.6, "pricePerHour": 2}, replicas=1
    )
    embed = group_object(
        name="embed",
        role="embedding",
        engine=VLLM,
        model={"name": "bge", "uri": "hf://BAAI/bge"},
        gpu={"memoryFraction": 0.3},
        replicas=1,
    )
    return pool_object(groups=[chat, embed])


def test_engines_that_share_a_gpu_say_so_and_load_one_after_another(plan: Plan) -> None:
    found = engines(plan(two_on_a_gpu(), gpus=GPUS[:1]))
    assert found["chat-0"].after == []
    assert found["embed-0"].after == ["chat-0"]
    devices = [e.instance["spec"]["device"] for e in found.values() if e.instance]
    assert devices == ["gpu-0", "gpu-0"]
    assert found["chat-0"].instance["spec"]["pricePerHour"] == 2


def test_engines_with_a_gpu_each_load_at_once(plan: Plan) -> None:
    assert [e.after for e in engines(plan(two_on_a_gpu())).values()] == [[], []]


def test_an_engine_on_two_gpus_loads_after_all_that_load_there(plan: Plan) -> None:
    half = {"memoryFraction": 0.45}
    chat = group_object(engine=VLLM, model=REAL, gpu=half, replicas=2)
    wide = group_object(name="wide", engine=VLLM, model=REAL, gpu={**half, "count": 2}, replicas=1)
    assert engines(plan(pool_object(groups=[chat, wide])))["wide-0"].after == ["chat-0", "chat-1"]


@pytest.mark.parametrize(
    ("gpus", "says"),
    [
        ([], "shows no NVIDIA GPU: set engine.type to simulator"),
        (
            [Gpu(0, "GPU-a", "H100", 100, 50)],
            "50%: lower gpu.memoryFraction, gpu.count or replicas",
        ),
    ],
)
def test_a_gpu_that_a_group_lacks_is_said_in_words_of_the_file(
    plan: Plan, gpus: list[Gpu], says: str
) -> None:
    with pytest.raises(WrongUse, match=f"^group chat needs 1 GPU .* for chat-0.*{says}"):
        plan(two_on_a_gpu(), gpus=gpus)


def test_gpus_are_not_asked_for_where_none_is_wanted(home: Home) -> None:
    asked = []

    def read_gpus() -> Sequence[Gpu]:
        asked.append("gpus")
        return GPUS

    pool = pool_object(groups=[group_object(gpu={"count": 8}, replicas=1)])
    launch = plan_objects(home, pool, read_gpus=read_gpus)
    assert asked == []
    assert "CUDA_VISIBLE_DEVICES" not in engines(launch)["chat-0"].environment
    on_gpu = group_object(engine=VLLM, model=REAL, gpu={"count": 1})
    plan_objects(home, pool_object(groups=[on_gpu]), read_gpus=read_gpus)
    assert asked == ["gpus"]


def test_a_mixed_group_is_one_process_with_two_roles(plan: Plan) -> None:
    mixed = engines(plan(pool_object(groups=[mixed_group_object(replicas=1)])))["mixed-0"]
    assert mixed.models == ["small", "bge"]
    assert {"--model=small=llm", "--model=bge=embedding"} <= set(mixed.command)
    roles = [endpoint["role"] for endpoint in mixed.instance["spec"]["endpoints"]]
    assert roles == ["llm", "embedding"]


def test_a_missing_vllm_is_said_with_the_ways_out(plan: Plan, programs: Path) -> None:
    (programs / "vllm").unlink()
    pool = pool_object(groups=[group_object(engine=VLLM, model=REAL)])
    with pytest.raises(WrongUse) as refused:
        plan(pool)
    assert str(refused.value) == (
        "group chat needs vllm, which is not installed here: install it with "
        "`pip install 'vllm>=0.24'`, or run it on the simulator with --llm-backend simulator"
    )
    chat = engines(plan(pool, llm="simulator"))["chat-0"]
    assert "--model=qwen=llm" in chat.command


def test_a_backend_takes_the_place_of_the_file_s_engine_and_of_its_words(plan: Plan) -> None:
    found = engines(plan(two_on_a_gpu(), gpus=[], llm="simulator", embedding="simulator"))
    assert {part.engine for part in found.values()} == {"simulator"}


@pytest.mark.parametrize(
    ("backends", "kept"),
    [
        ({"embedding": "simulator"}, {"uri"}),
        ({"embedding": "tei"}, {"uri", "revision", "tokenSecret"}),
    ],
)
def test_what_only_the_former_engine_takes_goes_unused(
    plan: Plan, home: Home, programs: Path, backends: dict[str, str], kept: set[str]
) -> None:
    shutil.copy(programs / "vllm", programs / "text-embeddings-router")
    secret(home, "hf", "token")
    token = {"name": "hf", "key": "token"}
    model = {**REAL, "revision": "main", "tokenSecret": token}
    gpu = {"count": 1, "memory": "24Gi", "memoryFraction": 0.4, "pricePerHour": 2.0}
    engine = {**VLLM, "args": ["--seed=7"], "env": [{"name": "X", "value": "1"}]}
    group = group_object(role="embedding", engine=engine, model=model, gpu=gpu, replicas=1)
    launch = plan(pool_object(groups=[group]), **backends)
    (moved,) = launch.documents[0]["spec"]["groups"]
    assert moved["engine"]["type"] == backends["embedding"]
    assert moved["gpu"]["pricePerHour"] == 2.0
    assert {"memory", "memoryFraction"}.isdisjoint(moved["gpu"])
    assert moved["model"].keys() == {"name", "aliases", *kept}
    (part,) = engines(launch).values()
    assert "--seed=7" not in part.command
    assert "X" not in part.environment


@pytest.mark.parametrize("name", ["gpu", "hybrid", "rag", "shared-gpu"])
def test_every_example_runs_on_simulators(plan: Plan, name: str) -> None:
    path = Path(__file__).parents[2] / "examples" / f"{name}.yaml"
    launch = plan(*yaml.safe_load_all(path.read_text()), llm="simulator", embedding="simulator")
    assert {part.engine for part in engines(launch).values()} == {"simulator"}


def test_a_url_takes_the_place_of_a_group_s_engines(plan: Plan) -> None:
    launch = plan(pool_object(), llm="http://10.0.0.9:8000/v1/")
    assert set(engines(launch)) == {"embed-0"}
    elsewhere = launch.documents[-1]
    assert elsewhere["spec"]["endpoints"] == [
        {"role": "llm", "url": "http://10.0.0.9:8000", "models": ["qwen2.5-7b"]}
    ]
    with pytest.raises(WrongUse, match=r"--llm-backend: .*write the engine's address"):
        plan(pool_object(), llm="http://bad host")


def test_instances_elsewhere_are_the_router_s_too(plan: Plan) -> None:
    documents = plan(pool_object(), instance_object()).documents
    assert [document["metadata"]["name"] for document in documents] == ["rag", "elsewhere"]


@pytest.mark.parametrize("fields", [{"suspend": True}, {"source": "cloud"}])
def test_a_pool_whose_engines_rest_runs_none(
    plan: Plan, home: Home, fields: dict[str, Any]
) -> None:
    secret(home, "provider", "token")
    launch = plan(pool_object(cloud=cloud_object(), **fields))
    assert engines(launch) == {}


SECRET = "s3cret-of-enough-length"


def secret(home: Home, name: str, key: str, value: str = f"{SECRET}\n") -> Path:
    path = home.secrets / name / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value)
    return path


def test_keys_of_secrets_are_read_from_files(plan: Plan, home: Home) -> None:
    token = {"name": "hf", "key": "token"}
    variable = {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "other", "key": "k"}}}
    group = group_object(
        engine={**VLLM, "env": [variable]}, model={**REAL, "tokenSecret": token}, replicas=1
    )
    pool = pool_object(
        groups=[group], router={"auth": {"apiKeysSecret": "keys"}}, cloud=cloud_object()
    )
    wanted = [
        ("spec.router.auth.apiKeysSecret names Secret keys", ("keys", "alice")),
        ("spec.cloud.apiKeySecret names key token of Secret provider", ("provider", "token")),
        ("group chat names key token of Secret hf", ("hf", "token")),
        ("group chat names key k of Secret other", ("other", "k")),
    ]
    refused = set()
    for _ in wanted:
        with pytest.raises(WrongUse) as missing:
            plan(pool)
        sentence, place = next(w for w in wanted if str(missing.value).startswith(w[0]))
        assert str(home.secrets / place[0]) in str(missing.value)
        refused.add(sentence)
        secret(home, *place)
    assert len(refused) == len(wanted)
    launch = plan(pool)
    assert f"--api-keys={home.secrets}/keys" in launch.parts[0].command
    assert f"--cloud-api-key-file={home.secrets}/provider/token" in launch.parts[0].command
    environment = engines(launch)["chat-0"].environment
    assert (environment["HF_TOKEN"], environment["KEY"]) == (
        SECRET,
        SECRET,
    )
    assert SECRET not in str(launch.parts[0].command)


def test_api_keys_of_which_none_can_be_used_are_refused_before_a_start(
    plan: Plan, home: Home
) -> None:
    pool = pool_object(groups=[group_object()], router={"auth": {"apiKeysSecret": "keys"}})
    secret(home, "keys", "alice", "short")
    with pytest.raises(WrongUse) as refused:
        plan(pool)
    assert str(refused.value) == (
        f"spec.router.auth.apiKeysSecret names Secret keys, and no key in {home.secrets}/keys can "
        "be used: alice: its secret has fewer than 16 characters: take a longer one"
    )
    secret(home, "keys", "bob")
    plan(pool)


@pytest.mark.parametrize(
    "source",
    [
        {"configMapKeyRef": {"name": "c", "key": "k"}},
        {"fieldRef": {"fieldPath": "status.podIP"}},
    ],
)
def test_what_only_a_cluster_has_is_refused(plan: Plan, source: dict[str, Any]) -> None:
    engine = {"type": "simulator", "env": [{"name": "A", "valueFrom": source}]}
    with pytest.raises(WrongUse, match=r"group chat sets A from .* which only a cluster has"):
        plan(pool_object(groups=[group_object(engine=engine)]))


def test_a_restart_is_not_refused_for_what_the_pool_s_own_engines_hold(
    home: Home, tmp_path: Path
) -> None:
    group = group_object(name="chat", engine=VLLM, model=REAL, gpu={"count": 1}, replicas=1)
    file = tmp_path / "pool.yaml"
    file.write_text(yaml.safe_dump(pool_object(groups=[group])))
    request = StartRequest(file=str(file))
    full = [Gpu(0, "GPU-a", "H100", 100, 8)]

    def ask(*, is_restart: bool) -> None:
        prepare(
            request,
            home,
            read_gpus=lambda: full,
            check_model=lambda _: None,
            read_config=lambda _: None,
            is_restart=is_restart,
        )

    with pytest.raises(WrongUse, match=r"left are GPU 0 \(H100\) 8%"):
        ask(is_restart=False)
    ask(is_restart=True)
