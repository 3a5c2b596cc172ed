"""What `sage pool apply --dry-run` tells where others have set fields, by a scripted API server."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from crd_objects import pool_object
from kube_stub import KubeStub
from sage_command import Ended, Sage

CONFLICT = (
    'Apply failed with 2 conflicts: conflicts with "sage" using sagepool.dev/v1alpha1:\n'
    "- .spec.source\n- .spec.suspend"
)


async def held(request: web.Request) -> web.StreamResponse:
    """As an API server whose pool has `source` from somebody else."""
    if request.method == "GET":
        return web.json_response(pool_object(source="cloud"))
    if request.query["force"] == "false":
        status = {"kind": "Status", "code": 409, "reason": "Conflict", "message": CONFLICT}
        return web.json_response(status, status=409)
    return web.json_response(pool_object(source="local"))


@pytest.fixture
async def stub() -> AsyncIterator[KubeStub]:
    async with KubeStub(held).running() as running:
        yield running


async def apply(sage: Sage, stub: KubeStub, folder: Path, *words: str) -> Ended:
    wanted: dict[str, Any] = pool_object(source="local")
    (folder / "pool.yaml").write_text(yaml.safe_dump(wanted))
    config = stub.kubeconfig(folder / "kubeconfig")
    command = ("pool", "apply", f"-f{folder / 'pool.yaml'}", f"--kubeconfig={config}", *words)
    return await asyncio.to_thread(sage.run, *command)


async def test_the_difference_and_the_fields_that_others_have_set_are_told(
    sage: Sage, stub: KubeStub, tmp_path: Path
) -> None:
    ended = await apply(sage, stub, tmp_path, "--dry-run")
    changed = [line for line in ended.out.splitlines() if line[:2] in ("- ", "+ ")]
    assert (ended.code, changed) == (0, ["-  source: cloud", "+  source: local"])
    assert ended.err.startswith("sage: without --force this would be refused: ")
    assert "- .spec.source - .spec.suspend" in ended.err
    assert ended.err.count("\n") == 1
    writes = [request for request in stub.requests if request.method != "GET"]
    assert {request.query.get("dryRun") for request in writes} == {"All"}


async def test_with_force_a_dry_run_warns_of_nothing(
    sage: Sage, stub: KubeStub, tmp_path: Path
) -> None:
    ended = await apply(sage, stub, tmp_path, "--dry-run", "--force")
    assert (ended.code, ended.err) == (0, "")
    assert "+  source: local\n" in ended.out


async def test_a_real_apply_is_refused_in_one_line(
    sage: Sage, stub: KubeStub, tmp_path: Path
) -> None:
    ended = await apply(sage, stub, tmp_path)
    assert (ended.code, ended.out) == (1, "")
    assert "--force takes the fields over" in ended.err
    assert ended.err.count("\n") == 1
