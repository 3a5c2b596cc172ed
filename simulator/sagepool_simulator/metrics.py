"""The metrics page, with vLLM's names and labels."""

from typing import Final

_BOUNDS: Final = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
)  # fmt: skip


class Histogram:
    """Counts by upper bound, as Prometheus wants them."""

    __slots__ = ("_counts", "_sum")

    def __init__(self) -> None:
        self._counts = [0] * (len(_BOUNDS) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self._sum += value
        for index, bound in enumerate(_BOUNDS):
            if value <= bound:
                self._counts[index] += 1
                return
        self._counts[-1] += 1

    def render(self, name: str, labels: str) -> list[str]:
        """Its lines."""
        lines = [f"# TYPE {name} histogram"]
        total = 0
        for bound, count in zip((*map(str, _BOUNDS), "+Inf"), self._counts, strict=True):
            total += count
            lines.append(f'{name}_bucket{{{labels},le="{bound}"}} {total}')
        lines += [f"{name}_sum{{{labels}}} {self._sum}", f"{name}_count{{{labels}}} {total}"]
        return lines


class Metrics:
    """Plain counters; the page is made when it is asked for."""

    def __init__(self) -> None:
        self.prompt_tokens = 0
        self.generation_tokens = 0
        self.finished: dict[str, int] = {"stop": 0, "length": 0, "abort": 0}
        self.first_token_seconds = Histogram()
        self.request_seconds = Histogram()

    def render(
        self, model: str, *, running: int, waiting: int, usage: float, queried: int, hits: int
    ) -> str:
        """The page."""
        name_label = model.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
        labels = f'engine="0",model_name="{name_label}"'
        simple = (
            ("vllm:num_requests_running", "gauge", running),
            ("vllm:num_requests_waiting", "gauge", waiting),
            ("vllm:kv_cache_usage_perc", "gauge", usage),
            ("vllm:prefix_cache_queries_total", "counter", queried),
            ("vllm:prefix_cache_hits_total", "counter", hits),
            ("vllm:prompt_tokens_total", "counter", self.prompt_tokens),
            ("vllm:generation_tokens_total", "counter", self.generation_tokens),
        )
        lines = []
        for name, kind, value in simple:
            lines += [f"# TYPE {name} {kind}", f"{name}{{{labels}}} {value}"]
        lines.append("# TYPE vllm:request_success_total counter")
        lines += [
            f'vllm:request_success_total{{{labels},finished_reason="{reason}"}} {count}'
            for reason, count in self.finished.items()
        ]
        lines += self.first_token_seconds.render("vllm:time_to_first_token_seconds", labels)
        lines += self.request_seconds.render("vllm:e2e_request_latency_seconds", labels)
        return "\n".join(lines) + "\n"
