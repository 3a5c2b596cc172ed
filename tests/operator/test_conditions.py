"""The order in which trouble is told."""

from dataclasses import replace
from typing import Any

import pytest

from sagepool_engines.probe import Verdict
from sagepool_operator.conditions import (
    Elsewhere,
    GroupFacts,
    PoolFacts,
    judge_cloud,
    judge_fit,
    judge_progressing,
    judge_ready,
    judge_router,
    judge_scheduled,
)
from sagepool_operator.fit import Estimate
from sagepool_operator.instance_conditions import (
    InstanceFacts,
    Judgement,
    Probed,
    judge_instance,
)
from sagepool_operator.pods import Exit, PodFacts, Waiting
from sagepool_operator.problems import Problem, Workload, find_problem, find_refusal
from sagepool_operator.sizing import GroupFit

POD = PodFacts("rag-chat-1", "u", group="chat", ip="10.0.0.1", is_running=True)
CHAT = Workload(
    "group chat", "engine.image of group chat", "service account default", "nvidia.com/gpu"
)
READY = InstanceFacts(
    pool="rag",
    pool_exists=True,
    is_leaving=False,
    drain=False,
    problem=None,
    is_elsewhere=False,
    is_starting=False,
    probed=Probed("EngineReady", "", was_ready=True),
    rival="",
)
UP = GroupFacts("chat", desired=2, ready=2, updated=2, existing=2)
ROUTER = GroupFacts("router", desired=2, ready=2, updated=2, existing=2)
POOL = PoolFacts("rag", is_suspended=False, groups=(UP,), router=ROUTER)
TROUBLE = Problem("ImagePullFailed", "cannot pull")
REFUSED = Problem("PodsRefused", "exceeded quota")
MOUNTING = Problem("SecretNotMounted", "waits for Secret keys")
IDLE = replace(UP, desired=0, ready=0, updated=0, existing=0)
PROVIDER = "https://api.example.com/v1"


@pytest.mark.parametrize(
    ("pod", "reason", "words"),
    [
        (replace(POD, failure="Evicted"), "PodFailed", "Evicted"),
        (replace(POD, unschedulable="Insufficient cpu"), "Unschedulable", "add a node"),
        (
            replace(
                POD,
                unschedulable="0/3 nodes are available: pod has unbound immediate "
                "PersistentVolumeClaims",
            ),
            "Unschedulable",
            "PersistentVolumeClaims: create the claim that group chat mounts",
        ),
        (
            replace(POD, unschedulable="Insufficient nvidia.com/gpu"),
            "Unschedulable",
            "install its device plugin",
        ),
        (
            replace(POD, waiting=Waiting("ErrImagePull", "no such tag")),
            "ImagePullFailed",
            "no such tag: check engine.image of group chat, or add a pull secret to service "
            "account default",
        ),
        (
            replace(POD, waiting=Waiting("ErrImagePull", "no such tag"), blocked_by="sidecar"),
            "ImagePullFailed",
            "no such tag: check the operator's setting SAGEPOOL_OPERATOR_IMAGE, or add a pull "
            "secret to the operator's setting SAGEPOOL_OPERATOR_IMAGE_PULL_SECRETS",
        ),
        (
            replace(POD, waiting=Waiting("ErrImagePull", "no such tag"), blocked_by="mesh-init"),
            "ImagePullFailed",
            "no such tag: check the image of its init container mesh-init",
        ),
        (
            replace(POD, waiting=Waiting("CreateContainerConfigError", 'secret "hf" not found')),
            "ContainerConfigInvalid",
            'secret "hf" not found: create what group chat refers to',
        ),
        (
            replace(POD, is_running=False, restarts=1, last_exit=Exit(1, "Error", "boom")),
            "EngineCrashing",
            "exited with code 1 (boom), restarted once: see `kubectl logs rag-chat-1 --previous`",
        ),
        (
            replace(
                POD,
                is_running=False,
                restarts=3,
                last_exit=Exit(2, "Error", ""),
                blocked_by="sidecar",
            ),
            "EngineCrashing",
            "rag-chat-1 (its container sidecar) exited with code 2, restarted 3 times: see "
            "`kubectl logs rag-chat-1 --previous --container sidecar`",
        ),
        (
            replace(POD, is_running=False, restarts=2, last_exit=Exit(137, "OOMKilled", "")),
            "OutOfMemory",
            "ran out of memory",
        ),
    ],
)
def test_pods_trouble_names_the_next_step(pod: PodFacts, reason: str, words: str) -> None:
    problem = find_problem(pod, CHAT)
    assert problem is not None
    assert problem.reason == reason
    assert words in problem.message


