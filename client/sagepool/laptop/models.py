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
        WrongUse: the name cannot be one, or the hub does not have it, does not give it or cannot be
            reached.
    """
    import huggingface_hub
    from huggingface_hub import errors

    what = f"{wanted_by}: model {repository}" + (f" at {revision}" if revision else "")
    try:
        cached = huggingface_hub.try_to_load_from_cache(
            repository, "config.json", revision=revision
        )
        if isinstance(cached, str):
            return
        huggingface_hub.HfApi().model_info(repository, revision=revision, timeout=_HUB_LIMIT_S)
    except errors.HFValidationError:
        raise WrongUse(
            f"{wanted_by}: {repository!r} is neither a folder here nor a model's name on the hub: "
            "write OWNER/NAME"
        ) from None
    except errors.GatedRepoError as error:
        raise WrongUse(
            f"{what} is gated: accept its licence on the hub and set HF_TOKEN"
        ) from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise WrongUse(
            f"{what} is not on the hub, or not for you: correct its name, or set HF_TOKEN"
        ) from error
    except _network_errors() as error:
        raise WrongUse(
            f"{what} is not in the cache, and the hub cannot be reached: connect, or download it "
            f"where you are connected and copy the cache ({type(error).__name__})"
        ) from error


def _network_errors() -> tuple[type[Exception], ...]:
    """OSError, and the errors of the HTTP library, which differs between versions of the hub's
    client: its own error is made of both."""
    from huggingface_hub.errors import HfHubHTTPError

    return tuple(base for base in HfHubHTTPError.__bases__ if issubclass(base, Exception))


ModelCheck = Callable[[str, str | None, str], None]
"""Repository, revision, who wants it."""
