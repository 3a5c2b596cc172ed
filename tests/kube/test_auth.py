"""Where the client finds its cluster, and that it takes rotated tokens."""

import json
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from kube_stub import KubeStub, says
from sagepool_kube.api import PODS
from sagepool_kube.auth import current_namespace, load_configuration
from sagepool_kube.client import KubeClient
from sagepool_kube.errors import NoCluster

IN_POD = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}


def kubeconfig(path: Path, server: str, user: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "c", "cluster": {"server": server}}],
                "users": [{"name": "u", "user": user}],
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                "current-context": "x",
            }
        )
    )
    return path


@pytest.fixture
def account(tmp_path: Path) -> dict[str, Path]:
    """The files of a pod's service account."""
    token, ca = tmp_path / "token", tmp_path / "ca.crt"
    token.write_text("first")
    ca.write_text("certificate")
    return {"token_file": token, "ca_file": ca}


async def bearer(configuration: Any) -> str:
    settings = await configuration.auth_settings()
    return str(settings["BearerToken"]["value"])


async def test_a_pod_uses_its_service_account(account: dict[str, Path]) -> None:
    configuration = await load_configuration(IN_POD, **account)
    assert configuration.host == "https://10.96.0.1:443"
    assert configuration.ssl_ca_cert == str(account["ca_file"])
    assert await bearer(configuration) == "bearer first"


async def test_a_named_kubeconfig_goes_before_the_service_account(
    tmp_path: Path, account: dict[str, Path]
) -> None:
    path = kubeconfig(tmp_path / "named", "http://named:1", {"token": "t"})
    by_argument = await load_configuration(IN_POD, kubeconfig=path, **account)
    by_variable = await load_configuration({**IN_POD, "KUBECONFIG": str(path)}, **account)
    assert by_argument.host == by_variable.host == "http://named:1"
    assert await bearer(by_variable) == "Bearer t"


async def test_outside_a_pod_the_kubeconfig_of_the_home_folder_is_used(tmp_path: Path) -> None:
    kubeconfig(tmp_path / ".kube" / "config", "http://home:1", {"token": "t"})
    configuration = await load_configuration({"HOME": str(tmp_path)})
    assert configuration.host == "http://home:1"


async def test_without_any_configuration_the_error_says_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(NoCluster, match="set KUBECONFIG"):
        await load_configuration({"HOME": str(tmp_path)})


async def test_a_kubeconfig_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NoCluster, match="absent"):
        await load_configuration({}, kubeconfig=tmp_path / "absent")


@pytest.mark.parametrize("text", ["", "[", "{}", "current-context: x"])
async def test_a_broken_kubeconfig_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "broken"
    path.write_text(text)
    with pytest.raises(NoCluster, match="broken"):
        await load_configuration({}, kubeconfig=path)


async def test_a_service_account_without_token_is_explained(account: dict[str, Path]) -> None:
    account["token_file"].unlink()
    with pytest.raises(NoCluster, match="automountServiceAccountToken"):
        await load_configuration(IN_POD, **account)


async def test_connections_are_not_limited(account: dict[str, Path]) -> None:
    configuration = await load_configuration(IN_POD, **account)
    assert configuration.connection_pool_maxsize == 0


async def test_a_token_of_an_exec_plugin_is_renewed_before_it_expires(tmp_path: Path) -> None:
    """A plugin whose tokens are always about to expire is asked for every request."""
    counter = tmp_path / "count"
    plugin = tmp_path / "plugin"
    credential = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential"}
    plugin.write_text(
        f"#!{sys.executable}\n"
        "import json, pathlib\n"
        f"counter = pathlib.Path({str(counter)!r})\n"
        "n = int(counter.read_text() or 0) + 1 if counter.exists() else 1\n"
        "counter.write_text(str(n))\n"
        f"credential = json.loads({json.dumps(credential)!r})\n"
        "credential['status'] = {'token': f'token-{n}',\n"
        "    'expirationTimestamp': '2020-01-01T00:00:00Z'}\n"
        "print(json.dumps(credential))\n"
    )
    plugin.chmod(plugin.stat().st_mode | stat.S_IXUSR)
    user = {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": str(plugin),
            "interactiveMode": "Never",
        }
    }
    async with KubeStub(says({})).running() as stub:
        path = kubeconfig(tmp_path / "config", stub.url, user)
        async with KubeClient(await load_configuration({}, kubeconfig=path)) as client:
            await client.get(PODS, "ns", "a")
            await client.get(PODS, "ns", "a")
    first, second = (int(r.headers["authorization"].rpartition("-")[2]) for r in stub.requests)
    assert second > first


def write_context(path: Path, current: str | None, **namespaces: str | None) -> Path:
    contexts = [
        {"name": name, "context": {"cluster": "c", **({"namespace": n} if n else {})}}
        for name, n in namespaces.items()
    ]
    path.write_text(yaml.safe_dump({"current-context": current, "contexts": contexts}))
    return path


def test_the_namespace_is_that_of_the_current_context(tmp_path: Path) -> None:
    one = write_context(tmp_path / "one", "a", a="team-a", b="team-b")
    assert current_namespace({"KUBECONFIG": str(one)}) == "team-a"
    assert current_namespace({}, kubeconfig=write_context(tmp_path / "t", "b", b=None)) == "default"


def test_of_several_kubeconfigs_the_first_that_says_something_wins(tmp_path: Path) -> None:
    first = write_context(tmp_path / "one", None, a="team-a")
    second = write_context(tmp_path / "two", "a", a="other")
    listed = f"{tmp_path / 'missing'}:{first}:{second}"
    assert current_namespace({"KUBECONFIG": listed}) == "team-a"


def test_the_usual_kubeconfig_is_read_where_none_is_named(tmp_path: Path) -> None:
    (tmp_path / ".kube").mkdir()
    write_context(tmp_path / ".kube" / "config", "a", a="team-a")
    assert current_namespace({"HOME": str(tmp_path)}) == "team-a"
    assert current_namespace({"HOME": str(tmp_path / "none")}) == "default"


def test_in_a_pod_it_is_the_pod_s(tmp_path: Path) -> None:
    file = tmp_path / "namespace"
    pod = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
    assert current_namespace(pod, namespace_file=file) == "default"
    file.write_text("team-a\n")
    assert current_namespace(pod, namespace_file=file) == "team-a"


@pytest.mark.parametrize("text", ["[", "text", "contexts: [1]", "current-context: 7"])
def test_a_kubeconfig_that_says_nothing_is_the_default_namespace(tmp_path: Path, text: str) -> None:
    (tmp_path / "k").write_text(text)
    assert current_namespace({"KUBECONFIG": str(tmp_path / "k")}) == "default"
