"""Generated files are up to date, and the program that keeps them so says what to do."""

from pathlib import Path

import pytest
import yaml

from sagepool_crds.cli import main
from sagepool_crds.generate import build_files

ROOT = Path(__file__).parents[2]


def test_files_of_the_checkout_are_up_to_date() -> None:
    assert main(["check", "--root", str(ROOT)]) == 0


def test_program_prints_both_kinds(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    documents = list(yaml.safe_load_all(capsys.readouterr().out))
    assert [d["metadata"]["name"] for d in documents] == [
        "inferencepools.sagepool.dev",
        "inferenceinstances.sagepool.dev",
    ]


def test_check_names_the_stale_file_and_the_way_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "crds" / "sagepool_crds").mkdir(parents=True)
    assert main(["write", "--root", str(tmp_path)]) == 0
    assert main(["check", "--root", str(tmp_path)]) == 0
    (tmp_path / "crds" / "inferencepools.yaml").write_text("edited: true\n")
    assert main(["check", "--root", str(tmp_path)]) == 1
    assert "crds/inferencepools.yaml is out of date: run `sagepool-crds write`" in (
        capsys.readouterr().err
    )


def test_write_outside_a_checkout_is_wrong_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["write", "--root", str(tmp_path)])
    assert exit_.value.code == 2
    assert "is no checkout of sagepool: give --root" in capsys.readouterr().err


def test_crd_and_chart_copy_are_the_same_text() -> None:
    files = {str(path): text for path, text in build_files().items()}
    for name in ("inferencepools", "inferenceinstances"):
        assert files[f"crds/{name}.yaml"] == files[f"charts/sagepool/files/crds/{name}.yaml"]
