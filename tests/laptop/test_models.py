"""Models and adapters are looked for before an engine starts: in the cache, then on the hub."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

from crd_objects import group_object, pool_object
from model_hub import HubModel, ModelHub, model_hub
from sagepool.laptop.cache import are_weights_whole
from sagepool.laptop.downloads import wanted_of_pool
from sagepool.laptop.errors import WrongUse
from sagepool.laptop.models import Wanted, check_model, read_config
from sagepool.laptop.plan import Options
from sagepool.laptop.secrets import Secrets
from sagepool_crds.pool import InferencePool

FILES: Mapping[str, bytes] = {"config.json": b"{}", "model.safetensors": b"w"}
MODELS: Mapping[str, HubModel] = {
    "o/open": HubModel({**FILES}),
    "o/odd": HubModel({"params.json": b"{}"}),
    "o/private": HubModel({**FILES}, token="right"),
    "o/gated": HubModel({**FILES}, is_gated=True, accepted="right"),
    "o/bot": HubModel({"adapter_config.json": b"{}"}),
    "o/shut-bot": HubModel({"adapter_config.json": b"{}"}, is_gated=True),
}
NOWHERE = "http://127.0.0.1:9"
WAY = "name a Secret"


@pytest.fixture(scope="module")
def hub() -> Iterator[ModelHub]:
    with model_hub(MODELS) as served:
        yield served


@pytest.fixture(autouse=True)
def _without_a_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))


@pytest.fixture
def at_hub(hub: ModelHub, tmp_path: Path) -> Wanted:
    """A model of that hub for an engine with an empty cache."""
    environment = {"HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(tmp_path / "cache")}
    return Wanted("o/open", "group chat", environment=environment, way_to_give_token=WAY)


def with_token(wanted: Wanted, token: str) -> Wanted:
    return replace(wanted, environment={**wanted.environment, "HF_TOKEN": token})


def with_cached(wanted: Wanted, *files: str) -> Wanted:
    """The same, with these files in the cache and no hub."""
    cache = Path(wanted.environment["HF_HUB_CACHE"])
    model = cache / f"models--{wanted.repository.replace('/', '--')}"
    snapshot = model / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text("0" * 40)
    for file in files:
        (snapshot / file).touch()
    return replace(wanted, environment={**wanted.environment, "HF_ENDPOINT": NOWHERE})


@pytest.mark.parametrize("name", ["./nonexistent", "/data/none", "bad name", "a/b/c"])
def test_what_cannot_be_a_name_is_no_question_for_the_hub(at_hub: Wanted, name: str) -> None:
    with pytest.raises(WrongUse, match="is neither a folder here nor a model's name on the hub"):
        check_model(replace(at_hub, repository=name))


@pytest.mark.parametrize(
    ("repository", "token"),
    [
        ("o/open", ""),
        ("o/odd", ""),
        ("o/private", "right"),
        ("o/gated", "right"),
    ],
)
def test_what_the_hub_gives_to_the_engine_s_token_passes(
    at_hub: Wanted, repository: str, token: str
) -> None:
    check_model(with_token(replace(at_hub, repository=repository), token))


@pytest.mark.parametrize(
    ("repository", "token", "says"),
    [
        ("o/none", "", f"is not on the hub, or not for you: correct its name, or {WAY}"),
        ("o/none", "right", "correct its name, or take the token of an account that may read it"),
        ("o/private", "", f"is not on the hub, or not for you: correct its name, or {WAY}"),
        ("o/private", "wrong", "take the token of an account that may read it"),
        ("o/gated", "", f"is gated: accept its licence on the hub, and {WAY}"),
        ("o/gated", "wrong", "is gated: accept its licence on the hub with the token's account"),
    ],
)
def test_what_the_hub_keeps_is_said_with_the_way_out(
    at_hub: Wanted, repository: str, token: str, says: str
) -> None:
    with pytest.raises(WrongUse, match=f"group chat: model {repository} .*{says}"):
        check_model(with_token(replace(at_hub, repository=repository), token))


def test_the_user_s_own_token_does_where_the_engine_has_none(
    at_hub: Wanted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "right")
    check_model(replace(at_hub, repository="o/private"))


def test_a_revision_that_the_hub_has_not_is_said(at_hub: Wanted) -> None:
    check_model(replace(at_hub, revision="main"))
    with pytest.raises(WrongUse, match="model o/open at v9 is not on the hub"):
        check_model(replace(at_hub, revision="v9"))


def test_a_hub_that_is_broken_is_not_taken_for_one_that_is_away(
    hub: ModelHub, at_hub: Wanted
) -> None:
    hub.faults.statuses = [503]
    with pytest.raises(WrongUse, match="model o/open: the hub answers 503: try again later"):
        check_model(at_hub)


def test_a_token_that_is_none_is_said(hub: ModelHub, at_hub: Wanted) -> None:
    hub.faults.statuses = [403]
    with pytest.raises(WrongUse, match=r"the hub does not take the token \(403\)"):
        check_model(with_token(at_hub, "garbled"))


def test_adapters_are_looked_for_as_models_are(at_hub: Wanted) -> None:
    adapter = replace(at_hub, repository="o/bot", kind="adapter")
    check_model(adapter)
    for repository, says in (
        ("o/none", "group chat: adapter o/none is not on the hub"),
        ("o/open", "adapter o/open holds no adapter_config.json on the hub: name an adapter"),
        ("o/shut-bot", "adapter o/shut-bot is gated"),
        ("./none", "'./none' is neither a folder here nor an adapter's name on the hub"),
    ):
        with pytest.raises(WrongUse, match=says):
            check_model(replace(adapter, repository=repository))


@pytest.mark.parametrize(
    ("kind", "files"),
    [("model", ["config.json", "model.safetensors"]), ("adapter", ["adapter_model.bin"])],
)
def test_what_is_whole_in_the_cache_needs_no_hub(
    at_hub: Wanted, kind: str, files: list[str]
) -> None:
    wanted = replace(at_hub, kind="adapter" if kind == "adapter" else "model")
    check_model(with_cached(wanted, wanted.config, *files))


@pytest.mark.parametrize("files", [[], ["model-00001-of-00002.safetensors"]])
def test_a_download_that_was_interrupted_needs_the_hub(at_hub: Wanted, files: list[str]) -> None:
    cut = with_cached(at_hub, "config.json", *files)
    with pytest.raises(WrongUse, match="only a part of it is, and the hub cannot be reached"):
        check_model(cut)
    check_model(at_hub)


@pytest.mark.parametrize(
    ("files", "are_whole"),
    [
        ("", False),
        ("config.json tokenizer.json training_args.bin optimizer.bin", False),
        ("model.safetensors", True),
        ("pytorch_model.bin", True),
        ("adapter_model.safetensors", True),
        ("tiny-q4.gguf", True),
        ("model-00001-of-00002.safetensors", False),
        ("model-00001-of-00002.safetensors model-00002-of-00002.safetensors", True),
        ("model-00001-of-000002.safetensors model-00002-of-000002.safetensors", True),
        ("pytorch_model-00001-of-00002.bin", False),
        ("pytorch_model_00001-of-00001.bin model-00001-of-00002.safetensors", True),
        ("model-00001-of-00002.safetensors pytorch_model-00002-of-00002.bin", False),
        ("model-00001-of-00002.safetensors mtp.safetensors", False),
    ],
)
def test_weights_are_whole_when_all_files_of_one_form_are_there(
    files: str, are_whole: bool
) -> None:
    assert are_weights_whole(files.split()) is are_whole


def test_a_fault_of_ours_is_not_taken_for_the_network_s(
    at_hub: Wanted, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise TypeError("no such argument")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", fail)
    with pytest.raises(TypeError, match="no such argument"):
        check_model(at_hub)


@pytest.mark.parametrize(
    ("repository", "token", "content"),
    [
        ("o/open", "", b"{}"),
        ("o/private", "right", b"{}"),
        ("o/private", "wrong", None),
        ("o/gated", "", None),
        ("o/odd", "", None),
        ("./none", "", None),
    ],
)
def test_a_config_is_read_from_the_hub_with_the_engine_s_token_and_not_kept(
    at_hub: Wanted, repository: str, token: str, content: bytes | None
) -> None:
    wanted = with_token(replace(at_hub, repository=repository), token)
    assert read_config(wanted) == content
    assert not Path(wanted.environment["HF_HUB_CACHE"]).exists()


def test_a_config_in_the_cache_needs_no_hub(at_hub: Wanted) -> None:
    away = replace(at_hub, environment={**at_hub.environment, "HF_ENDPOINT": NOWHERE})
    assert read_config(away) is None
    assert read_config(with_cached(at_hub, "config.json")) == b""


def wanted_of(tmp_path: Path, **fields: object) -> list[Wanted]:
    """What a pool of one vLLM group loads; `~/.sage/secrets` is `tmp_path`."""
    said = {"engine": {"type": "vllm"}, "model": {"name": "m", "uri": "hf://o/m"}, "replicas": 1}
    pool = InferencePool.from_object(pool_object(groups=[group_object(**{**said, **fields})]))
    return list(wanted_of_pool(pool, Options("h", 1, 2, "info", {}), Secrets(tmp_path)))


def test_a_group_s_models_and_adapters_come_with_the_token_that_it_names(tmp_path: Path) -> None:
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "token").write_text("right\n")
    secret = {"name": "hub", "key": "token"}
    model = {"name": "m", "uri": "hf://o/m", "revision": "v1", "tokenSecret": secret}
    adapters = [{"name": "a", "uri": "hf://o/bot"}, {"name": "b", "uri": "/adapters/b"}]
    found, adapter = wanted_of(tmp_path, model=model, adapters=adapters)
    assert (found.repository, found.revision, found.kind) == ("o/m", "v1", "model")
    assert (adapter.repository, adapter.revision, adapter.kind) == ("o/bot", None, "adapter")
    assert found.environment == adapter.environment == {"HF_TOKEN": "right"}


def test_a_group_s_own_variables_say_which_hub_and_cache_it_is(tmp_path: Path) -> None:
    env = {"HF_ENDPOINT": NOWHERE, "HF_HOME": "/cache", "OTHER": "x"}
    engine = {"type": "vllm", "env": [{"name": k, "value": v} for k, v in env.items()]}
    (found,) = wanted_of(tmp_path, engine=engine)
    assert found.environment == {"HF_ENDPOINT": NOWHERE, "HF_HOME": "/cache"}


def test_a_key_that_is_missing_is_said(tmp_path: Path) -> None:
    model = {"name": "m", "uri": "hf://o/m", "tokenSecret": {"name": "hub", "key": "token"}}
    with pytest.raises(WrongUse, match="group chat names key token of Secret hub"):
        wanted_of(tmp_path, model=model)
