"""Settings: flags over environment over defaults; wrong ones are one sentence and exit code 2."""

from pathlib import Path

import pytest

from sagepool_crds.meta import PoolKey
from sagepool_router.cli import main
from sagepool_router.config import OPTIONS, SettingsError, read_settings
from sagepool_router.limits import Limits

KUBERNETES = {"source": "kubernetes", "pool": "prod/rag"}


def test_defaults_are_those_of_the_limits():
    settings = read_settings(KUBERNETES, {})
    assert settings.limits == Limits()
    assert (settings.port, settings.admin_port, settings.grace_s) == (8000, 9090, 30.0)
    assert settings.pool == PoolKey("prod", "rag")


def test_a_flag_wins_over_the_environment_and_that_over_the_default():
    environ = {"SAGEPOOL_ROUTER_GRACE_SECONDS": "5", "SAGEPOOL_ROUTER_ADMIN_PORT": "7000"}
    settings = read_settings({**KUBERNETES, "admin-port": "7001"}, environ)
    assert (settings.grace_s, settings.admin_port) == (5.0, 7001)


def test_everything_can_come_from_the_environment():
    environ = {"SAGEPOOL_ROUTER_SOURCE": "kubernetes", "SAGEPOOL_ROUTER_POOL": "a/b"}
    assert read_settings({}, environ).pool == PoolKey("a", "b")


def test_an_empty_variable_counts_as_absent():
    assert read_settings(KUBERNETES, {"SAGEPOOL_ROUTER_PORT": ""}).port == 8000


def test_a_service_link_of_kubernetes_is_not_taken_for_the_port():
    environ = {"SAGEPOOL_ROUTER_PORT": "tcp://10.96.0.7:80"}
    assert read_settings(KUBERNETES, environ).port == 8000


def test_every_limit_that_can_be_set_reaches_the_limits(tmp_path: Path):
    given = {
        "connect-timeout-seconds": "1.5",
        "first-byte-timeout-seconds": "11",
        "gap-timeout-seconds": "12",
        "total-timeout-seconds": "13",
        "upload-timeout-seconds": "14",
        "stall-timeout-seconds": "15",
        "keepalive-timeout-seconds": "16",
        "engine-idle-seconds": "17",
        "max-body-bytes": "18",
        "body-budget-bytes": "19",
        "max-inflight": "20",
    }
    assert read_settings({**KUBERNETES, **given}, {}).limits == Limits(
        connect_s=1.5,
        first_byte_s=11,
        gap_s=12,
        total_s=13,
        upload_s=14,
        stall_s=15,
        keepalive_s=16,
        pool_idle_s=17,
        max_body_bytes=18,
        body_budget_bytes=19,
        max_inflight=20,
    )


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({}, "--source is missing"),
        ({"source": "etcd"}, "--source must be one of kubernetes, file, not 'etcd'"),
        ({"source": "kubernetes"}, "--pool is missing"),
        ({"source": "file"}, "--config is missing"),
        ({**KUBERNETES, "pool": "rag"}, "--pool must be NAMESPACE/NAME"),
        ({**KUBERNETES, "pool": "prod/Rag!"}, "--pool must be NAMESPACE/NAME"),
        ({"source": "file", "config": "/no/such/file"}, "--config is not a file"),
        ({**KUBERNETES, "port": "65536"}, "--port must be a whole number from 0 to 65535"),
        ({**KUBERNETES, "port": "-1"}, "--port must be a whole number"),
        ({**KUBERNETES, "port": "8_000"}, "--port must be a whole number"),
        ({**KUBERNETES, "grace-seconds": "nan"}, "--grace-seconds must be a number of seconds"),
        ({**KUBERNETES, "grace-seconds": "soon"}, "--grace-seconds must be a number of seconds"),
        ({**KUBERNETES, "max-body-bytes": "0"}, "--max-body-bytes must be"),
        ({**KUBERNETES, "body-budget-bytes": "5"}, "no such body could be held"),
        ({**KUBERNETES, "log-level": "loud"}, "--log-level must be one of"),
        ({**KUBERNETES, "host": "a b"}, "--host must be an address"),
    ],
)
def test_a_bad_value_is_named_with_its_rule(flags: dict[str, str], said: str):
    with pytest.raises(SettingsError) as caught:
        read_settings(flags, {})
    assert said in str(caught.value)


def test_a_bad_variable_is_named_as_a_variable():
    with pytest.raises(SettingsError, match="SAGEPOOL_ROUTER_PORT must be"):
        read_settings(KUBERNETES, {"SAGEPOOL_ROUTER_PORT": "eight"})


def test_a_config_file_belongs_to_the_file_source(tmp_path: Path):
    config = tmp_path / "pool.yaml"
    config.write_text("")
    with pytest.raises(SettingsError, match="--config belongs to --source file"):
        read_settings({**KUBERNETES, "config": str(config)}, {})


def test_a_bad_setting_ends_the_program_with_2_and_one_sentence(capsys: pytest.CaptureFixture[str]):
    assert main(["serve", "--source=file"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("sagepool-router: --config is missing")
    assert said.count("\n") == 1


@pytest.mark.parametrize("arguments", [[], ["serve", "--prot=1"], ["fly"], ["serve", "stray"]])
def test_wrong_usage_ends_the_program_with_2_and_one_sentence(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_help_names_every_flag_its_variable_and_its_default(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as left:
        main(["serve", "--help"])
    assert left.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    for option in OPTIONS:
        assert f"{option.flag} " in said
        assert option.variable in said.replace(" ", "")
