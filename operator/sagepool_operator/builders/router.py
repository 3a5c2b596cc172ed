"""The router: its Deployment, Service and the rights that it needs."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sagepool_crds import names
from sagepool_crds.pool import InferencePool
from sagepool_kube.api import DEPLOYMENTS, ROLE_BINDINGS, ROLES, SERVICE_ACCOUNTS, SERVICES
from sagepool_operator.builders import identity, registry, security
from sagepool_operator.config import Images

CONTAINER: Final = "router"
_PORT: Final = 8000
ADMIN_PORT: Final = 9090
_LEAVE_S: Final = 5
"""A pod that is being deleted keeps answering so long: by then the Service sends elsewhere."""
_GRACE_S: Final = 120
"""How long streams may go on after SIGTERM."""
_API_KEYS: Final = "/etc/sagepool/api-keys"
_CLOUD: Final = "/etc/sagepool/cloud"
_CLOUD_KEY_FILE: Final = "api-key"
_READABLE: Final = 0o440
"""For the pod's own group only."""


def endpoint(pool: InferencePool) -> str:
    """Base URL for OpenAI clients in the cluster."""
    port = pool.spec.router.service.port
    host = f"{names.router_name(pool.metadata.name)}.{pool.metadata.namespace}.svc"
    return f"http://{host}/v1" if port == 80 else f"http://{host}:{port}/v1"


def admin_url(ip: str) -> str:
    """Base URL of the admin port of the router pod with this address."""
    return f"http://{identity.host(ip)}:{ADMIN_PORT}"


def build_deployment(pool: InferencePool, images: Images) -> dict[str, Any]:
    """The Deployment of the router."""
    selector = identity.router_selector(pool)
    labels = identity.router_labels(pool)
    spec = {
        "replicas": pool.spec.router.replicas,
        "selector": {"matchLabels": selector},
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
        },
        "revisionHistoryLimit": 3,
        "template": {
            "metadata": {"labels": labels},
            "spec": {
                "serviceAccountName": _name(pool),
                **registry.credentials(images.pull_secrets),
                "enableServiceLinks": False,
                "terminationGracePeriodSeconds": _LEAVE_S + _GRACE_S + 10,
                "securityContext": security.restricted_pod(),
                "topologySpreadConstraints": [
                    {
                        "maxSkew": 1,
                        "topologyKey": "kubernetes.io/hostname",
                        "whenUnsatisfiable": "ScheduleAnyway",
                        "labelSelector": {"matchLabels": selector},
                    }
                ],
                "containers": [_container(pool, images)],
                "volumes": [
                    {"name": "tmp", "emptyDir": {}},
                    *(secret.volume for secret in _secrets(pool)),
                ],
            },
        },
    }
    return identity.child(pool, DEPLOYMENTS, _name(pool), labels, spec=spec)


def build_service(pool: InferencePool) -> dict[str, Any]:
    """The Service that clients call."""
    wanted = pool.spec.router.service
    port = {"name": "http", "port": wanted.port, "targetPort": "http", "protocol": "TCP"}
    spec = {"type": wanted.type, "selector": identity.router_selector(pool), "ports": [port]}
    return identity.child(pool, SERVICES, _name(pool), identity.router_labels(pool), spec=spec)


def build_access(pool: InferencePool) -> list[dict[str, Any]]:
    """ServiceAccount, Role and RoleBinding: read pools and instances of its own namespace."""
    name, labels = _name(pool), identity.router_labels(pool)
    rule = {
        "apiGroups": [names.GROUP],
        "resources": [names.POOL_PLURAL, names.INSTANCE_PLURAL],
        "verbs": ["get", "list", "watch"],
    }
    role = {"apiGroup": ROLES.group, "kind": ROLES.kind, "name": name}
    subject = {
        "kind": SERVICE_ACCOUNTS.kind,
        "name": name,
        "namespace": pool.metadata.namespace,
    }
    return [
        identity.child(pool, SERVICE_ACCOUNTS, name, labels),
        identity.child(pool, ROLES, name, labels, rules=[rule]),
        identity.child(pool, ROLE_BINDINGS, name, labels, roleRef=role, subjects=[subject]),
    ]


@dataclass(frozen=True, slots=True)
class _MountedSecret:
    """A Secret that the router reads as files, so that a new key needs no new pod."""

    volume: Mapping[str, Any]
    path: str
    argument: str

    @property
    def mount(self) -> Mapping[str, Any]:
        return {"name": self.volume["name"], "mountPath": self.path, "readOnly": True}


def _secrets(pool: InferencePool) -> Iterator[_MountedSecret]:
    auth, cloud = pool.spec.router.auth, pool.spec.cloud
    if auth is not None:
        source = {"secretName": auth.api_keys_secret, "defaultMode": _READABLE}
        yield _MountedSecret(
            {"name": "api-keys", "secret": source}, _API_KEYS, f"--api-keys={_API_KEYS}"
        )
    if cloud is not None:
        item = {"key": cloud.api_key_secret.key, "path": _CLOUD_KEY_FILE}
        secret = {"name": cloud.api_key_secret.name, "items": [item]}
        yield _MountedSecret(
            {
                "name": "cloud",
                "projected": {"sources": [{"secret": secret}], "defaultMode": _READABLE},
            },
            _CLOUD,
            f"--cloud-api-key-file={_CLOUD}/{_CLOUD_KEY_FILE}",
        )


def _container(pool: InferencePool, images: Images) -> dict[str, Any]:
    return {
        "name": CONTAINER,
        "image": images.own,
        "imagePullPolicy": images.pull_policy,
        "command": ["sagepool-router", "serve"],
        "args": [
            "--source=kubernetes",
            f"--pool={pool.metadata.namespace}/{pool.metadata.name}",
            "--host=0.0.0.0",
            f"--port={_PORT}",
            f"--admin-port={ADMIN_PORT}",
            "--log-format=json",
            f"--grace-seconds={_GRACE_S}",
            *(secret.argument for secret in _secrets(pool)),
        ],
        "ports": [
            {"name": "http", "containerPort": _PORT, "protocol": "TCP"},
            {"name": "admin", "containerPort": ADMIN_PORT, "protocol": "TCP"},
        ],
        "resources": pool.spec.router.resources.to_object(),
        "securityContext": security.restricted_container(),
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},
            *(secret.mount for secret in _secrets(pool)),
        ],
        "lifecycle": {"preStop": {"sleep": {"seconds": _LEAVE_S}}},
        "readinessProbe": {**_check("/ready"), "periodSeconds": 2, "failureThreshold": 2},
        # Generous: a router that is busy with one core's worth of requests is not dead.
        "livenessProbe": {
            **_check("/health"),
            "initialDelaySeconds": 10,
            "periodSeconds": 10,
            "failureThreshold": 6,
        },
    }


def _check(path: str) -> dict[str, Any]:
    return {"httpGet": {"path": path, "port": "http", "scheme": "HTTP"}, "timeoutSeconds": 5}


def _name(pool: InferencePool) -> str:
    return names.router_name(pool.metadata.name)
