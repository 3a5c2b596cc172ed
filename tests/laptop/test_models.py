"""What is said of a model that cannot be had."""

from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

from sagepool.laptop.errors import WrongUse
from sagepool.laptop.models import check_model


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))


def answer(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", fail)


@pytest.mark.parametrize("name", ["./nonexistent", "/data/none", "bad name", "a/b/c"])
def test_what_cannot_be_a_name_is_no_question_for_the_hub(name: str) -> None:
    with pytest.raises(WrongUse, match="is neither a folder here nor a model's name on the hub"):
        check_model(name, None, "sage llm run")


def test_a_hub_that_nobody_reaches_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, ConnectionError("no route"))
    with pytest.raises(WrongUse, match="model o/m is not in the cache, and the hub cannot be"):
        check_model("o/m", None, "group chat")


def test_a_fault_of_ours_is_not_taken_for_the_network_s(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, TypeError("no such argument"))
    with pytest.raises(TypeError, match="no such argument"):
        check_model("o/m", None, "group chat")
