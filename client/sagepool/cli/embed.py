"""`sage embed`: texts to vectors, as JSON lines."""

import contextlib
import json
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from sagepool.cli.cluster import KubeconfigOption, NamespaceOption
from sagepool.cli.servers import ApiKey, BaseUrl, ClusterPool, open_client
from sagepool.cli.texts import decode
from sagepool.cli.values import not_empty
from sagepool.laptop.errors import NothingFound, WrongUse

_IN_FLIGHT: Final = 4
"""Calls at a time: the pool merges and spreads them."""
_STANDARD_INPUT: Final = "-"


@dataclass(frozen=True, slots=True)
class Item:
    """One text and what goes with it into the output."""

    text: str
    fields: dict[str, Any]


def embed(
    files: Annotated[
        list[str] | None,
        typer.Argument(help="Files with a text a line; - or none: standard input."),
    ] = None,
    model: Annotated[str, typer.Option("--model", "-m", help="The first when left out.")] = "",
    batch: Annotated[int, typer.Option(min=1, max=2048, help="Texts in a call.")] = 32,
    with_text: Annotated[bool, typer.Option(help="Write the text beside its vector.")] = True,
    base_url: BaseUrl = "",
    api_key: ApiKey = "",
    pool: ClusterPool = "",
    namespace: NamespaceOption = "",
    kubeconfig: KubeconfigOption = "",
) -> None:
    """Embed texts: a JSON line each, in their order.

    A line of a .jsonl file is a JSON text, or an object whose `text` is embedded and whose other
    fields are written too. Empty lines are left out. The server is found as for `sage chat`.
    """
    paths = [Path(not_empty(name)) for name in files or (_STANDARD_INPUT,)]
    for path in paths:
        _check(path)
    items = _items(paths)
    with (
        open_client(base_url, api_key, pool, namespace, kubeconfig, "embedding") as client,
        _progress(paths) as advance,
    ):
        for item, vector in _embedded(
            lambda texts: client.embed(texts, model=model or None), items, batch
        ):
            shown = {"text": item.text} if with_text else {}
            line = {**item.fields, **shown, "embedding": vector}
            print(json.dumps(line, ensure_ascii=False))
            advance()


def _embedded(
    embed_texts: Callable[[list[str]], list[list[float]]], items: Iterator[Item], batch: int
) -> Iterator[tuple[Item, list[float]]]:
    """Each item with its vector, in order; some calls run ahead."""
    waiting: deque[tuple[list[Item], Future[list[list[float]]]]] = deque()
    threads = ThreadPoolExecutor(_IN_FLIGHT)
    try:
        while True:
            while len(waiting) < _IN_FLIGHT and (part := list(islice(items, batch))):
                texts = [item.text for item in part]
                waiting.append((part, threads.submit(embed_texts, texts)))
            if not waiting:
                return
            part, answer = waiting.popleft()
            yield from zip(part, answer.result(), strict=True)
    finally:
        # Who interrupts it does not wait for calls under way, which may take minutes.
        threads.shutdown(wait=False, cancel_futures=True)


def _check(path: Path) -> None:
    """Raises NothingFound or WrongUse if it cannot be read; a pipe such as <(...) can."""
    if str(path) == _STANDARD_INPUT:
        return
    if not path.exists():
        raise NothingFound(f"there is no file {path}")
    if path.is_dir():
        raise WrongUse(f"{path} is a folder: name its files")
    if not os.access(path, os.R_OK):
        raise WrongUse(f"{path} cannot be read: you lack the permission")


def _items(paths: Iterable[Path]) -> Iterator[Item]:
    """The texts of the files and of standard input."""
    numbers = count()
    for path in paths:
        if str(path) == _STANDARD_INPUT:
            for place, line in _lines(sys.stdin.buffer, "standard input"):
                yield _plain_item(line, next(numbers), place)
            continue
        read = _json_item if path.suffix == ".jsonl" else _plain_item
        with path.open("rb") as file:
            for place, line in _lines(file, str(path)):
                yield read(line, next(numbers), place)


def _lines(file: Iterable[bytes], origin: str) -> Iterator[tuple[str, str]]:
    """Lines that are not empty, and where they stand."""
    for number, raw in enumerate(file, 1):
        place = f"{origin} line {number}"
        if raw.strip():
            yield place, decode(raw, place)


def _plain_item(line: str, number: int, _place: str) -> Item:
    return Item(line.rstrip("\r\n"), {"index": number})


def _json_item(line: str, number: int, place: str) -> Item:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise WrongUse(f"{place} is not JSON: {error}") from None
    if isinstance(value, str):
        return Item(value, {"index": number})
    text = value.get("text") if isinstance(value, dict) else None
    if not isinstance(text, str) or not text.strip():
        raise WrongUse(f"{place} is no text: write a JSON text, or an object with a field text")
    others = {key: field for key, field in value.items() if key != "text"}
    return Item(text, {"index": number, **others})


@contextlib.contextmanager
def _progress(paths: list[Path]) -> Iterator[Callable[[], None]]:
    """A bar on standard error while a person looks at it and the vectors go elsewhere."""
    if not sys.stderr.isatty() or sys.stdout.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    # What is no file can be read once only.
    is_known = all(path.is_file() and str(path) != _STANDARD_INPUT for path in paths)
    total = sum(1 for _ in _items(paths)) if is_known else None
    shown = Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        redirect_stdout=False,  # else the vectors would be drawn above the bar
    )
    with shown:
        task = shown.add_task("texts", total=total)
        yield lambda: shown.advance(task)