def test_a_crash_is_told_by_the_engines_last_lines_in_one_line() -> None:
    log = "\n".join([*(f"line {n}" for n in range(80)), "", "vllm: error: unknown flag --foo\n"])
    problem = find_problem(replace(POD, is_running=False, last_exit=Exit(2, "Error", log)), CHAT)
    assert problem is not None
    assert "(line 76 / line 77 / line 78 / line 79 / vllm: error: unknown flag --foo)" in (
        problem.message
    )


def test_the_cause_of_a_crash_is_told_though_more_was_said_after_it() -> None:
    log = "\n".join(["ValueError: too large", *(f"line {n}" for n in range(80))])
    problem = find_problem(replace(POD, is_running=False, last_exit=Exit(1, "Error", log)), CHAT)
    assert problem is not None
    assert "(ValueError: too large / ... / line 79)" in problem.message


def test_an_error_of_an_engine_that_was_killed_later_is_not_its_cause() -> None:
    log = "\n".join(["ValueError: prompt too long", *(f"line {n}" for n in range(80))])
    problem = find_problem(replace(POD, is_running=False, last_exit=Exit(137, "Error", log)), CHAT)
    assert problem is not None
    assert "(line 75 / line 76 / line 77 / line 78 / line 79)" in problem.message


def test_of_very_long_last_words_the_end_is_told() -> None:
    log = f"{'x' * 2000} no such model"
    problem = find_problem(replace(POD, is_running=False, last_exit=Exit(1, "Error", log)), CHAT)
    assert problem is not None
    assert "(..." in problem.message
    assert "x no such model)" in problem.message
    assert len(problem.message) < 800


STARTING = replace(
    POD, is_running=False, is_mounting=True, waiting=Waiting("ContainerCreating", "")
)


def test_pod_that_waits_for_a_secret_says_which() -> None:
    work = replace(CHAT, secrets="Secret rag-keys (router.auth.apiKeysSecret)")
    problem = find_problem(STARTING, work)
    assert problem is not None
    assert problem.reason == "SecretNotMounted"
    assert problem.message == (
        "rag-chat-1 waits for Secret rag-keys (router.auth.apiKeysSecret): if it stays so, create "
        "what is missing in this namespace, or correct the reference"
    )


@pytest.mark.parametrize(
    "pod",
    [POD, STARTING, replace(POD, is_running=False), replace(POD, last_exit=Exit(1, "Error", ""))],
)
def test_pod_that_runs_or_starts_has_no_trouble(pod: PodFacts) -> None:
    assert find_problem(pod, CHAT) is None


def replica_failure(status: str, message: str) -> dict[str, str]:
    return {
        "type": "ReplicaFailure",
        "status": status,
        "reason": "FailedCreate",
        "message": message,
    }


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        (
            'pods "rag-chat-1" is forbidden: exceeded quota: team, requested: pods=1, used: '
            "pods=4, limited: pods=4",
            "raise the ResourceQuota, or ask for less in group chat",
        ),
        (
            'pods "rag-chat-1" is forbidden: failed quota: team: must specify limits.memory '
            "for: engine",
            "give the namespace a LimitRange with defaults",
        ),
        (
            'pods "rag-chat-1" is forbidden: violates PodSecurity "restricted:latest": '
            "runAsNonRoot != true",
            "label the namespace pod-security.kubernetes.io/enforce=baseline",
        ),
        (
            'pods "rag-chat-1" is forbidden: violates PodSecurity "baseline:latest": '
            'hostPath volumes (volume "models")',
            "take cache.type pvc, or label the namespace",
        ),
        (
            'pods "rag-chat-1" is forbidden: maximum memory usage per Container is 1Gi.',
            "change the policy of the namespace",
        ),
    ],
)
def test_pods_that_the_api_server_refuses_are_told_in_its_words(said: str, advice: str) -> None:
    problem = find_refusal([replica_failure("True", said)], CHAT)
    assert problem is not None
    assert problem.reason == "PodsRefused"
    assert problem.message.startswith(f"group chat: {said.rstrip('.')}: {advice}")


