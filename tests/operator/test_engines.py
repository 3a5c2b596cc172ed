"""Command lines and pods of each engine."""

from dataclasses import replace
from typing import Any

import pytest

from crd_objects import group_object, mixed_group_object, pool_object
from operator_world import IMAGES
from sagepool_crds import names
from sagepool_crds.pool import Group, InferencePool
from sagepool_operator.builders.disruption import build_budget
from sagepool_operator.builders.engines import build_deployment
from sagepool_operator.builders.podspec import build_template
from sagepool_operator.builders.sidecar import build_container
from sagepool_operator.config import Images
from sagepool_operator.engines.catalog import build_engine
from sagepool_operator.engines.container import EngineContainer, merge_args
from sagepool_sidecar.cli import parse_arguments

PRIVATE = replace(IMAGES, pull_policy="Always", pull_secrets=("registry",))
MODEL = {"name": "m", "uri": "hf://org/Model-1"}


def group(**fields: Any) -> Group:
    return Group.model_validate(group_object(**{"model": MODEL, **fields}))


def engine(**fields: Any) -> EngineContainer:
    return build_engine(group(**fields), IMAGES)


def template(images: Images = IMAGES, **fields: Any) -> dict[str, Any]:
    wanted = group(**fields)
    pool = InferencePool.from_object(pool_object())
    return build_template(pool, wanted, build_engine(wanted, images), images)


def container(**fields: Any) -> dict[str, Any]:
    found: dict[str, Any] = template(**fields)["spec"]["containers"][0]
    return found


