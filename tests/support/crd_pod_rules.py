"""What a group's podTemplate may not hold, and the nearest that it may."""

from typing import Any

from crd_objects import group_object, pool_object
from crd_rules import Rule


def _patched(**template: Any) -> dict[str, Any]:
    return pool_object(groups=[group_object(podTemplate=template)])


def _pod(**spec: Any) -> dict[str, Any]:
    return _patched(spec=spec)


def _engine(**fields: Any) -> dict[str, Any]:
    return _pod(containers=[{"name": "engine", **fields}])


def _other(**fields: Any) -> dict[str, Any]:
    return _pod(containers=[{"name": "logs", "image": "logs:1", **fields}])


def _init(name: str) -> dict[str, Any]:
    return _pod(initContainers=[{"name": name, "image": "other:1"}])


_PATCHED = "spec.groups[0].podTemplate"
_ASK = {"httpGet": {"path": "/other", "port": 1}}


POD_RULES = [
    *(
        Rule(
            "keys of sagepool.dev/ belong to the operator",
            f"{_PATCHED}.metadata.{field}",
            bad=_patched(metadata={field: {key: "x"}}),
            good=_patched(metadata={field: {"team.example.com/name": "x"}}),
        )
        for field in ("labels", "annotations")
        for key in ("sagepool.dev/pool", "$patch")
    ),
    *(
        Rule(
            "app.kubernetes.io/name, instance, component and managed-by are set by the operator",
            f"{_PATCHED}.metadata.labels",
            bad=_patched(metadata={"labels": {f"app.kubernetes.io/{name}": "x"}}),
            good=_patched(metadata={"labels": {"app.kubernetes.io/version": "x"}}),
        )
        for name in ("name", "instance", "component", "managed-by")
    ),
    Rule(
        "restartPolicy cannot be set: engines are restarted always",
        f"{_PATCHED}.spec.restartPolicy",
        bad=_pod(restartPolicy="Never"),
        good=_pod(nodeSelector={"gpu": "h100"}),
    ),
    Rule(
        "remove it, and set rollout.drainSeconds",
        f"{_PATCHED}.spec.terminationGracePeriodSeconds",
        bad=_pod(terminationGracePeriodSeconds=5),
        good=_pod(priorityClassName="urgent"),
    ),
    Rule(
        "the gate by which routers take an engine in would be lost",
        f"{_PATCHED}.spec.readinessGates",
        bad=_pod(readinessGates=[{"conditionType": "x"}]),
        good=_pod(runtimeClassName="nvidia"),
    ),
    Rule(
        "activeDeadlineSeconds would end engines that work",
        f"{_PATCHED}.spec.activeDeadlineSeconds",
        bad=_pod(activeDeadlineSeconds=5),
        good=_pod(serviceAccountName="engines"),
    ),
    Rule(
        "ephemeralContainers cannot be in a template",
        f"{_PATCHED}.spec.ephemeralContainers",
        bad=_pod(ephemeralContainers=[{"name": "debug"}]),
        good=_pod(tolerations=[{"operator": "Exists"}]),
    ),
    Rule(
        "remove it, and set engine.image",
        f"{_PATCHED}.spec.containers[0].image",
        bad=_engine(image="other:1"),
        good=_other(),
    ),
    Rule(
        "remove them, and set engine.port",
        f"{_PATCHED}.spec.containers[0].ports",
        bad=_engine(ports=[{"containerPort": 1}]),
        good=_other(ports=[{"containerPort": 1}]),
    ),
    Rule(
        "lifecycle of container engine is how it finishes its requests",
        f"{_PATCHED}.spec.containers[0].lifecycle",
        bad=_engine(lifecycle={"preStop": {"sleep": {"seconds": 1}}}),
        good=_other(lifecycle={"preStop": {"sleep": {"seconds": 1}}}),
    ),
    *(
        Rule(
            f"{probe} of container engine asks the engine itself",
            f"{_PATCHED}.spec.containers[0].{probe}",
            bad=_engine(**{probe: _ASK}),
            good=_engine(**{probe: {"failureThreshold": 9}}),
        )
        for probe in ("startupProbe", "readinessProbe", "livenessProbe")
    ),
    *(
        Rule(
            "containers sidecar and model are the operator's",
            f"{_PATCHED}.spec.initContainers[0].name",
            bad=_init(name),
            good=_init("tune"),
        )
        for name in ("sidecar", "model")
    ),
    Rule(
        "unknown field",
        f"{_PATCHED}.spec.nodeSelectors",
        bad=_pod(nodeSelectors={}),
        good=_engine(resources={"limits": {"cpu": 1, "memory": "1Gi"}}),
    ),
]
POD_SHAPES = [
    Rule(
        'Unsupported value: "delete"',
        f"{_PATCHED}.spec.containers[0].$patch",
        bad=_engine(**{"$patch": "delete"}),
        good=_engine(env=[{"name": "A", "$patch": "delete"}]),
    ),
    Rule(
        "Required value",
        f"{_PATCHED}.spec.containers[0].env[0].name",
        bad=_engine(env=[{"value": "1"}]),
        good=_engine(env=[{"name": "A", "value": "1"}]),
    ),
]
"""What the schema alone refuses: the server then leaves its rules unchecked, and says so."""