@pytest.mark.parametrize(
    "found",
    [
        [],
        [replica_failure("False", "")],
        [{"type": "Progressing", "status": "True", "message": "x"}],
    ],
)
def test_deployment_whose_pods_are_made_has_no_refusal(found: list[dict[str, str]]) -> None:
    assert find_refusal(found, CHAT) is None


@pytest.mark.parametrize(
    ("change", "phase", "reason", "engine_ready"),
    [
        ({}, "Ready", "Ready", True),
        ({"drain": True}, "Draining", "DrainRequested", True),
        ({"is_leaving": True}, "Draining", "Draining", True),
        ({"rival": "taken"}, "Failed", "ModelNameTaken", True),
        ({"strange_space": "other"}, "Failed", "OtherEmbeddingSpace", True),
        ({"strange_space": "other", "drain": True}, "Failed", "OtherEmbeddingSpace", True),
        ({"pool_exists": False}, "Failed", "PoolNotFound", True),
        ({"is_starting": True}, "Pending", "Starting", False),
        ({"probed": None}, "Pending", "NotProbedYet", False),
        ({"probed": None, "has_restarted": True}, "Loading", "EngineLoading", False),
        ({"problem": TROUBLE}, "Failed", "ImagePullFailed", False),
        ({"problem": Problem("Unschedulable", "x")}, "Pending", "Unschedulable", False),
        ({"probed": Probed("NoAddress", "x", False)}, "Pending", "NoAddress", False),
        ({"probed": Probed("Unreachable", "x", False)}, "Loading", "EngineLoading", False),
        ({"probed": Probed("Unhealthy", "x", False)}, "Loading", "EngineLoading", False),
        ({"probed": Probed("Unreachable", "x", True)}, "Failed", "Unreachable", False),
        ({"probed": Probed("ModelNotServed", "x", False)}, "Failed", "ModelNotServed", False),
        ({"drain": True, "probed": None}, "Pending", "NotProbedYet", False),
        ({"is_leaving": True, "problem": TROUBLE}, "Draining", "Draining", False),
    ],
)
def test_instance(change: dict[str, Any], phase: str, reason: str, engine_ready: bool) -> None:
    verdict = judge_instance(replace(READY, **change))
    assert verdict.phase == phase
    assert verdict.ready.reason == reason
    assert verdict.ready.is_true == (phase == "Ready")
    assert verdict.engine.is_true == engine_ready


@pytest.mark.parametrize("verdict", ["Unreachable", "Unhealthy"])
@pytest.mark.parametrize("was_ready", [False, True])
def test_silent_instance_elsewhere_says_what_the_probe_saw_and_where_to_look(
    verdict: Verdict, was_ready: bool
) -> None:
    probed = Probed(verdict, "http://10.0.0.7:8000 cannot be reached", was_ready)
    found = judge_instance(replace(READY, is_elsewhere=True, probed=probed))
    assert (found.phase, found.ready.reason) == ("Failed", verdict)
    assert found.ready.message.startswith("http://10.0.0.7:8000 cannot be reached: ")
    assert "check spec.endpoints[].url" in found.ready.message
    assert found.engine == found.ready


def test_other_trouble_of_an_instance_elsewhere_keeps_its_own_words() -> None:
    probed = Probed("ModelNotServed", "it serves another", was_ready=False)
    found = judge_instance(replace(READY, is_elsewhere=True, probed=probed))
    assert (found.ready.reason, found.ready.message) == ("ModelNotServed", "it serves another")


SHORT = replace(UP, ready=1)
WEDGED = Elsewhere("far", Judgement(False, "Unreachable", "no answer"))


