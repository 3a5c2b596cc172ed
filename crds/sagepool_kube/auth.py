"""Where the API server is and who we are: the official loaders, in kubectl's order.

1. a kubeconfig that was named (argument or KUBECONFIG),
2. the service account of the pod,
3. ~/.kube/config.

Tokens are read again when they rotate: the service account's file every minute, an exec plugin's
when it is about to expire.
"""

import contextlib
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import yaml
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config.config_exception import ConfigException
from kubernetes.aio.config.incluster_config import (
    SERVICE_CERT_FILENAME,
    SERVICE_HOST_ENV_NAME,
    SERVICE_TOKEN_FILENAME,
    InClusterConfigLoader,
)
from kubernetes.aio.config.kube_config import load_kube_config

from sagepool_kube.errors import NoCluster

_logger: Final = logging.getLogger(__name__)
_BEARER: Final = "BearerToken"
_NAMESPACE_FILE: Final = Path(SERVICE_TOKEN_FILENAME).with_name("namespace")


async def load_configuration(
    environ: Mapping[str, str],
    *,
    kubeconfig: Path | None = None,
    token_file: Path = Path(SERVICE_TOKEN_FILENAME),
    ca_file: Path = Path(SERVICE_CERT_FILENAME),
) -> Configuration:
    """Read the configuration of the cluster that this process belongs to.

    Args:
        environ: the environment; KUBECONFIG and what a pod finds there are read.
        kubeconfig: a kubeconfig that goes before everything else.
        token_file: the service account's token.
        ca_file: the certificate authority of the pod's API server.

    Raises:
        NoCluster: there is no configuration, or it cannot be used.
    """
    named = str(kubeconfig) if kubeconfig is not None else environ.get("KUBECONFIG", "")
    if named:
        return await _from_kubeconfig(named)
    if environ.get(SERVICE_HOST_ENV_NAME):
        return _from_service_account(environ, token_file, ca_file)
    usual = Path(environ.get("HOME", "")) / ".kube" / "config"
    if _any_is_there(str(usual)):
        return await _from_kubeconfig(str(usual))
    raise NoCluster(
        f"no Kubernetes cluster: this is no pod, KUBECONFIG is not set and {usual} is not there; "
        "set KUBECONFIG to a kubeconfig"
    )


def current_namespace(
    environ: Mapping[str, str],
    *,
    kubeconfig: Path | None = None,
    namespace_file: Path = _NAMESPACE_FILE,
) -> str:
    """The namespace that commands without one mean: of the kubeconfig's context, or of the pod.

    `default` where neither says one. What cannot be read is for `load_configuration` to refuse.
    """
    named = str(kubeconfig) if kubeconfig is not None else environ.get("KUBECONFIG", "")
    if not named and environ.get(SERVICE_HOST_ENV_NAME):
        with contextlib.suppress(OSError):
            return namespace_file.read_text().strip() or "default"
        return "default"
    usual = str(Path(environ.get("HOME", "")) / ".kube" / "config")
    contexts: dict[str, Any] = {}
    current = ""
    for part in (named or usual).split(os.pathsep):
        # As kubectl merges: the first file that says something wins.
        with contextlib.suppress(OSError, yaml.YAMLError, AttributeError, KeyError, TypeError):
            read = yaml.safe_load(Path(part).expanduser().read_text())
            current = current or read.get("current-context") or ""
            for item in read.get("contexts") or ():
                contexts.setdefault(item["name"], item["context"])
    return str((contexts.get(current) or {}).get("namespace") or "default")


def _from_service_account(
    environ: Mapping[str, str], token_file: Path, ca_file: Path
) -> Configuration:
    configuration = _new_configuration()
    loader = InClusterConfigLoader(  # type: ignore[no-untyped-call]  # not typed
        token_filename=str(token_file), cert_filename=str(ca_file), environ=environ
    )
    try:
        loader.load_and_set(configuration)  # type: ignore[no-untyped-call]  # not typed
    except (ConfigException, OSError) as error:
        raise NoCluster(
            f"the pod's service account cannot be used: {error} "
            f"Is its token mounted at {token_file} (automountServiceAccountToken)?"
        ) from error
    return configuration


class _KubeconfigLoader(Protocol):
    """The part of the official loader that this module relies on."""

    token: str

    async def load_from_exec_plugin(self) -> bool | None: ...


async def _from_kubeconfig(path: str) -> Configuration:
    configuration = _new_configuration()
    # The loader only warns about a missing file and then fails on its own None.
    if not _any_is_there(path):
        raise NoCluster(f"there is no kubeconfig at {path}")
    try:
        loader = await load_kube_config(  # type: ignore[no-untyped-call]  # not typed
            config_file=path, client_configuration=configuration, persist_config=False
        )
    except (ConfigException, OSError, ValueError, TypeError, yaml.YAMLError) as error:
        raise NoCluster(f"the kubeconfig {path} cannot be used: {error}") from error
    if hasattr(loader, "exec_plugin_expiry"):
        _refresh_from_plugin(configuration, loader)
    return configuration


def _any_is_there(path: str) -> bool:
    """Whether a file of KUBECONFIG's list is there and can be reached."""
    # Path.is_file raises where a folder above may not be entered.
    return any(os.path.isfile(Path(part).expanduser()) for part in path.split(os.pathsep) if part)


def _refresh_from_plugin(configuration: Configuration, loader: _KubeconfigLoader) -> None:
    """Ask the exec plugin again when its token is about to expire; the loader knows when."""

    async def refresh(target: Configuration) -> None:
        if await loader.load_from_exec_plugin() is None:
            _logger.warning("the kubeconfig's exec plugin gave no new token")
        target.api_key[_BEARER] = loader.token

    configuration.refresh_api_key_hook = refresh  # type: ignore[assignment]  # inferred as None


def _new_configuration() -> Configuration:
    configuration = Configuration()
    # Every watch holds a connection: a limit would stall the calls that come after it.
    configuration.connection_pool_maxsize = 0
    return configuration
