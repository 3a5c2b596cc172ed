"""Clusters that other programs run."""

from pathlib import Path

import pytest

from cluster_fakes import Programs, config, host
from sagepool_cluster.build import TOOLS, Builder
from sagepool_cluster.cli import main
from sagepool_cluster.errors import NotRunning, Unsupported
from sagepool_cluster.given import GivenProvider
from sagepool_cluster.kind import KindProvider, node_images
from sagepool_cluster.progress import Silence
from sagepool_cluster.tools import Tools

ARCHIVE = Path("/images/a.tar")


def tools(root: Path) -> Tools:
    """Return the tools of a machine that has them all."""
    return Tools(Builder(root / "cache", Silence()), host(*TOOLS.programs).which)


def given(root: Path, programs: Programs) -> GivenProvider:
    kubeconfig = root / "config"
    kubeconfig.touch()
    return GivenProvider(kubeconfig, tools(root), programs.run)


def kubectl(root: Path) -> str:
    return f"{root}/cache/tools-of-this-machine/kubectl"


def test_tools_of_the_machine_are_linked_into_one_folder(tmp_path: Path) -> None:
    folder = tools(tmp_path).folder()
    assert {link.name: str(link.readlink()) for link in folder.iterdir()} == {
        program: f"/usr/bin/{program}" for program in ("kubectl", "helm", "kubeconform")
    }
    assert tools(tmp_path).folder() == folder


def test_a_given_cluster_that_answers_is_used_as_it_is(tmp_path: Path) -> None:
    programs = Programs({kubectl(tmp_path): "ok"})
    assert given(tmp_path, programs).up() == tmp_path / "config"


def test_a_given_cluster_that_does_not_answer_is_an_error_with_a_way_out(tmp_path: Path) -> None:
    with pytest.raises(NotRunning, match="unset KUBECONFIG"):
        given(tmp_path, Programs({})).up()


def test_a_kubeconfig_that_is_not_there_is_named(tmp_path: Path) -> None:
    provider = GivenProvider(tmp_path / "absent", tools(tmp_path), Programs({}).run)
    with pytest.raises(NotRunning, match="absent"):
        provider.up()


@pytest.mark.parametrize(
    ("context", "command"),
    [
        ("kind-dev", "kind load image-archive /images/a.tar --name dev"),
        ("minikube", "minikube image load /images/a.tar --profile minikube"),
    ],
)
def test_an_image_is_loaded_into_a_given_cluster_whose_program_is_known(
    tmp_path: Path, context: str, command: str
) -> None:
    programs = Programs({kubectl(tmp_path): f"{context}\n", "kind": "", "minikube": ""})
    given(tmp_path, programs).load_image(ARCHIVE)
    assert programs.commands[-1] == command


def test_into_any_other_cluster_an_image_comes_by_a_registry(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="registry"):
        given(tmp_path, Programs({kubectl(tmp_path): "prod\n"})).load_image(ARCHIVE)


def test_kind_makes_a_cluster_from_the_node_image_at_hand(tmp_path: Path) -> None:
    programs = Programs(
        {"kind get": "", "docker images": "kindest/node:v1.35.0\n", "kind create": ""}
    )
    provider = KindProvider(config(tmp_path), tools(tmp_path), Silence(), programs.run)
    assert provider.up() == tmp_path / "kind-sagepool.kubeconfig"
    assert programs.commands[-1].endswith("--image kindest/node:v1.35.0")


def test_kind_keeps_a_cluster_that_is_there(tmp_path: Path) -> None:
    programs = Programs({"kind get": "other\nsagepool\n", "kind export": ""})
    KindProvider(config(tmp_path), tools(tmp_path), Silence(), programs.run).up()
    assert not any(command.startswith("kind create") for command in programs.commands)


def test_without_docker_there_are_no_node_images() -> None:
    assert node_images(Programs({}).run) == []


def test_an_error_is_one_line_and_status_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    assert main(["--provider", "given", "up"]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == "error: the provider given needs KUBECONFIG or --kubeconfig\n"