@pytest.mark.parametrize(
    ("change", "reason", "words"),
    [
        ({}, "AllReady", "2 of 2"),
        ({"groups": (replace(UP, desired=0, ready=0),)}, "AllReady", "no engine"),
        ({"groups": (SHORT,)}, "EnginesNotReady", "chat: 1 of 2 ready"),
        ({"elsewhere": (WEDGED,)}, "EnginesNotReady", "far: no answer"),
        ({"router": replace(ROUTER, ready=0)}, "RouterNotReady", "0 of 2 router pods"),
        ({"router": replace(ROUTER, ready=1)}, "AllReady", ""),
        ({"groups": (replace(SHORT, problem=TROUBLE),)}, "ImagePullFailed", "cannot pull"),
        ({"groups": (replace(UP, problem=TROUBLE),)}, "AllReady", ""),
        ({"groups": (replace(SHORT, problem=REFUSED),)}, "PodsRefused", "exceeded quota"),
        ({"is_suspended": True, "groups": (SHORT,)}, "Suspended", "set it to false"),
        ({"refused": ("bad env",), "is_suspended": True}, "WriteRefused", "bad env"),
        ({"is_suspended": True, "provider": PROVIDER}, "Suspended", "set it to false"),
        ({"taken": ("Service x",), "refused": ("y",)}, "NameTaken", "rename the group"),
        (
            {"elsewhere": (Elsewhere("far", Judgement(False, "ModelNameTaken", "m is taken")),)},
            "ModelNameTaken",
            "InferenceInstance far: m is taken",
        ),
        (
            {
                "elsewhere": (
                    Elsewhere("far", Judgement(False, "OtherEmbeddingSpace", "m differs")),
                )
            },
            "OtherEmbeddingSpace",
            "InferenceInstance far: m differs",
        ),
    ],
)
def test_pool_is_ready_or_says_what_to_do_first(
    change: dict[str, Any], reason: str, words: str
) -> None:
    judgement = judge_ready(replace(POOL, **change))
    assert judgement.reason == reason
    assert judgement.is_true == (reason == "AllReady")
    assert words in judgement.message


@pytest.mark.parametrize(
    ("change", "expected", "words"),
    [
        ({}, (True, "CloudOnly"), f"no engine runs, requests go to {PROVIDER}"),
        ({"unmapped": ("m", "n")}, (True, "CloudOnly"), "for m, n: map it in cloud.models"),
        ({"elsewhere": (WEDGED,)}, (True, "CloudOnly"), PROVIDER),
        ({"router": replace(ROUTER, ready=0)}, (False, "RouterNotReady"), "0 of 2 router pods"),
        ({"cloud": judge_cloud(PROVIDER, "")}, (True, "CloudOnly"), PROVIDER),
        ({"cloud": judge_cloud(PROVIDER, "lost")}, (False, "CloudUnreachable"), "lost"),
    ],
)
def test_pool_that_a_provider_answers_for_needs_a_router_alone(
    change: dict[str, Any], expected: tuple[bool, str], words: str
) -> None:
    facts = replace(POOL, groups=(IDLE,), provider=PROVIDER)
    judgement = judge_ready(replace(facts, **change))
    assert (judgement.is_true, judgement.reason) == expected
    assert words in judgement.message


@pytest.mark.parametrize(
    ("router", "expected"),
    [
        (ROUTER, (True, "RouterReady")),
        (replace(ROUTER, ready=1), (True, "RouterShort")),
        (replace(ROUTER, ready=0), (False, "RouterNotReady")),
        (replace(ROUTER, ready=0, problem=TROUBLE), (False, "ImagePullFailed")),
        (replace(ROUTER, ready=1, problem=TROUBLE), (True, "ImagePullFailed")),
        (replace(ROUTER, ready=0, problem=REFUSED), (False, "PodsRefused")),
        (replace(ROUTER, ready=0, problem=MOUNTING), (False, "SecretNotMounted")),
        # A rollout that cannot go on, while the old pods answer.
        (replace(ROUTER, updated=1, existing=3, problem=MOUNTING), (True, "SecretNotMounted")),
        (replace(ROUTER, problem=TROUBLE), (True, "RouterReady")),
    ],
)
def test_router(router: GroupFacts, expected: tuple[bool, str]) -> None:
    judgement = judge_router(replace(POOL, router=router))
    assert (judgement.is_true, judgement.reason) == expected


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        (UP, (False, "Settled")),
        (SHORT, (True, "Starting")),
        (replace(SHORT, problem=TROUBLE), (False, "Settled")),
        (replace(SHORT, problem=MOUNTING), (True, "Starting")),
        (replace(UP, is_gated=True), (True, "Starting")),
        (replace(UP, updated=1), (True, "RollingOut")),
        (replace(UP, existing=3), (True, "RollingOut")),
        (replace(UP, updated=1, is_stuck=True), (False, "Stuck")),
        (replace(UP, updated=1, is_stuck=True, problem=REFUSED), (False, "PodsRefused")),
    ],
)
def test_progress(group: GroupFacts, expected: tuple[bool, str]) -> None:
    judgement = judge_progressing(replace(POOL, groups=(group,)))
    assert (judgement.is_true, judgement.reason) == expected


