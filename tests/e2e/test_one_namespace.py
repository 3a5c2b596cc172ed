"""A release for its own namespace alone, beside others: it works with a Role there."""

from collections import Counter

from e2e_audit import AuditLog
from e2e_installation import Installation
from e2e_pool import Pool, build_chat_group, build_pool

SETTINGS = ("operator.scope=namespace", "crds.enabled=false", "userRoles.aggregate=false")


def test_an_operator_for_one_namespace_serves_its_pools_with_rights_there_alone(
    second_release: Installation, own_pool: Pool, audit: AuditLog
) -> None:
    pool_elsewhere = own_pool
    pool_elsewhere.apply(build_pool(build_chat_group()))

    second_release.install(*SETTINGS)
    pool = Pool(second_release.kubectl)
    pool.apply(build_pool(build_chat_group()))
    pool.wait_ready()

    assert "Succeeded" in second_release.helm("test", second_release.release, "--timeout=1m")
    assert pool_elsewhere.kubectl.get("deployment")["items"] == []
    users = (second_release.operator_user, pool.router_user)
    calls = [call for call in audit.calls() if call.user in users]
    assert {call.user for call in calls} == {*users}
    denied = Counter((c.user, c.permission, c.namespace, c.name) for c in calls if c.is_denied)
    assert denied == {}
    assert {call.namespace for call in calls} == {second_release.kubectl.namespace}