class TestVllm:
    def test_serves_the_model_under_its_name(self) -> None:
        built = engine(engine={"type": "vllm"})
        assert built.command == ("vllm", "serve")
        assert built.args[0] == "org/Model-1"
        assert {"--served-model-name=m", "--port=8000", "--host=0.0.0.0"} <= set(built.args)
        assert not any(a.startswith("--runner") for a in built.args)

    def test_pools_for_embeddings(self) -> None:
        assert "--runner=pooling" in engine(engine={"type": "vllm"}, role="embedding").args

    def test_is_told_of_revision_and_gpus(self) -> None:
        args = engine(
            engine={"type": "vllm"},
            model={**MODEL, "revision": "v2"},
            gpu={"count": 4, "memoryFraction": 0.8},
        ).args
        assert {"--revision=v2", "--tensor-parallel-size=4", "--gpu-memory-utilization=0.8"} <= set(
            args
        )

    def test_keeps_idle_connections_longer_than_routers_do(self) -> None:
        variables = {v["name"]: v.get("value") for v in engine(engine={"type": "vllm"}).env}
        assert int(variables["VLLM_HTTP_TIMEOUT_KEEP_ALIVE"] or 0) > 4

    def test_gets_the_hubs_token_from_the_secret(self) -> None:
        secret = {"name": "hf", "key": "token"}
        built = engine(engine={"type": "vllm"}, model={**MODEL, "tokenSecret": secret})
        assert {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": secret}} in built.env

    def test_has_time_to_finish_what_it_runs(self) -> None:
        spec = template(engine={"type": "vllm"})["spec"]
        assert spec["terminationGracePeriodSeconds"] >= 300 + 60

    def test_may_load_for_an_hour(self) -> None:
        probe = container(engine={"type": "vllm"})["startupProbe"]
        assert probe["periodSeconds"] * probe["failureThreshold"] >= 3600

    def test_asks_for_gpus_as_request_and_limit(self) -> None:
        resources = container(engine={"type": "vllm"}, gpu={"count": 2})["resources"]
        assert resources["requests"] == resources["limits"] == {"nvidia.com/gpu": "2"}

    def test_gets_shared_memory_when_it_splits_the_model(self) -> None:
        volumes = template(engine={"type": "vllm"}, gpu={"count": 2})["spec"]["volumes"]
        assert {"medium": "Memory", "sizeLimit": "8Gi"} in [v["emptyDir"] for v in volumes]
        one = template(engine={"type": "vllm"}, gpu={"count": 1})["spec"]["volumes"]
        assert [v["emptyDir"] for v in one] == [{}]


class TestTei:
    def test_serves_the_model_under_its_name(self) -> None:
        built = engine(engine={"type": "tei", "port": 3000}, role="embedding")
        assert {
            "--model-id=org/Model-1",
            "--served-model-name=m",
            "--port=3000",
            "--hostname=0.0.0.0",
        } <= set(built.args)

    def test_starts_what_the_entrypoint_of_its_image_picks_for_the_hardware(self) -> None:
        built = container(engine={"type": "tei"}, role="embedding", gpu={"count": 1})
        assert "command" not in built
        assert built["args"]

    def test_refuses_long_texts_instead_of_cutting_them(self) -> None:
        built = engine(engine={"type": "tei"}, role="embedding")
        assert {"name": "AUTO_TRUNCATE", "value": "false"} in built.env

    @pytest.mark.parametrize(
        ("gpu", "image"), [(None, IMAGES.tei_cpu), ({"count": 1}, IMAGES.tei_gpu)]
    )
    def test_image_fits_the_hardware(self, gpu: Any, image: str) -> None:
        assert engine(engine={"type": "tei"}, role="embedding", gpu=gpu).image == image


class TestSimulator:
    def test_plays_the_model_in_its_role(self) -> None:
        built = engine(role="embedding")
        assert built.command == ("sagepool-simulator", "serve")
        assert {"--model=m=embedding", "--root=hf://org/Model-1"} <= set(built.args)
        assert built.image == IMAGES.own

    def test_plays_both_models_of_a_mixed_group_in_one_process(self) -> None:
        args = engine(**mixed_group_object()).args
        assert [a for a in args if a.startswith("--model")] == [
            "--model=small=llm",
            "--model=bge=embedding",
        ]

    def test_image_is_pulled_as_the_operator_is_told(self) -> None:
        spec = template(PRIVATE)["spec"]
        assert spec["containers"][0]["imagePullPolicy"] == "Always"
        assert spec["imagePullSecrets"] == [{"name": "registry"}]

    def test_runs_restricted(self) -> None:
        spec = template()["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["containers"][0]["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


class TestUsersWord:
    @pytest.mark.parametrize("kind", ["vllm", "simulator"])
    def test_image_args_and_env_of_the_user_win(self, kind: str) -> None:
        built = engine(
            engine={
                "type": kind,
                "image": "mine:1",
                "args": ["--port", "9", "--extra"],
                "env": [{"name": "HF_HOME", "value": "/mine"}],
            }
        )
        assert built.image == "mine:1"
        assert built.args[-3:] == ("--port", "9", "--extra")
        assert "--port=8000" not in built.args
        assert [v["value"] for v in built.env if v["name"] == "HF_HOME"] == ["/mine"]

    def test_flag_of_ours_is_dropped_in_either_spelling(self) -> None:
        assert merge_args(["--a=1", "--b=2", "--c"], ["--a", "9", "--c=0"]) == (
            "--b=2",
            "--a",
            "9",
            "--c=0",
        )


class TestImageThatIsNotOurs:
    @pytest.mark.parametrize(
        "chosen", [{"type": "vllm"}, {"type": "tei"}, {"type": "simulator", "image": "mine:1"}]
    )
    def test_is_pulled_once_a_node_and_with_the_credentials_of_the_namespace(
        self, chosen: Any
    ) -> None:
        spec = template(engine=chosen, role="embedding")["spec"]
        assert spec["containers"][0]["imagePullPolicy"] == "IfNotPresent"
        assert "imagePullSecrets" not in spec

    def test_stands_beside_a_sidecar_that_needs_the_credentials_for_ours(self) -> None:
        spec = template(PRIVATE, engine={"type": "vllm"})["spec"]
        assert spec["imagePullSecrets"] == [{"name": "registry"}]
        assert spec["containers"][0]["imagePullPolicy"] == "IfNotPresent"
        assert spec["initContainers"][0]["imagePullPolicy"] == "Always"


def sidecar(**fields: Any) -> dict[str, Any]:
    (found,) = template(**fields)["spec"]["initContainers"]
    built: dict[str, Any] = found
    return built


def mixed_sidecar(kind: str, port: int) -> dict[str, Any]:
    fields = mixed_group_object(engine={"type": kind, "port": port})
    return build_container(Group.model_validate(fields), IMAGES)


class TestSidecar:
    @pytest.mark.parametrize("kind", ["vllm", "tei", "simulator"])
    def test_is_asked_before_the_engine_is_stopped(self, kind: str) -> None:
        fields: dict[str, Any] = {"engine": {"type": kind}, "role": "embedding"}
        hook = container(**fields)["lifecycle"]["preStop"]["httpGet"]
        assert hook["path"] == "/drain"
        assert [p["containerPort"] for p in sidecar(**fields)["ports"]] == [hook["port"]]

    def test_lives_until_the_engine_has_ended(self) -> None:
        assert sidecar()["restartPolicy"] == "Always"

    @pytest.mark.parametrize("kind", ["vllm", "tei", "simulator"])
    def test_understands_its_own_command_line(self, kind: str) -> None:
        args = sidecar(engine={"type": kind, "port": 8123}, role="embedding")["args"]
        assert parse_arguments(args).engine_port == [8123]

    def test_is_told_the_ports_of_both_processes_of_a_mixed_group(self) -> None:
        assert parse_arguments(mixed_sidecar("vllm", 8123)["args"]).engine_port == [8123, 8124]

    def test_of_a_simulator_that_plays_both_models_is_told_of_one(self) -> None:
        assert parse_arguments(mixed_sidecar("simulator", 8123)["args"]).engine_port == [8123]

    def test_is_told_the_engines_metrics(self) -> None:
        assert "--running=vllm:num_requests_running" in sidecar(engine={"type": "vllm"})["args"]
        tei = sidecar(engine={"type": "tei"}, role="embedding")["args"]
        assert {"--waiting=te_queue_size", "--progress=te_request_count"} <= set(tei)

    def test_leaves_the_engine_its_port(self) -> None:
        assert sidecar(engine={"type": "simulator", "port": 9091})["ports"][0][
            "containerPort"
        ] not in (9091, 8000)

    @pytest.mark.parametrize("port", [9090, 9091, 9092])
    def test_leaves_both_engines_of_a_mixed_group_their_ports(self, port: int) -> None:
        (own,) = mixed_sidecar("vllm", port)["ports"]
        assert own["containerPort"] not in (port, port + 1)

    def test_is_no_root_beside_an_engine_that_may_be(self) -> None:
        context = sidecar(engine={"type": "vllm"})["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}

    def test_waits_as_long_as_the_group_says_and_the_kubelet_waits_longer(self) -> None:
        fields: dict[str, Any] = {"engine": {"type": "tei"}, "role": "embedding"}
        spec = template(**fields, rollout={"drainSeconds": 1800})["spec"]
        assert "--drain-seconds=1800" in spec["initContainers"][0]["args"]
        stop_s = build_engine(group(**fields), IMAGES).stop_limit_s
        assert spec["terminationGracePeriodSeconds"] == 1800 + stop_s


class TestEveryPod:
    def test_says_which_models_it_was_built_with(self) -> None:
        notes = template()["metadata"]["annotations"]
        assert notes[names.MODEL_ANNOTATION] == "m"
        assert names.EMBEDDING_MODEL_ANNOTATION not in notes
        notes = template(**mixed_group_object())["metadata"]["annotations"]
        assert notes[names.MODEL_ANNOTATION] == "small"
        assert notes[names.EMBEDDING_MODEL_ANNOTATION] == "bge"

    @pytest.mark.parametrize(
        ("role", "revision", "said"),
        [("embedding", None, "hf://o/m"), ("embedding", "v2", "hf://o/m@v2"), ("llm", "v2", None)],
    )
    def test_says_which_weights_make_its_embeddings(
        self, role: str, revision: str | None, said: str | None
    ) -> None:
        model = {"name": "m", "uri": "hf://o/m", "revision": revision}
        notes = template(role=role, engine={"type": "vllm"}, model=model)["metadata"]["annotations"]
        assert notes.get(names.EMBEDDING_SOURCE_ANNOTATION) == said

    @pytest.mark.parametrize("kind", ["vllm", "tei", "simulator"])
    def test_has_no_token_and_no_service_variables(self, kind: str) -> None:
        spec = template(engine={"type": kind}, role="embedding")["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}

    def test_ends_at_once_when_it_is_deleted_before_it_handles_signals(self) -> None:
        assert template(engine={"type": "vllm"})["spec"]["shareProcessNamespace"] is True

    def test_hung_engine_is_killed_soon(self) -> None:
        assert container()["livenessProbe"]["terminationGracePeriodSeconds"] == 5

    def test_deployment_waits_longer_than_a_load(self) -> None:
        wanted = group(engine={"type": "vllm"})
        pool = InferencePool.from_object(pool_object())
        pod = build_template(pool, wanted, build_engine(wanted, IMAGES), IMAGES)
        spec = build_deployment(pool, wanted, pod, {}, 1)["spec"]
        assert spec["progressDeadlineSeconds"] > 3600
        assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
        assert spec["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()

    def test_is_not_ready_before_its_gate_is_opened(self) -> None:
        gates = template()["spec"]["readinessGates"]
        assert gates == [{"conditionType": names.ROUTABLE_GATE}]


class TestRollout:
    @staticmethod
    def deployment(pod: dict[str, Any], **fields: Any) -> dict[str, Any]:
        pool = InferencePool.from_object(pool_object())
        spec: dict[str, Any] = build_deployment(pool, group(**fields), pod, {}, 1)["spec"]
        return spec

    def test_is_as_the_group_says(self) -> None:
        spec = self.deployment(template(), rollout={"maxSurge": 0, "maxUnavailable": 2})
        assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 2}

    def test_goes_on_as_soon_as_routers_send_to_a_new_pod(self) -> None:
        assert "minReadySeconds" not in self.deployment(template())

    def test_gives_routers_a_moment_where_the_template_of_an_earlier_version_has_no_gate(
        self,
    ) -> None:
        earlier = template()
        del earlier["spec"]["readinessGates"]
        assert self.deployment(earlier)["minReadySeconds"] >= 5

    @pytest.mark.parametrize(("allowed", "evicted"), [(0, 1), (1, 1), (3, 3)])
    def test_a_node_that_is_drained_takes_as_many_but_always_one(
        self, allowed: int, evicted: int
    ) -> None:
        pool = InferencePool.from_object(pool_object())
        assert build_budget(pool, "b", {}, {}, allowed)["spec"]["maxUnavailable"] == evicted


@pytest.mark.parametrize("engine", ["vllm", "simulator"])
def test_last_lines_of_an_engine_that_fails_become_its_last_words(engine: str) -> None:
    found = container(engine={"type": engine}, model={"name": "m", "uri": "hf://o/m"})
    assert found["terminationMessagePolicy"] == "FallbackToLogsOnError"
