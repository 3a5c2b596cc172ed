"""What happened, as tables and sentences. Pure."""

from collections.abc import Sequence
from pathlib import Path

from sagepool_demo.events import Finished, KindFigures


def format_table(rows: Sequence[Sequence[str]]) -> str:
    """Rows in columns: the first column to the left, all others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("   ".join(cells).rstrip())
    return "\n".join(lines)


def format_figures(finished: Finished) -> str:
    """The requests by kind."""
    head = ["", "requests", "failures", "p50", "p99", "first token p50", "p99"]
    return format_table([head, *(_figures_row(kind) for kind in finished.kinds)])


def format_answered(finished: Finished) -> str:
    """The requests by the instance that answered."""
    kinds = [kind.kind for kind in finished.kinds]
    rows = [
        [name or "(not said)", *(str(counts.get(kind, "-")) for kind in kinds)]
        for name, counts in finished.answered.items()
    ]
    return format_table([["answered by", *kinds], *rows])


def _figures_row(kind: KindFigures) -> list[str]:
    times = (kind.p50_s, kind.p99_s, kind.first_token_p50_s, kind.first_token_p99_s)
    return [kind.kind, str(kind.requests), str(kind.failures), *map(_milliseconds, times)]


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.0f} ms"


def format_next_steps(kubeconfig: Path, tools: Path, namespace: str, pool: str, model: str) -> str:
    """How to go on by hand, and how to take everything down."""
    return f"""\
Go on by hand:
  export KUBECONFIG={kubeconfig} PATH={tools}:$PATH
  kubectl -n {namespace} get spool,sinst
  kubectl -n {namespace} describe spool {pool}
  kubectl -n {namespace} edit spool {pool}              # replicas, models, suspend: true
  kubectl -n {namespace} port-forward service/{pool}-router 8000:80 &
  curl http://127.0.0.1:8000/v1/chat/completions -H 'content-type: application/json' \\
    -d '{{"model": "{model}", "stream": true, "messages": [{{"role": "user", "content": "hi"}}]}}'
Take it down:
  make demo-down       # the pool, the operator and their namespaces
  make cluster-down    # the cluster too, if it was made here"""
