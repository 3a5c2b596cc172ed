"""How programs of others are installed and started."""

import re
from pathlib import Path

import pytest
from bench.environments import PINS, Environments
from bench.errors import CannotMeasure
from bench.peers import (
    PEERS,
    Ports,
    envoy_config,
    install_peers,
    litellm_config,
    read_version,
)
from bench.targets import build_command, parse_baselines
from bench.workloads import CHAT_MODEL, EMBEDDING_MODEL

PORTS = Ports(own=1001, metrics=1002, engine=1003)


class Lines:
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)


@pytest.mark.parametrize("name", PEERS)
def test_every_pin_is_of_one_version(name: str) -> None:
    lines = (PINS / f"{name}.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith(("#", "    #"))]
    assert pins
    assert [line for line in pins if not re.fullmatch(r"[\w.\-\[\]]+==[\w.]+( ;.*)?", line)] == []


@pytest.mark.parametrize("name", PEERS)
def test_the_version_of_each_is_that_of_its_pin(name: str) -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", read_version(name))


@pytest.mark.parametrize("name", PEERS)
def test_each_is_told_its_port_and_the_engine(name: str, tmp_path: Path) -> None:
    command = PEERS[name].build(Path("/programs"), PORTS, tmp_path)
    files = [path.read_text() for path in tmp_path.iterdir()]
    told = " ".join([*command, *files])
    assert any(word.startswith("/programs/") for word in command)
    assert "1001" in told
    assert "1003" in told


def test_a_peer_is_a_target_with_the_programs_of_its_environment(tmp_path: Path) -> None:
    command = build_command("smg", {}, 81, 82, tmp_path, {"smg": Path("/programs")})
    assert command[0] == "/programs/smg"


def test_the_name_of_a_peer_is_taken() -> None:
    with pytest.raises(CannotMeasure, match="the name envoy is taken"):
        parse_baselines(["envoy=x"])


def test_the_proxy_listens_on_the_loopback_network_only() -> None:
    text = str(envoy_config(PORTS))
    assert set(re.findall(r"'address': '([^']+)'", text)) == {"127.0.0.1"}


def test_both_models_are_at_the_engine() -> None:
    models = str(litellm_config(PORTS))
    assert models.count("http://127.0.0.1:1003/v1") == 2
    assert CHAT_MODEL in models
    assert EMBEDDING_MODEL in models


@pytest.fixture
def pins(tmp_path: Path) -> Path:
    """Pins that need no registry."""
    folder = tmp_path / "pins"
    folder.mkdir()
    (folder / "good.txt").write_text("# nothing\n")
    (folder / "bad.txt").write_text("this is not a requirement\n")
    return folder


def test_what_cannot_be_installed_is_left_out_with_one_line(pins: Path, tmp_path: Path) -> None:
    lines = Lines()
    environments = Environments(tmp_path / "cache", lines, pins)
    folders = install_peers(["bad", "good"], environments, lines)
    assert folders == {"good": environments.folder("good") / "bin"}
    assert (folders["good"] / "python").exists()
    assert [line for line in lines.said if line.startswith("bad is left out: ERROR:")]


def test_an_environment_is_made_once_for_its_pins(pins: Path, tmp_path: Path) -> None:
    lines = Lines()
    environments = Environments(tmp_path / "cache", lines, pins)
    first = environments.ensure("good")
    said = len(lines.said)
    assert environments.ensure("good") == first
    assert len(lines.said) == said
    (pins / "good.txt").write_text("# other pins\n")
    assert environments.folder("good") != first


def test_an_installation_that_was_cut_short_is_made_anew(pins: Path, tmp_path: Path) -> None:
    environments = Environments(tmp_path / "cache", Lines(), pins)
    left = environments.folder("good") / "left behind"
    left.mkdir(parents=True)
    folder = environments.ensure("good")
    assert not left.exists()
    assert (folder / "bin" / "python").exists()
