"""Settings, logs and exit codes."""

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest

from sagepool_operator.cli import EXIT_MISCONFIGURED, run
from sagepool_operator.config import Images, LeaseName, Settings, read_settings
from sagepool_operator.errors import SettingsError
from sagepool_operator.log import configure_logging

IMAGE = {"SAGEPOOL_OPERATOR_IMAGE": "own:1"}


def test_defaults_follow_from_the_image_alone() -> None:
    images = Images(own="own:1", hub="https://huggingface.co")
    assert read_settings(IMAGE) == Settings(images=images)


def test_without_a_hub_to_ask_models_are_cached_from_the_public_one() -> None:
    settings = read_settings({**IMAGE, "SAGEPOOL_OPERATOR_HUB": "none"})
    assert (settings.hub, settings.images.hub) == ("", "")


def test_every_setting_is_read() -> None:
    settings = read_settings(
        {
            **IMAGE,
            "SAGEPOOL_OPERATOR_NAMESPACE": "team-a",
            "SAGEPOOL_OPERATOR_LEASE": "sagepool-system/sagepool-operator",
            "SAGEPOOL_OPERATOR_LEASE_SECONDS": "15",
            "SAGEPOOL_OPERATOR_HUB": "https://hub.example/mirror",
            "SAGEPOOL_OPERATOR_WORKERS": "8",
            "SAGEPOOL_OPERATOR_RESYNC_SECONDS": "30",
            "SAGEPOOL_OPERATOR_PROBE_READY_SECONDS": "2.5",
            "SAGEPOOL_OPERATOR_VLLM_IMAGE": "vllm:x",
            "SAGEPOOL_OPERATOR_IMAGE_PULL_POLICY": "Never",
            "SAGEPOOL_OPERATOR_IMAGE_PULL_SECRETS": "registry, mirror.example",
            "SAGEPOOL_OPERATOR_LOG_FORMAT": "text",
            "OTHER": "ignored",
        }
    )
    assert settings.namespace == "team-a"
    assert settings.lease == LeaseName("sagepool-system", "sagepool-operator")
    assert settings.lease_s == 15
    assert settings.hub == "https://hub.example/mirror"
    assert (settings.workers, settings.resync_s) == (8, 30.0)
    assert settings.probe.ready_s == 2.5
    assert settings.images.vllm == "vllm:x"
    assert settings.images.pull_policy == "Never"
    assert settings.images.pull_secrets == ("registry", "mirror.example")
    assert settings.log_format == "text"


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({}, "IMAGE is not set: set it to"),
        ({**IMAGE, "SAGEPOOL_OPERATOR_WORKERS": "0"}, "whole number from 1"),
        ({**IMAGE, "SAGEPOOL_OPERATOR_WORKERS": "many"}, "whole number from 1"),
        ({**IMAGE, "SAGEPOOL_OPERATOR_RESYNC_SECONDS": "-1"}, "write seconds"),
        ({**IMAGE, "SAGEPOOL_OPERATOR_RESYNC_SECONDS": "nan"}, "write seconds"),
        ({**IMAGE, "SAGEPOOL_OPERATOR_LOG_LEVEL": "LOUD"}, "write one of INFO, DEBUG"),
        ({**IMAGE, "SAGEPOOL_OPERATOR_IMAGE_PULL_POLICY": "always"}, "write one of IfNotPresent"),
        ({**IMAGE, "SAGEPOOL_OPERATOR_IMAGE_PULL_SECRETS": "a b"}, "'a b': write names of Secrets"),
        ({**IMAGE, "SAGEPOOL_OPERATOR_LEASE": "operator"}, "write NAMESPACE/NAME"),
        ({**IMAGE, "SAGEPOOL_OPERATOR_LEASE": "a.b/operator"}, "write NAMESPACE/NAME"),
        ({**IMAGE, "SAGEPOOL_OPERATOR_LEASE_SECONDS": "4"}, "whole number from 5 on"),
        ({**IMAGE, "SAGEPOOL_OPERATOR_HUB": "huggingface.co"}, "write an address such as https"),
        ({**IMAGE, "SAGEPOOL_OPERATOR_WORKER": "3"}, "WORKER is unknown: remove it"),
    ],
)
def test_wrong_setting_is_named_with_the_way_out(variables: dict[str, str], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        read_settings(variables)


def test_hub_can_be_left_out() -> None:
    assert read_settings({**IMAGE, "SAGEPOOL_OPERATOR_HUB": "none"}).hub == ""


def test_wrong_setting_ends_the_program_with_its_own_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run({}) == EXIT_MISCONFIGURED
    assert "SAGEPOOL_OPERATOR_IMAGE is not set" in capsys.readouterr().err


def test_program_without_a_cluster_says_so() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sagepool_operator.cli", "run"],
        env={**IMAGE, "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == EXIT_MISCONFIGURED, done.stderr
    assert "KUBECONFIG" in done.stderr


@pytest.fixture
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.usefixtures("restored")
def test_logs_are_lines_of_json_with_their_fields() -> None:
    stream = io.StringIO()
    configure_logging("json", "INFO", stream)
    logging.getLogger("sagepool_operator.x").info("applied", extra={"object": "default/rag"})
    line = json.loads(stream.getvalue())
    assert (line["level"], line["message"], line["object"]) == ("info", "applied", "default/rag")


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("form", ["json", "text"])
def test_logs_carry_tracebacks(form: str) -> None:
    stream = io.StringIO()
    configure_logging(form, "INFO", stream)
    try:
        raise ValueError("boom")
    except ValueError:
        logging.getLogger("x").exception("failed")
    assert "ValueError: boom" in stream.getvalue()


@pytest.mark.usefixtures("restored")
def test_text_logs_are_for_people() -> None:
    stream = io.StringIO()
    configure_logging("text", "INFO", stream)
    logging.getLogger("x").warning("lost", extra={"pool": "default/rag"})
    assert "WARNING lost pool=default/rag" in stream.getvalue()
