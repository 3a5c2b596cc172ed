"""LangChain and LlamaIndex, in an interpreter of their own, and an engine that calls tools."""

import json
import subprocess
from pathlib import Path
from typing import Any

from client_server import Received, Reply
from required_environment import read_required

TOOLED = "tooled"
"""The model that the programs offer tools to."""
_PROGRAMS = Path(__file__).parents[1] / "client" / "frameworks"


def call_tools(got: Received) -> Reply:
    """An engine that calls the first tool that it is offered."""
    name = got.body["tools"][0]["function"]["name"]
    call = {
        "id": "1",
        "type": "function",
        "function": {"name": name, "arguments": '{"city":"Ulm"}'},
    }
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    body = {"id": "1", "object": "chat.completion", "created": 1, "model": TOOLED}
    return Reply(body={**body, "choices": [choice]})


def run_program(program: str, url: str, home: Path) -> Any:
    """What a program says of the server at `url`, run by an interpreter that has the frameworks."""
    python = read_required(
        "SAGEPOOL_TEST_FRAMEWORKS", "needs LangChain and LlamaIndex: run `make test`"
    )
    done = subprocess.run(
        [python, str(_PROGRAMS / program), f"{url}/v1"],
        env={"HOME": str(home), "LANGSMITH_TRACING": "false", "NO_PROXY": "*"},
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
