"""Whether an engine will find its model: in this user's cache, or on the hub."""

from collections.abc import Callable
from typing import Final

from sagepool.laptop.errors import WrongUse

ADAPTER_CONFIG: Final = "adapter_config.json"
"""The file by which a folder is known as a LoRA adapter's."""
_HUB_LIMIT_S: Final = 10.0


def check_model(repository: str, revision: str | None, wanted_by: str) -> None:
    """See that a model is cached or can be downloaded.

    Raises:
        WrongUse: the hub does not have it or does not give it, or cannot be reached.
    """
    import huggingface_hub
    from huggingface_hub import errors

    if isinstance(
        huggingface_hub.try_to_load_from_cache(repository, "config.json", revision=revision), str
    ):
        return
    what = f"{wanted_by}: model {repository}" + (f" at {revision}" if revision else "")
    try:
        huggingface_hub.HfApi().model_info(repository, revision=revision, timeout=_HUB_LIMIT_S)
    except errors.GatedRepoError as error:
        raise WrongUse(
            f"{what} is gated: accept its licence on the hub and set HF_TOKEN"
        ) from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise WrongUse(
            f"{what} is not on the hub, or not for you: correct its name, or set HF_TOKEN"
        ) from error
    except Exception as error:  # each version of the hub's client has network errors of its own
        raise WrongUse(
            f"{what} is not in the cache, and the hub cannot be reached: connect, or download it "
            f"where you are connected and copy the cache ({type(error).__name__})"
        ) from error


ModelCheck = Callable[[str, str | None, str], None]
"""Repository, revision, who wants it."""
