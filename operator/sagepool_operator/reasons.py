"""Every reason that a condition can have: its meaning and the next step. Pure.

The messages of conditions name the object and the cause; what is here holds for all of them. The
page `docs/reference/conditions.md` is made of it, and a test holds it against the code: a reason
that is set somewhere and is missing here, or the reverse, fails.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sagepool_crds import names


@dataclass(frozen=True, slots=True)
class Reason:
    """A reason, in words that hold wherever it is given."""

    name: str
    meaning: str
    next_step: str = "nothing"


@dataclass(frozen=True, slots=True)
class ConditionType:
    """A condition and all that it can say of itself; what others have said it may pass on."""

    says: str
    """What is the case when it is True."""
    reasons: tuple[Reason, ...]
    passes_on: tuple[str, ...] = ()
    """Sections of the page whose reasons it may have too."""


PODS: Final = "Pods"
REFUSED: Final = "Refused engines"

SHARED: Final[Mapping[str, tuple[Reason, ...]]] = {
    PODS: (
        Reason(
            "PodsRefused",
            "the API server refuses the pods: a ResourceQuota, a LimitRange, Pod Security, an "
            "admission webhook",
            "the message has its words: raise the quota, ask for less, or change the policy; pods "
            "follow by themselves",
        ),
        Reason(
            "Unschedulable",
            "no node has room, mostly no free GPU, or a claim has no volume; the message has the "
            "scheduler's counts",
            "add nodes or the device plugin, ask for less, or make the claim",
        ),
        Reason(
            "ImagePullFailed",
            "a node cannot get the image",
            "correct `engine.image` (of a router or sidecar: `SAGEPOOL_OPERATOR_IMAGE`), or add a "
            "pull secret",
        ),
        Reason(
            "ContainerConfigInvalid",
            "a Secret or ConfigMap that the pod refers to is missing",
            "create it, or correct the reference",
        ),
        Reason(
            "SecretNotMounted",
            "a pod waits for the Secret of `router.auth.apiKeysSecret` or `cloud.apiKeySecret`; "
            "shows for a moment at every start",
            "if it stays, create the Secret and its key, or correct the reference",
        ),
        Reason(
            "EngineCrashing",
            "the engine, or a container that it waits for, exits again and again: a flag it does "
            "not know, a model it does not find, a token that is missing",
            "the message has its last lines, and the command that shows all",
        ),
        Reason(
            "OutOfMemory",
            "the kernel has ended the container for want of memory",
            "give its pods more (`resources` in `podTemplate`), or load less",
        ),
        Reason(
            "PodFailed",
            "a pod was evicted or failed as a whole",
            "nothing: another takes its place",
        ),
    ),
    REFUSED: (
        Reason(
            "ModelNameTaken",
            "an instance written by hand claims a model name that is served in another role",
            "serve it under another name",
        ),
        Reason(
            "OtherEmbeddingSpace",
            "an engine makes other embeddings than those that the pool serves under the name; it "
            "gets no requests",
            "see [Operations](../operations.md#an-engine-in-another-embedding-space)",
        ),
    ),
}

_CLOUD_UNREACHABLE: Final = Reason(
    "CloudUnreachable",
    "the provider does not answer: no name, no connection, a bad certificate, a server error",
    "the message says which; see [A provider](../cloud.md#can-it-be-reached)",
)
_ROUTER_NOT_READY: Final = Reason(
    "RouterNotReady", "no router pod answers", "`kubectl describe deploy POOL-router`"
)

_ADAPTERS: Final = (
    Reason(
        "AdaptersLoading",
        "some are on their way",
        "wait; `status.adapters` of the instance names them",
    ),
    Reason(
        "AdapterLoadFailed",
        "an engine has refused one, or was not able to unload one; it is tried again, at most "
        "every minute",
        "the message has the engine's words and the next step: correct `uri`, raise "
        "`lora.maxRank`, or look into the engine's log",
    ),
)

OF_POOLS: Final[Mapping[str, ConditionType]] = {
    names.READY: ConditionType(
        "The pool answers with all that its spec asks for. Of what is wrong it has what a person "
        "should be told first.",
        (
            Reason("AllReady", "every engine answers"),
            Reason(
                "CloudOnly",
                "`spec.source` is cloud: no engine runs, the router sends requests to the provider",
                "map the models that the message names in `cloud.models`, if any",
            ),
            Reason(
                "NameTaken",
                "an object that the pool needs exists and belongs to somebody else; it is left "
                "alone",
                "remove it, or rename the group or the pool",
            ),
            Reason(
                "WriteRefused",
                "the API server refuses one of the operator's own writes: a `podTemplate` that no "
                "pod can have, an admission webhook, a policy, a missing right",
                "see the message; it is tried again with growing pauses",
            ),
            Reason("Suspended", "`spec.suspend` is set", "set it to false"),
            _ROUTER_NOT_READY,
            _CLOUD_UNREACHABLE,
            Reason(
                "EnginesNotReady",
                "engines are still loading, or went away",
                "wait; `kubectl get sinst` shows which",
            ),
        ),
        (PODS, REFUSED, names.MODELS_CACHED),
    ),
    names.PROGRESSING: ConditionType(
        "Pods are being started, replaced or removed.",
        (
            Reason("RollingOut", "pods come and go", "wait"),
            Reason("Starting", "pods are not ready yet", "wait"),
            Reason("Settled", "as many pods as asked for, all from the present spec"),
            Reason(
                "Stuck",
                "pods do not become ready within the time that loading and pulling may take",
                "`kubectl get sinst -o wide` shows what they wait for; more time: "
                "`startupProbe.failureThreshold` in `podTemplate`",
            ),
        ),
        (PODS,),
    ),
    names.ROUTER_READY: ConditionType(
        "The endpoint answers.",
        (
            Reason("RouterReady", "every router pod answers"),
            Reason("RouterShort", "some router pods answer, not all", "wait"),
            _ROUTER_NOT_READY,
        ),
        (PODS,),
    ),
    names.SCHEDULED: ConditionType(
        "Every pod has found a node.",
        (Reason("AllScheduled", "every pod has a node"),),
        (PODS,),
    ),
    names.CLOUD_REACHABLE: ConditionType(
        "The provider answers. Where requests may go to one.",
        (Reason("CloudReachable", "the provider answers"), _CLOUD_UNREACHABLE),
    ),
    names.MODELS_FIT: ConditionType(
        "Models find room in their GPUs. Where groups have `gpu.memory`.",
        (
            Reason("ModelsFit", "nothing speaks against it; no promise"),
            Reason(
                "ModelTooLarge",
                "weights, KV cache and activations are more than vllm may take of a GPU",
                "the message has the figures and what would help",
            ),
            Reason(
                "FitUnknown",
                "an architecture, a quantisation or an argument that the estimate does not know, "
                "or a hub that the operator cannot read",
                "nothing: the engine is tried all the same",
            ),
        ),
    ),
    names.MODELS_CACHED: ConditionType(
        "Every model is in the pool's cache. Where there is one. A download is tried again by "
        "itself, with pauses that grow to 5 minutes, and goes on where it was.",
        (
            Reason("ModelsCached", "every model is there"),
            Reason(
                "Downloading",
                "models are on their way",
                "wait; `status.models[].cache` has the figures",
            ),
            Reason(
                "TokenMissing",
                "the hub shows the model to nobody without a token, or there is none of that name",
                "check the model's `uri`, or set its `tokenSecret`",
            ),
            Reason(
                "TokenRefused",
                "the token does not open the model",
                "accept its terms on the hub, or renew the token",
            ),
            Reason(
                "ModelNotFound",
                "there is no such model or revision, no such bucket, or no file in the folder",
                "check the model's `uri` and `revision`",
            ),
            Reason(
                "ModelUnusable",
                "the list of files has no digests, or leads out of the folder; or a file of a "
                "bucket has changed meanwhile",
                "take another hub; leave a folder as it is once a model is in it",
            ),
            Reason(
                "HubUnreachable",
                "no answer, or only errors",
                "check DNS, NetworkPolicy, proxy; `SAGEPOOL_OPERATOR_HUB`",
            ),
            Reason(
                "AccessDenied",
                "the bucket does not let the download read",
                "check the keys in the Secret of its `credentialsSecret`, and what they allow",
            ),
            Reason(
                "StorageUnreachable",
                "no answer from the bucket's storage, or only errors",
                "check `AWS_ENDPOINT_URL` and `AWS_REGION`, DNS, NetworkPolicy, proxy",
            ),
            Reason(
                "DiskFull",
                "the volume has too little room; told before the first byte where it can be known",
                "enlarge it, or remove models",
            ),
            Reason(
                "FolderUnusable",
                "the volume cannot be written",
                "give the folder to user 65532",
            ),
            Reason(
                "ChecksumMismatch",
                "what came is not what the hub names; it is fetched anew",
                "look for a proxy that changes it, or a broken disk",
            ),
            Reason(
                "StillMissing",
                "another download of the model has held it for a day",
                "look at that one's pod",
            ),
            Reason("ClaimNotFound", "the claim does not exist", "create it, or set `cache.size`"),
            Reason(
                "ClaimPending",
                "the claim has no volume; shows for a moment while it is made",
                "if it stays: `kubectl describe pvc`: storage class and access mode",
            ),
            Reason(
                "FolderNotMounted",
                "the volume of `cache.path` is not mounted yet, which shows for a moment at every "
                "start",
                "if it stays, the node lacks the folder: make it, or take a claim",
            ),
            Reason(
                "DownloadCrashing",
                "the download ends without saying why, for example out of memory",
                "the command of the message shows its last words",
            ),
        ),
        (PODS,),
    ),
    names.ADAPTERS_LOADED: ConditionType(
        "Every engine that answers has the adapters of its group. Where groups have any; it "
        "decides nothing about Ready.",
        (
            Reason("AdaptersLoaded", "all are loaded"),
            *_ADAPTERS,
            Reason("NoEngine", "no engine answers that could load them", "see Ready"),
        ),
    ),
}

OF_INSTANCES: Final[Mapping[str, ConditionType]] = {
    names.ENGINE_READY: ConditionType(
        "The engine answers and serves what it should.",
        (
            Reason("EngineReady", "all is well"),
            Reason("Starting", "the container of its pod is being started", "wait"),
            Reason("NotProbedYet", "it has not been asked yet", "wait"),
            Reason("NoAddress", "its pod has no address yet", "wait"),
            Reason(
                "ModelNotCached",
                "its pod waits for its model",
                "see the pool's condition ModelsCached",
            ),
            Reason("EngineLoading", "its pod runs and does not answer yet", "wait"),
            Reason(
                "Unreachable",
                "it answered once and does not any more; of an instance written by hand also when "
                "it never did",
                "see that an engine runs there, and check `spec.endpoints[].url`",
            ),
            Reason("Unhealthy", "its health check fails", "look at its log"),
            Reason(
                "UnexpectedAnswer", "something else listens at its address", "check the address"
            ),
            Reason(
                "ModelNotServed", "it answers, but serves other models", "correct name or arguments"
            ),
            Reason(
                "EmbeddingFailed",
                "its embedding of a short text is missing, zero or not finite",
                "check the model and its arguments",
            ),
        ),
        (PODS,),
    ),
    names.READY: ConditionType(
        "Routers may send to it.",
        (
            Reason("Ready", "requests are sent to it"),
            Reason("Draining", "it, or its pod, is being deleted: requests under way finish"),
            Reason("DrainRequested", "`spec.drain` is set", "set it to false to send again"),
            Reason(
                "PoolNotFound",
                "its `poolRef` names no pool of its namespace",
                "create the pool, or make the instance anew with the right `poolRef`",
            ),
        ),
        (names.ENGINE_READY, PODS, REFUSED),
    ),
    names.ROUTABLE: ConditionType(
        "Every ready router sends to it, and a rollout may go on. Where the operator made its pod; "
        "while Ready is not True, it has the reason of that.",
        (
            Reason(
                "InEveryRouter",
                "every ready router sends requests to it; the pod's readiness gate "
                "`sagepool.dev/routable` is open",
            ),
            Reason(
                "WaitingForRouters",
                "it is ready, and the router pods of the message have not taken it into their "
                "tables yet",
                "a moment; if it lasts, see their `/ready`",
            ),
            Reason(
                "RouterUnreachable",
                "a ready router pod does not tell the operator which instances it has, so "
                "rollouts wait",
                "let the operator connect to port 9090 of router pods",
            ),
        ),
    ),
    names.ADAPTERS_LOADED: ConditionType(
        "The engine has the adapters of its group. Where the group has any; it decides nothing "
        "about Ready.",
        (Reason("AdaptersLoaded", "all are loaded"), *_ADAPTERS),
    ),
}


def all_reasons() -> frozenset[str]:
    """The name of every reason."""
    types = (*OF_POOLS.values(), *OF_INSTANCES.values())
    told = (*SHARED.values(), *(one.reasons for one in types))
    return frozenset(reason.name for reasons in told for reason in reasons)
