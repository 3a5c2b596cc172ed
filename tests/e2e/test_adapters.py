"""LoRA adapters come to running engines and leave them, by the pool's spec alone."""

import json
from typing import Any, Final

import httpx

from e2e_endpoint import reach_router
from e2e_pool import CHAT_MODEL, Pool, build_chat_group, build_pool
from sagepool_crds import names

BOT: Final = {"name": "bot", "uri": "hf://acme/bot"}
LOST: Final = {"name": "lost", "uri": "/no/such/folder"}
CRASH: Final = """
import http.client, json
def post(path, body):
    engine = http.client.HTTPConnection("127.0.0.1", 8000, timeout=5)
    engine.request("POST", path, json.dumps(body))
    engine.getresponse()
post("/simulator/faults", {"kind": "crash"})
post("/v1/chat/completions", {"model": "bot", "messages": [{"role": "user", "content": "x"}]})
"""
LIST: Final = """
import urllib.request
print(urllib.request.urlopen("http://127.0.0.1:8000/v1/models", timeout=5).read().decode())
"""


def ask(client: httpx.Client, model: str) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
    return client.post("/v1/chat/completions", json=body)


def run_in(pool: Pool, engine: str, script: str, *, check: bool = True) -> str:
    command = ("exec", engine, "-c", "engine", "--", "python", "-c", script)
    return pool.kubectl.run(*command, check=check).stdout


def restarts_of(pool: Pool, engine: str) -> int:
    statuses = pool.engines("chat")[engine]["status"]["containerStatuses"]
    return next(int(s["restartCount"]) for s in statuses if s["name"] == "engine")


def loaded_on(pool: Pool) -> dict[str, list[str]]:
    """Adapters by instance, as status has them."""
    return {
        name: [a["name"] for a in one["status"].get("adapters", []) if a["phase"] == "Loaded"]
        for name, one in pool.instances().items()
    }


def set_adapters(pool: Pool, *adapters: dict[str, Any]) -> None:
    pool.change({"op": "add", "path": "/spec/groups/0/adapters", "value": list(adapters)})


def test_adapters_come_and_go_on_engines_that_stay(own_pool: Pool) -> None:
    pool = own_pool
    pool.apply(build_pool(build_chat_group(replicas=2, lora={})))
    pool.wait_ready()
    engines = sorted(pool.engines("chat"))
    with reach_router(pool.kubectl, pool.name) as url, httpx.Client(base_url=url) as client:
        unknown = ask(client, "bot")
        assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")

        set_adapters(pool, BOT)
        everywhere = {engine: ["bot"] for engine in engines}
        pool.wait(lambda: loaded_on(pool) == everywhere, "the adapter is not loaded")
        pool.wait(lambda: ask(client, "bot").status_code == 200, "the adapter is not routed to")
        parents = {m["id"]: m["parent"] for m in client.get("/v1/models").json()["data"]}
        assert parents["bot"] == CHAT_MODEL

        victim = engines[0]
        run_in(pool, victim, CRASH, check=False)
        pool.wait(lambda: restarts_of(pool, victim) == 1, "the engine is not started again")
        pool.wait_ready()
        pool.wait(lambda: loaded_on(pool) == everywhere, "the adapter is not loaded again")
        cards = json.loads(run_in(pool, victim, LIST))["data"]
        assert [card["root"] for card in cards if card["id"] == "bot"] == ["acme/bot"]
        assert [ask(client, "bot").status_code for _ in range(8)] == [200] * 8

        set_adapters(pool, BOT, LOST)
        pool.wait(
            lambda: pool.condition(names.ADAPTERS_LOADED)["reason"] == "AdapterLoadFailed",
            "nobody tells what cannot be loaded",
        )
        message = pool.condition(names.ADAPTERS_LOADED)["message"]
        assert "No adapter found for /no/such/folder" in message
        assert "correct its uri" in message
        pool.wait(lambda: ask(client, "lost").status_code == 404, "what has failed is a model")
        assert ask(client, "bot").status_code == 200

        set_adapters(pool)
        pool.wait(lambda: ask(client, "bot").status_code == 404, "the adapter is still routed to")
        pool.wait(lambda: '"bot"' not in run_in(pool, victim, LIST), "the adapter is not unloaded")
        assert ask(client, CHAT_MODEL).status_code == 200
    assert sorted(pool.engines("chat")) == engines
