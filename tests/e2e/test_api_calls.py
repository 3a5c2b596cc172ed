"""What our programs ask of the API server: nothing when settled, and never more than they may."""

import time
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from e2e_audit import WRITES, AuditLog, Call, Permission, read_grants
from e2e_installation import Installation
from e2e_pool import Pool, build_pool
from e2e_waiting import wait_until
from kubectl import Kubectl
from sagepool_crds import names
from sagepool_kube.api import LEASES

QUIET_S = 3
WINDOW_S = 20

_OWN_KINDS = (names.POOL_PLURAL, names.INSTANCE_PLURAL)
NOT_BROUGHT_ABOUT = frozenset(
    # Reflectors list and watch. Routers are granted it so that a person can try things as one,
    # and nobody can grant what they do not have themselves.
    Permission(names.GROUP, resource, "get")
    for resource in _OWN_KINDS
)
"""Permissions that are granted and not used here, with the reason."""


def writes_for(pool: Pool, installation: Installation, audit: AuditLog) -> list[Call]:
    """Writes of the operator and the pool's routers, but those for pools of other namespaces.

    Pools of tests before may still be going.
    """
    users = (installation.operator_user, pool.router_user)
    places = (pool.kubectl.namespace, installation.kubectl.namespace, "")
    return [
        c
        for c in audit.calls()
        if c.user in users
        and c.namespace in places
        and c.permission.verb in WRITES
        # The leader renews its Lease every two seconds, whatever there is to do.
        and c.permission.resource != LEASES.plural
    ]


def quiet_s(writes: Iterable[Call], since: datetime) -> float:
    """Seconds that have passed since the last write, or since then where there is none."""
    last = max((call.at for call in writes), default=since)
    return (datetime.now(tz=UTC) - last).total_seconds()


def test_a_settled_pool_causes_no_writes(
    pool: Pool, installation: Installation, audit: AuditLog
) -> None:
    def writes() -> list[Call]:
        return writes_for(pool, installation, audit)

    wait_until(
        lambda: quiet_s(writes(), audit.begun) >= QUIET_S, "the writes after a change do not end"
    )
    before = len(writes())
    # A window of time is what the promise is about.
    time.sleep(WINDOW_S)
    assert writes()[before:] == []


def test_every_permission_is_used_and_no_call_is_denied(
    own_pool: Pool, installation: Installation, audit: AuditLog
) -> None:
    operator = installation.operator_user
    # Also the calls of a start: the lists and watches, and the Lease, made, waited for and taken.
    installation.scale_operator(0)
    installation.kubectl.run("delete", "lease", "--all")
    installation.scale_operator()
    live_through_everything(own_pool)
    calls = [*audit.calls()]
    ours = [c for c in calls if c.user in (operator, own_pool.router_user)]
    denied = Counter((c.user, c.permission, c.name) for c in ours if c.is_denied)
    assert denied == {}
    for user, rules in (
        (operator, granted_rules(installation.kubectl, operator)),
        (own_pool.router_user, own_pool.kubectl.get("role", "rag-router")["rules"]),
    ):
        used = {permission for c in calls if c.user == user for permission in c.needed}
        unused = read_grants(rules) - used - NOT_BROUGHT_ABOUT
        assert sorted(unused) == [], f"{user} needs less"


def live_through_everything(pool: Pool) -> None:
    """Bring about, in one pool, every kind of thing that the operator does."""
    pool.apply(build_pool())
    pool.wait_ready()
    pool.scale(0, 2)
    pool.wait_ready()
    engine = pool.engines("chat").popitem()[0]
    pool.kubectl.run("delete", "pod", engine)
    pool.wait_ready()
    pool.change({"op": "add", "path": "/spec/suspend", "value": True})
    pool.wait(lambda: not pool.engines(), "the engines do not end")
    pool.change({"op": "remove", "path": "/spec/suspend"})
    pool.change({"op": "remove", "path": "/spec/groups/1"})
    pool.wait_ready()
    cached = {
        "name": "cached",
        "role": "llm",
        "engine": {"type": "vllm"},
        "model": {"name": "cached", "uri": "hf://acme/tiny"},
        "replicas": 0,
    }
    pool.change(
        {"op": "add", "path": "/spec/groups/-", "value": cached},
        {"op": "add", "path": "/spec/cache", "value": {"type": "pvc", "size": "1Gi"}},
    )
    pool.wait(lambda: pool.kubectl.get("job")["items"], "no model is fetched")
    pool.kubectl.get("pvc", "rag-models")
    pool.change({"op": "remove", "path": "/spec/groups/1"}, {"op": "remove", "path": "/spec/cache"})
    pool.wait(lambda: not pool.kubectl.get("job")["items"], "the Job stays")
    pool.wait_ready()


def granted_rules(kubectl: Kubectl, user: str) -> list[dict[str, Any]]:
    """Rules that bindings give this service account, wherever."""
    namespace, name = user.split(":")[2:]
    rules = []
    for binding in kubectl.get("clusterrolebinding,rolebinding", "--all-namespaces")["items"]:
        for subject in binding.get("subjects", []):
            if (subject.get("namespace"), subject["name"]) == (namespace, name):
                role = binding["roleRef"]
                place = Kubectl(kubectl.kubeconfig, binding["metadata"].get("namespace", ""))
                rules += place.get(role["kind"].lower(), role["name"])["rules"]
    return rules
