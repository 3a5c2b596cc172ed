"""KubeApi over the official client's connection: its authentication and TLS, plain JSON objects.

The typed models of the official client are not used: they cost memory, and fields that they do
not know are lost.
"""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.client.rest import RESTResponse

from sagepool_crds import names
from sagepool_kube.api import JOBS, Kind, Object, ObjectList, WatchEvent
from sagepool_kube.errors import Gone, Invalid, KubeError, Unavailable, error_of_status
from sagepool_kube.paths import build_path, build_selectors, describe

_PAGE_SIZE: Final = 500
_JSON: Final = "application/json"
_JSON_PATCH: Final = "application/json-patch+json"
_APPLY: Final = "application/apply-patch+yaml"
_RESTARTS_OF_A_LIST: Final = 3


class KubeClient:
    """The API server, over HTTP. Implements `sagepool_kube.api.KubeApi`.

    Make it inside a running event loop and close it there (or use `async with`).
    """

    def __init__(
        self,
        configuration: Configuration,
        *,
        user_agent: str = "sagepool",
        timeout_s: float = 15.0,
        connect_timeout_s: float = 5.0,
        page_size: int = _PAGE_SIZE,
    ) -> None:
        """Take a configuration of `sagepool_kube.auth.load_configuration`.

        Args:
            configuration: where the server is, and the credentials.
            user_agent: how the server's audit log names us.
            timeout_s: limit of one request, its answer included; a watch has its own.
            connect_timeout_s: limit of reaching the server, for watches too.
            page_size: objects in one page of a list.
        """
        self.configuration = configuration
        self._api = ApiClient(configuration)
        self._api.user_agent = user_agent
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, connect=connect_timeout_s)
        self._connect_timeout_s = connect_timeout_s
        self._page_size = page_size

    async def __aenter__(self) -> Self:
        """Return itself; `__aexit__` closes all connections."""
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close all connections."""
        await self.close()

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Object:
        """Read one object. Raises NotFound, and Invalid without a name."""
        return await self._call("GET", "get", kind, namespace, _named("get", name))

    async def list(
        self,
        kind: Kind,
        namespace: str | None,
        *,
        label_selector: str = "",
        field_selector: str = "",
    ) -> ObjectList:
        """Read all objects that match, in pages; each item says its apiVersion and kind.

        Pages belong to one version of the world. When the server forgets that version between two
        pages, the list starts again; when that keeps happening, Gone is raised.
        """
        query = build_selectors(label_selector, field_selector)
        for _ in range(_RESTARTS_OF_A_LIST - 1):
            try:
                return await self._list_pages(kind, namespace, query)
            except Gone:
                continue
        return await self._list_pages(kind, namespace, query)

    async def _list_pages(
        self, kind: Kind, namespace: str | None, query: Mapping[str, str]
    ) -> ObjectList:
        items: list[Object] = []
        token = ""
        while True:
            page = {**query, "limit": str(self._page_size)}
            if token:
                page["continue"] = token
            answer = await self._call("GET", "list", kind, namespace, query=page)
            # The items of a list of a built-in kind do not say what they are.
            items += (_typed(kind, item) for item in answer.get("items") or ())
            meta = answer.get("metadata", {})
            token = meta.get("continue", "")
            if not token:
                return ObjectList(tuple(items), meta.get("resourceVersion", ""))

    async def watch(
        self,
        kind: Kind,
        namespace: str | None,
        *,
        resource_version: str,
        label_selector: str = "",
        field_selector: str = "",
        timeout_s: float = 300.0,
        inactivity_s: float = 90.0,
    ) -> AsyncGenerator[WatchEvent, None]:
        """Yield changes after `resource_version`; see `KubeApi.watch`."""
        call = describe("watch", kind, namespace)
        query = {
            **build_selectors(label_selector, field_selector),
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(max(1, round(timeout_s))),
        }
        limits = aiohttp.ClientTimeout(
            total=None, connect=self._connect_timeout_s, sock_read=inactivity_s
        )
        answer = await self._send("GET", call, build_path(kind, namespace), query, timeout=limits)
        try:
            if answer.status != 200:
                raise _refusal(call, answer, await _read(call, answer))
            yield WatchEvent(
                "BOOKMARK",
                {
                    "apiVersion": kind.api_version,
                    "kind": kind.kind,
                    "metadata": {"resourceVersion": resource_version},
                },
            )
            async with aclosing(_lines(call, answer)) as lines:
                async for line in lines:
                    yield _event(call, line)
        finally:
            # Closed, not given back to the pool: the server may still be sending.
            answer.response.close()

    async def create(self, kind: Kind, namespace: str | None, obj: Object) -> Object:
        """Create with strict field validation. Raises AlreadyExists, Invalid."""
        meta = obj.get("metadata", {})
        name = meta.get("name") or meta.get("generateName", "")
        return await self._call(
            "POST",
            "create",
            kind,
            namespace,
            described_as=name,
            query={"fieldManager": names.FIELD_MANAGER, "fieldValidation": "Strict"},
            body=_typed(kind, obj),
        )

    async def apply(
        self,
        kind: Kind,
        namespace: str | None,
        obj: Object,
        *,
        field_manager: str = names.FIELD_MANAGER,
        subresource: str | None = None,
        force: bool = True,
        dry_run: bool = False,
    ) -> Object:
        """Server-side apply; see `KubeApi.apply`."""
        return await self._call(
            "PATCH",
            "apply",
            kind,
            namespace,
            _name_of(obj),
            subresource=subresource,
            query={
                "fieldManager": field_manager,
                "fieldValidation": "Strict",
                "force": "true" if force else "false",
                **({"dryRun": "All"} if dry_run else {}),
            },
            body=_typed(kind, obj),
            content_type=_APPLY,
        )

    async def patch(
        self,
        kind: Kind,
        namespace: str | None,
        name: str,
        operations: Sequence[Mapping[str, Any]],
        *,
        field_manager: str = names.FIELD_MANAGER,
    ) -> Object:
        """Change fields by JSON Patch; see `KubeApi.patch`."""
        return await self._call(
            "PATCH",
            "patch",
            kind,
            namespace,
            _named("patch", name),
            query={"fieldManager": field_manager, "fieldValidation": "Strict"},
            body=operations,
            content_type=_JSON_PATCH,
        )

    async def delete(
        self, kind: Kind, namespace: str | None, name: str, *, uid: str | None = None
    ) -> None:
        """Delete it, and what it owns after it; a Job after its pods, so that none runs any more.
        `uid` guards against a namesake. Raises NotFound, Conflict, and Invalid without a name."""
        options: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Foreground" if kind == JOBS else "Background",
        }
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        await self._call("DELETE", "delete", kind, namespace, _named("delete", name), body=options)

    async def close(self) -> None:
        """Close all connections."""
        await self._api.close()  # type: ignore[no-untyped-call]  # not typed

    async def _call(
        self,
        method: str,
        verb: str,
        kind: Kind,
        namespace: str | None,
        name: str = "",
        *,
        described_as: str = "",
        subresource: str | None = None,
        query: Mapping[str, str] | None = None,
        body: Object | Sequence[Object] | None = None,
        content_type: str = _JSON,
    ) -> dict[str, Any]:
        """One request with a JSON answer. Raises KubeError only."""
        call = describe(verb, kind, namespace, name or described_as, subresource)
        path = build_path(kind, namespace, name, subresource)
        answer = await self._send(
            method, call, path, query or {}, body=body, content_type=content_type
        )
        data = await _read(call, answer)
        if not 200 <= answer.status < 300:
            raise _refusal(call, answer, data)
        return _object(call, data)

    async def _send(
        self,
        method: str,
        call: str,
        path: str,
        query: Mapping[str, str],
        *,
        body: Object | Sequence[Object] | None = None,
        content_type: str = _JSON,
        timeout: aiohttp.ClientTimeout | None = None,
    ) -> RESTResponse:
        try:
            request = await self._api.param_serialize(
                method,
                path,
                query_params=list(query.items()),
                header_params={"Accept": _JSON, "Content-Type": content_type},
                body=body,
                auth_settings=["BearerToken"],
            )
            return await self._api.call_api(*request, _request_timeout=timeout or self._timeout)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable(f"{call}: {_words(error)}") from error


def _typed(kind: Kind, obj: Object) -> Object:
    """The object, saying what it is."""
    return {"apiVersion": kind.api_version, "kind": kind.kind, **obj}


def _name_of(obj: Object) -> str:
    return _named("apply", str(obj.get("metadata", {}).get("name", "")))


def _named(verb: str, name: str) -> str:
    """The name, which a path must have: without one it would mean all objects of the kind."""
    if not name:
        raise Invalid(f"{verb}: the object has no name (metadata.name)")
    return name


async def _read(call: str, answer: RESTResponse) -> bytes:
    try:
        data: bytes = await answer.read()  # type: ignore[no-untyped-call]  # not typed
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise Unavailable(f"{call}: the answer broke off: {_words(error)}") from error
    return data


async def _lines(call: str, answer: RESTResponse) -> AsyncGenerator[bytes, None]:
    """The lines of a stream of any length; a last line without an end is dropped.

    aiohttp's own readline refuses lines above its buffer's size.
    """
    chunks: AsyncIterator[bytes] = answer.response.content.iter_any()
    pending: list[bytes] = []
    try:
        async for chunk in chunks:
            first, *others = chunk.split(b"\n")
            pending.append(first)
            for part in others:
                line = b"".join(pending)
                pending = [part]
                if line:
                    yield line
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise Unavailable(f"{call}: the watch broke off: {_words(error)}") from error


def _event(call: str, line: bytes) -> WatchEvent:
    data = _object(call, line)
    kind, obj = data.get("type"), data.get("object")
    if not isinstance(obj, dict):
        raise Unavailable(f"{call}: the server sent an event without an object")
    if kind == "ERROR":
        raise error_of_status(
            call, int(obj.get("code") or 500), obj.get("reason", ""), obj.get("message", "")
        )
    if kind not in ("ADDED", "MODIFIED", "DELETED", "BOOKMARK"):
        raise Unavailable(f"{call}: the server sent an event of the unknown type {kind!r}")
    return WatchEvent(kind, obj)


def _object(call: str, data: bytes) -> dict[str, Any]:
    try:
        obj = json.loads(data)
    except ValueError as error:
        raise Unavailable(f"{call}: the answer is no JSON: {error}") from error
    if not isinstance(obj, dict):
        raise Unavailable(f"{call}: the answer is no JSON object")
    return obj


def _refusal(call: str, answer: RESTResponse, data: bytes) -> KubeError:
    """The error of an answer that is no success; a proxy's page may come in a Status' place."""
    wait = answer.response.headers.get("Retry-After", "")
    try:
        status = json.loads(data)
    except ValueError:
        status = None
    if not isinstance(status, dict):
        text = data[:300].decode(errors="replace").strip()
        return error_of_status(call, answer.status, "", text, wait)
    reason, message = status.get("reason", ""), status.get("message", "")
    return error_of_status(call, answer.status, reason, message, wait)


def _words(error: BaseException) -> str:
    """What went wrong, in words; several exceptions have an empty message."""
    if isinstance(error, TimeoutError):
        return str(error) or "no answer in time"
    return str(error) or type(error).__name__
