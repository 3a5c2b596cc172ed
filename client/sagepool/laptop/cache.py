"""What a Hugging Face cache holds of a model; an interrupted download leaves a part of it."""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_NUMBERED: Final = re.compile(r"(.+)[-_.]\d+-of-(\d+)\.\w+")
"""One file of several, and how many there are."""
_WEIGHTS: Final = re.compile(r".+\.(safetensors|gguf)|(pytorch_|adapter_)?model.*\.bin")
"""Not every .bin holds weights: those of a training's state do not."""


def find_snapshot(
    repository: str, revision: str | None, file: str, cache: Path | None
) -> Path | None:
    """The folder in the cache with what was fetched of a model, when `file` was.

    Args:
        repository: OWNER/NAME.
        revision: which; None: the main one.
        file: by which it is known.
        cache: the cache's folder; None: this user's.

    Raises:
        HFValidationError: `repository` cannot be a name.
    """
    import huggingface_hub

    found = huggingface_hub.try_to_load_from_cache(
        repository, file, revision=revision, cache_dir=cache
    )
    return Path(found).parent if isinstance(found, str) else None


def has_weights(snapshot: Path) -> bool:
    """Whether all files of a model's or an adapter's weights are in the folder."""
    return are_weights_whole(path.name for path in snapshot.iterdir() if path.is_file())


def are_weights_whole(files: Iterable[str]) -> bool:
    """Whether these names are those of all of a model's weights, in whichever form. Pure."""
    weights = [file for file in files if _WEIGHTS.fullmatch(file)]
    numbered = [match for file in weights if (match := _NUMBERED.fullmatch(file))]
    if not numbered:
        return bool(weights)
    found = Counter((match[1], int(match[2]), Path(match[0]).suffix) for match in numbered)
    return any(count >= wanted for (_, wanted, _), count in found.items())
