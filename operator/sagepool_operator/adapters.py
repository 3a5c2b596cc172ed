"""Which LoRA adapters engines should have, and what keeps them from it. Pure.

An engine that lacks an adapter serves everything else: adapters decide nothing about whether it
is ready, only about which requests it is sent.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from sagepool_crds.lora import Adapter, AdapterStatus
from sagepool_crds.pool import InferencePool
from sagepool_operator.engines.container import HUB_SCHEME
from sagepool_operator.instance_conditions import AdapterVerdict, Judgement
from sagepool_operator.plan import AdapterTarget, Target
from sagepool_operator.pods import PodFacts
from sagepool_operator.reports import AdapterReport
from sagepool_operator.status import JudgedInstance

ADAPTERS_FAILED: Final = "AdapterLoadFailed"
ADAPTERS_LOADING: Final = "AdaptersLoading"
_ADVICE: Final = (
    (
        "No adapter found",
        "correct its uri: a path has to be a folder with adapter_config.json in the engine's "
        "container; for hf:// check the name, model.tokenSecret, and that pods reach the hub",
    ),
    ("max_lora_rank", "raise lora.maxRank of its group to the adapter's rank or above"),
    (
        "the engine answers 404 to /v1/",
        "the engine takes no adapters while it runs: check engine.image and engine.args of its "
        "group",
    ),
)
"""Part of what an engine says, and the next step."""
_LAST_ADVICE: Final = "the engine's log may say more; it is tried again"


def adapters_of(pool: InferencePool | None, pod: PodFacts) -> tuple[Adapter, ...]:
    """The adapters that the engine of a pod should have."""
    groups = pool.spec.groups if pool is not None else ()
    return tuple(a for g in groups if g.name == pod.group for a in g.adapters)


def target_of(pool: InferencePool | None, pod: PodFacts, engine: Target) -> AdapterTarget | None:
    """What to see to on the engine of a pod that has room; None while it has no address."""
    url = next((e.url for e in engine.endpoints if e.role == "llm"), None)
    if url is None:
        return None
    wanted = tuple((a.name, a.uri.removeprefix(HUB_SCHEME)) for a in adapters_of(pool, pod))
    return AdapterTarget(engine.key, engine.engine, url.rstrip("/"), wanted)


def judge_engine(
    pool: InferencePool | None,
    pod: PodFacts,
    report: AdapterReport | None,
    before: Sequence[AdapterStatus],
) -> AdapterVerdict | None:
    """The adapters of an engine that answers; None where there is nothing to say of any.

    What was known `before` stands until the engine has been asked, and what has failed until it
    has been tried again: another adapter on the list, or another operator, takes none out of use.
    """
    wanted = adapters_of(pool, pod)
    if not wanted and (report is None or not report.errors):
        return None
    known = {status.name: status for status in before}
    statuses = [_describe(adapter, report, known.get(adapter.name)) for adapter in wanted]
    problems = [f"{s.name}: {s.message}" for s in statuses if s.message]
    if report is not None:
        names = {adapter.name for adapter in wanted}
        problems += [
            f"{name} cannot be unloaded: {_explain(words)}"
            for name, words in report.errors
            if name not in names
        ]
    return AdapterVerdict(tuple(statuses), _judge(statuses, problems))


def _judge(statuses: Sequence[AdapterStatus], problems: Sequence[str]) -> Judgement:
    if problems:
        return Judgement(False, ADAPTERS_FAILED, "; ".join(problems))
    loading = [status.name for status in statuses if status.phase != "Loaded"]
    if loading:
        return Judgement(None, ADAPTERS_LOADING, f"loading {', '.join(loading)}")
    count = len(statuses)
    return Judgement(True, "AdaptersLoaded", f"{count} of {count} are loaded")


def judge_pool(pool: InferencePool, judged: Sequence[JudgedInstance]) -> Judgement | None:
    """Whether every engine that answers has its adapters; None where no group has any."""
    groups = {group.name for group in pool.spec.groups if group.adapters}
    if not groups:
        return None
    told = [one.verdict.adapters for one in judged if one.group in groups]
    found = [verdict.judgement for verdict in told if verdict is not None]
    failed = [judgement.message for judgement in found if judgement.is_true is False]
    if failed:
        return Judgement(False, ADAPTERS_FAILED, "; ".join(_count(failed, len(found))))
    loading = [judgement.message for judgement in found if judgement.is_true is None]
    if loading:
        return Judgement(None, ADAPTERS_LOADING, "; ".join(_count(loading, len(found))))
    if not found:
        return Judgement(None, "NoEngine", "no engine answers yet that could load adapters")
    return Judgement(True, "AdaptersLoaded", f"{len(found)} of {len(found)} engines have theirs")


def _count(messages: Sequence[str], engines: int) -> Iterator[str]:
    for message, count in Counter(messages).items():
        yield f"{message} ({count} of {engines} engines)"


def _describe(
    adapter: Adapter, report: AdapterReport | None, known: AdapterStatus | None
) -> AdapterStatus:
    name, uri = adapter.name, adapter.uri
    words = dict(report.errors).get(name, "") if report is not None else ""
    if report is not None and name in report.loaded:
        # What is there answers on: the weights that should take its place do not load.
        message = f"former weights are in use: {_explain(words)}" if words else ""
        return AdapterStatus(name=name, uri=uri, phase="Loaded", message=message)
    if words:
        return AdapterStatus(name=name, uri=uri, phase="Failed", message=_explain(words))
    if known is not None and (
        (known.phase == "Loaded" and report is None)
        or (known.phase == "Failed" and known.uri == uri)
    ):
        return known
    return AdapterStatus(name=name, uri=uri, phase="Loading")


def _explain(words: str) -> str:
    advice = next((advice for part, advice in _ADVICE if part in words), _LAST_ADVICE)
    return f"{words.rstrip('. ')}: {advice}"
