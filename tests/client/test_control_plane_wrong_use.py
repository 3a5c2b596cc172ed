"""A control plane that cannot be: which field, option or engine is wrong."""

import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

import sagepool
from client_engines import engine
from client_face import Face
from client_planes import MISSING, planes
from sagepool import UnifiedInferenceClient
from sagepool.control_plane import build_control_plane


class TestWrongUse:
    @pytest.mark.parametrize(
        ("instances", "words"),
        [
            ([], "instances is empty"),
            (None, "instances must be a list, not NoneType"),
            (MISSING, "instances must be a list, not dict"),
            ([5], r"instances\[0\] must be a mapping, not int"),
            ([{}], r"instances\[0\].host: Field required; an instance has host, port"),
            ([{**MISSING, "port": 0}], r"instances\[0\].port: .*greater than or equal to 1"),
            ([MISSING, {**MISSING, "port": "x"}], r"instances\[1\].port"),
            ([{**MISSING, "instance_type": "prefill"}], r"instances\[0\].instance_type"),
            ([{**MISSING, "gpu": 1}], r"instances\[0\].gpu: Extra inputs"),
            ([{**MISSING, "engine": "tei"}], "tei serves embeddings only"),
            ([{**MISSING, "instance_type": "llm_embedding"}], "embedding_model_name belongs to"),
            ([{**MISSING, "embedding_model_name": "e"}], "embedding_model_name belongs to"),
            ([{**MISSING, "host": "a b"}], r"instances\[0\] is wrong: .*url"),
            (
                [MISSING, {**MISSING, "instance_type": "embedding"}],
                "'m' is given as llm and as embedding",
            ),
        ],
    )
    def test_an_instance_that_is_wrong_names_its_field(self, instances: Any, words: str) -> None:
        with pytest.raises(sagepool.ConfigurationError, match=words):
            build_control_plane(instances, "hybrid", None)

    @pytest.mark.parametrize(
        ("policy", "scheduling", "words"),
        [
            ("lottery", {}, "scheduling.policy: .*'hybrid'"),
            ("hybrid", {"hybridInstanceRatio": 2}, "hybridInstanceRatio"),
            ("hybrid", {"ratio": 1}, "scheduling.ratio: Extra inputs"),
        ],
    )
    def test_so_does_scheduling(self, policy: str, scheduling: Any, words: str) -> None:
        with pytest.raises(sagepool.ConfigurationError, match=words):
            build_control_plane([MISSING], policy, scheduling)

    def test_without_the_router_the_way_out_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in [n for n in sys.modules if n.startswith("sagepool.control_plane.")]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, "uvicorn", None)
        with pytest.raises(
            sagepool.ConfigurationError, match=r'uvicorn is not installed: pip install "sagepool\['
        ):
            build_control_plane([MISSING], "hybrid", None)

    @pytest.mark.parametrize("options", [{"timeout": 0}, {"startup_timeout": -1}, {"typo": 1}])
    def test_a_bad_option_leaves_nothing(
        self, face: Face, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: Any
    ) -> None:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        with pytest.raises(sagepool.ConfigurationError, match=next(iter(options))):
            face.create_with_control_plane([MISSING], **options)
        assert list(tmp_path.iterdir()) == []
        assert planes() == []

    def test_a_path_too_long_for_a_socket_is_said(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        deep = tmp_path / ("x" * 100)
        deep.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(deep))
        with pytest.raises(sagepool.ConfigurationError, match="set TMPDIR to a shorter one"):
            build_control_plane([MISSING], "hybrid", None)
        assert list(deep.iterdir()) == []

    def test_engines_that_do_not_come_are_told_one_by_one(self, face: Face) -> None:
        with pytest.raises(sagepool.UnavailableError) as told:
            face.create_with_control_plane([MISSING, {**MISSING, "port": 2}], startup_timeout=2)
        assert "no engine was ready within 2 s" in str(told.value)
        assert "http://127.0.0.1:1 cannot be reached" in str(told.value)
        assert "http://127.0.0.1:2 cannot be reached" in str(told.value)
        assert planes() == []

    def test_an_engine_that_serves_something_else_is_told(self) -> None:
        with engine("m") as only, pytest.raises(sagepool.UnavailableError, match="serves m, not x"):
            UnifiedInferenceClient.create_with_control_plane(
                [{**only.instance, "model_name": "x"}], startup_timeout=3
            )
