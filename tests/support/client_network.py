"""Runs a client in a network of its own: real servers on the ports where clients look for them.

As a program (`python client_network.py JSON`) it is inside that network: it starts the servers,
lets `create_auto` find them, uses what was found and prints what became of it.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from client_pool import running_pool, running_simulator
from client_server import Reply, error_reply, scripted

_SETUP = """
set -e
TMP=$(mktemp -d)
export TMP
trap 'umount /etc/hosts; rm -r "$TMP"' EXIT
echo "$HOSTS" >"$TMP/hosts"
mount --bind "$TMP/hosts" /etc/hosts
ip link set lo up
"$@"
"""
WEB: Mapping[str, Reply] = {
    "page": Reply(body=b"<html>It works!</html>", headers={"content-type": "text/html"}),
    "mute": Reply(is_silent=True),
    "proxy": error_reply(407, "who are you?"),
    "healthy": Reply(body={"status": "ok"}),
}


def run_in_a_network(
    *,
    simulators: Mapping[int, Sequence[str]] | None = None,
    web: Mapping[int, str] | None = None,
    router: int | None = None,
    environ: Mapping[str, str] | None = None,
    hosts: Sequence[str] = (),
) -> Any:
    """Detect and use servers in a new network namespace; needs root.

    Args:
        simulators: models by port.
        web: other servers by port, each a name of WEB.
        router: port of a router over a chat and an embedding engine.
        environ: variables for the client, besides none of ours.
        hosts: names of this machine.

    Returns:
        What the program printed.
    """
    plan = {"simulators": simulators or {}, "web": web or {}, "router": router}
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SAGE", "KUBERNETES_", "DASHSCOPE_"))
        and "PROXY" not in name.upper()
    }
    names = f"127.0.0.1 localhost {' '.join(hosts)}"
    command = [sys.executable, str(Path(__file__)), json.dumps(plan)]
    done = subprocess.run(
        ["unshare", "--net", "--mount", "sh", "-c", _SETUP, "sh", *command],
        env={**clean, "HOSTS": names, "PYTHONPATH": str(Path(__file__).parent), **(environ or {})},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _use() -> dict[str, Any]:
    import sagepool

    began = time.monotonic()
    try:
        client = sagepool.UnifiedInferenceClient.create_auto()
    except sagepool.SagepoolError as error:
        return {"error": str(error), "seconds": time.monotonic() - began}
    seconds = time.monotonic() - began
    with client:
        detection = client.detection
        used: dict[str, Any] = {"explanation": client.explain(), "seconds": seconds}
        if detection is not None and detection.llm is not None:
            result = client.chat("hi", max_tokens=3, return_result=True)
            used["llm"] = [detection.llm.base_url, result.model, len(result.content.split())]
        if detection is not None and detection.embedding is not None:
            vectors = client.embed("hi", return_result=True)
            used["embedding"] = [detection.embedding.base_url, vectors.model, len(vectors.content)]
        return used


def _main(plan: Mapping[str, Any]) -> None:
    with contextlib.ExitStack() as stack:
        scripts = {
            int(port): stack.enter_context(scripted(WEB[name], models=WEB[name], port=int(port)))
            for port, name in plan["web"].items()
        }
        folder = Path(os.environ["TMP"])
        for port, models in plan["simulators"].items():
            stack.enter_context(running_simulator(folder, *models, port=int(port)))
        if plan["router"] is not None:
            stack.enter_context(running_pool(folder, port=plan["router"]))
        used = _use()
        used["asked"] = {p: s.listings + len(s.received) for p, s in scripts.items()}
    print(json.dumps(used))


if __name__ == "__main__":
    _main(json.loads(sys.argv[1]))
