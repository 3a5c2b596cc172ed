"""Where a request goes, and what it is called in messages. Pure."""

from urllib.parse import quote

from sagepool_kube.api import Kind


def build_selectors(label_selector: str, field_selector: str) -> dict[str, str]:
    """The query that asks for a part of a list."""
    chosen = {"labelSelector": label_selector, "fieldSelector": field_selector}
    return {key: value for key, value in chosen.items() if value}


def build_path(
    kind: Kind, namespace: str | None, name: str = "", subresource: str | None = None
) -> str:
    """The path of an object; without a name, of all objects of its kind."""
    parts = [f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"]
    if kind.namespaced and namespace is not None:
        parts += ["namespaces", quote(namespace, safe="")]
    parts.append(kind.plural)
    if name:
        parts.append(quote(name, safe=""))
    if subresource:
        parts.append(subresource)
    return "/".join(parts)


def describe(
    verb: str, kind: Kind, namespace: str | None, name: str = "", subresource: str | None = None
) -> str:
    """For messages: `apply deployments.apps team-a/rag-chat`, `list pods in all namespaces`."""
    resource = f"{kind.resource}/{subresource}" if subresource else kind.resource
    if name:
        return f"{verb} {resource} {namespace}/{name}" if namespace else f"{verb} {resource} {name}"
    where = f" in {namespace}" if namespace else " in all namespaces" if kind.namespaced else ""
    return f"{verb} {resource}{where}"
