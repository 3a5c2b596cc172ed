"""The way from the test to a pool's endpoint."""

import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from e2e_waiting import wait_until
from kubectl import Kubectl, find_tool
from sagepool_crds import names


@contextmanager
def reach_router(kubectl: Kubectl, pool: str) -> Iterator[str]:
    """The base URL (without /v1) of the pool's Service, once it answers.

    Its cluster address where this machine has a route to it, else a port-forward while inside.
    """
    name = names.router_name(pool)
    service = kubectl.get("service", name)["spec"]
    address = (service["clusterIP"], service["ports"][0]["port"])
    if _connects(*address):
        url = f"http://{address[0]}:{address[1]}"
        _await_answer(url)
        yield url
        return
    with _port_forward(kubectl, name, address[1]) as url:
        _await_answer(url)
        yield url


def _connects(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=2):
            return True
    except OSError:
        return False


def _await_answer(url: str) -> None:
    def answers() -> bool:
        try:
            return httpx.get(f"{url}/ready", timeout=2).status_code == 200
        except httpx.TransportError:
            return False

    wait_until(answers, f"{url}/ready does not answer 200", limit_s=30)


@contextmanager
def _port_forward(kubectl: Kubectl, service: str, port: int) -> Iterator[str]:
    place = [f"--kubeconfig={kubectl.kubeconfig}", f"--namespace={kubectl.namespace}"]
    command = [find_tool("kubectl"), *place, "port-forward", f"service/{service}", f":{port}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.search(r"127\.0\.0\.1:\d+", line)
            assert found is not None, f"kubectl port-forward says {line!r}"
            yield f"http://{found.group()}"
        finally:
            process.terminate()
