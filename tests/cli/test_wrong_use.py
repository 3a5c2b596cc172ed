"""Every wrong use ends in one sentence on standard error, and in an exit code."""

from importlib.metadata import version
from pathlib import Path

import pytest

from sage_command import Sage, write_pool


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("inference start", "say what to run: a pool file with --file, or --llm-model"),
        ("inference start -f none.yaml -l m", "give a pool file or models, not both"),
        ("inference start -l o/m --llm-backend llama", "--llm-backend is 'llama': write vllm, sim"),
        ("inference start -l o/m --llm-backend tei", "--llm-backend is 'tei': write vllm, sim"),
        (
            "inference start -l m --llm-backend simulator --embedding-backend tei",
            "--embedding-backend is given, and pool local has no group of role embedding",
        ),
        ("inference start --port 0 -l m", "invalid value for '--port'"),
        ("inference start --no-such", "no such option: --no-such"),
        ("inference start -l m -s best", "invalid value for '--scheduling-policy'"),
        ("inference launch", "no such command 'launch'"),
        ("inference stop rag --all", "name a pool or give --all, not both"),
        ("inference status --watch --json", "--watch shows a table: leave --output out"),
        ("inference status --watch", "--watch needs a terminal: leave it out in a pipe"),
        ("inference config -o table", "a pool is no table: choose --output yaml or json"),
        ("inference start -l bad/na/me! --llm-backend simulator", "a model's name starts with"),
        ("llm run o/m --lora bot", "--lora is 'bot': write NAME=FOLDER"),
        ("llm run o/m --lora bot=/none", "/none holds no adapter_config.json"),
        ("llm run o/m --cpu", "o/m needs vllm, which is not installed here: install it with"),
        ("llm run o/m --gpu-memory 2", "invalid value for '--gpu-memory'"),
        ("llm run o/m --cpu --gpu-memory 0.9", "--gpu-memory and --tensor-parallel are for GPUs"),
        ("llm run o/m --cpu --tensor-parallel 1", "--gpu-memory and --tensor-parallel are for"),
        ("finetune serve /proc", "/proc holds neither adapter_config.json (LoRA) nor config.json"),
        ("nothing", "no such command 'nothing'"),
    ],
)
def test_wrong_use_is_exit_code_2_and_one_sentence(sage: Sage, words: str, says: str) -> None:
    ended = sage.run(*words.split())
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("sage: ")
    assert says in ended.err
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        "inference start -f none.yaml",
        "inference stop rag",
        "inference logs --pool rag",
        "llm status",
        "llm stop --port 8001",
        "finetune serve none",
    ],
)
def test_what_is_not_there_is_exit_code_3(sage: Sage, words: str) -> None:
    ended = sage.run(*words.split())
    assert (ended.code, ended.out) == (3, "")
    assert ended.err.count("\n") == 1


def test_the_parser_says_where_the_right_use_stands(sage: Sage) -> None:
    assert "(see sage inference start --help)" in sage.run("inference", "start", "--x").err


def test_debug_shows_where_an_error_came_from(sage: Sage, tmp_path: Path) -> None:
    path = write_pool(tmp_path / "p", source="cloud")
    for words in (["--debug", "inference", "config"], ["inference", "config", "--debug"]):
        ended = sage.run(*words, f"-f{path}")
        assert ended.code == 2
        assert "Traceback" in ended.err
        assert ended.err.splitlines()[-1].startswith("sage: ")


def test_debug_behind_two_dashes_is_a_word_as_any(sage: Sage) -> None:
    ended = sage.run("pool", "get", "--", "--debug")
    assert (ended.code, ended.out) == (2, "")
    assert "'--debug' is no name" in ended.err
    assert "Traceback" not in ended.err
    both = sage.run("--debug", "pool", "get", "--", "--debug")
    assert "'--debug' is no name" in both.err
    assert "Traceback" in both.err


@pytest.mark.parametrize("group", [(), ("inference",), ("pool",)])
def test_a_group_without_a_command_shows_what_there_is(sage: Sage, group: tuple[str, ...]) -> None:
    ended = sage.run(*group)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(f"Usage: {' '.join(('sage', *group))} [OPTIONS] COMMAND")


def test_the_version_is_the_package_s(sage: Sage) -> None:
    ended = sage.run("--version")
    assert (ended.code, ended.out) == (0, f"sage {version('sagepool')}\n")


@pytest.mark.parametrize("words", ["inference config -f {}", "doctor -o json", "--help"])
def test_output_that_has_no_room_is_one_sentence(sage: Sage, tmp_path: Path, words: str) -> None:
    command = words.format(write_pool(tmp_path / "p"))
    ended = sage.shell(f"$sage {command} > /dev/full")
    assert (ended.code, ended.err) == (
        1,
        "sage: the output cannot be written: no space left on device\n",
    )


def test_config_prints_what_a_cluster_would_store(sage: Sage, tmp_path: Path) -> None:
    ended = sage.run("inference", "config", f"-f{write_pool(tmp_path / 'p')}")
    assert ended.code == 0
    assert "embeddingBatchSize: 32" in ended.out


def test_a_reader_that_leaves_is_no_error(sage: Sage, tmp_path: Path) -> None:
    path = write_pool(tmp_path / "p")
    assert sage.shell(f"$sage inference config -f {path} | true").err == ""


def test_standard_streams_may_be_closed(sage: Sage) -> None:
    assert sage.shell("$sage doctor -o json <&- >&- 2>&-").code == 0
    assert sage.shell("$sage inference status <&- >&-").err.startswith("sage: no pool runs")