def test_what_never_becomes_ready_is_told_with_the_next_step() -> None:
    stuck = judge_progressing(replace(POOL, groups=(replace(UP, updated=1, is_stuck=True),)))
    assert stuck.message.startswith("chat: pods do not become ready in time: see what they wait")
    assert "startupProbe.failureThreshold in podTemplate" in stuck.message


def test_scheduled_tells_of_every_pod_without_a_node() -> None:
    lost = [replace(UP, problem=Problem("Unschedulable", text)) for text in ("one", "two")]
    judgement = judge_scheduled(replace(POOL, groups=tuple(lost)))
    assert (judgement.is_true, judgement.message) == (False, "one; two")
    assert judge_scheduled(POOL).is_true


def test_provider_that_cannot_be_reached_is_named_with_the_next_step() -> None:
    lost = judge_cloud(PROVIDER, "it does not answer in time")
    assert (lost.is_true, lost.reason) == (False, "CloudUnreachable")
    assert lost.message.startswith(f"{PROVIDER}: it does not answer in time: check cloud.baseUrl")
    assert judge_cloud(PROVIDER, "").is_true


def test_pool_whose_own_engines_answer_is_ready_without_its_provider() -> None:
    assert judge_ready(replace(POOL, cloud=judge_cloud(PROVIDER, "lost"))).reason == "AllReady"


ROOMY = Estimate(
    budget_bytes=20 * 2**30,
    weights_bytes=14 * 2**30,
    activations_bytes=0,
    kv_bytes_per_token=2**17,
    length=8192,
)
LONG, HEAVY = replace(ROOMY, length=131072), replace(ROOMY, weights_bytes=40 * 2**30)


@pytest.mark.parametrize(
    ("found", "status", "reason", "words"),
    [
        (
            [ROOMY],
            True,
            "ModelsFit",
            "group g0: hf://o/m: each GPU needs at least 15.5 GiB (weights 14.0",
        ),
        ([ROOMY, LONG], False, "ModelTooLarge", "or set --max-model-len=45056 in engine.args"),
        ([HEAVY], False, "ModelTooLarge", "raise gpu.count"),
        (["why"], None, "FitUnknown", "group g0: hf://o/m: why"),
        (["why", ROOMY], None, "FitUnknown", "why"),
        (["why", HEAVY], False, "ModelTooLarge", "group g1"),
    ],
)
def test_models_that_do_not_fit_are_told_before_those_that_nothing_is_known_of(
    found: list[Estimate | str], status: bool | None, reason: str, words: str
) -> None:
    fits = [GroupFit(f"g{i}", "hf://o/m", one) for i, one in enumerate(found)]
    judged = judge_fit(fits)
    assert judged is not None
    assert (judged.is_true, judged.reason) == (status, reason)
    assert words in judged.message


def test_where_not_even_the_weights_fit_a_shorter_request_is_no_advice() -> None:
    judged = judge_fit([GroupFit("chat", "hf://o/m", HEAVY)])
    assert judged is not None
    assert "--max-model-len" not in judged.message


def test_a_model_that_shares_its_gpu_is_given_more_of_it_first() -> None:
    judged = judge_fit([GroupFit("both", "hf://o/m", HEAVY, share="raise gpu.share")])
    assert judged is not None
    assert ": raise gpu.share, raise gpu.count, take GPUs" in judged.message


def test_pool_whose_groups_say_nothing_of_their_gpus_has_no_judgement_of_fit() -> None:
    assert judge_fit([]) is None
