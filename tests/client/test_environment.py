"""What the environment names."""

from typing import Any

import pytest

from sagepool import ConfigurationError
from sagepool.environment import CLOUD_URL, Environment


def read(**variables: str) -> Environment:
    return Environment(variables)


class TestForcedCloud:
    @pytest.mark.parametrize("value", ["true", "TRUE", "1", "yes", "on", " true "])
    def test_yes(self, value: str) -> None:
        assert read(SAGE_FORCE_CLOUD_API=value).forces_cloud()

    @pytest.mark.parametrize("value", ["false", "0", "no", "off", "", " "])
    def test_no(self, value: str) -> None:
        assert not read(SAGE_FORCE_CLOUD_API=value).forces_cloud()

    def test_neither(self) -> None:
        with pytest.raises(ConfigurationError, match="SAGE_FORCE_CLOUD_API must be true or false"):
            read(SAGE_FORCE_CLOUD_API="maybe").forces_cloud()


class TestNamedServers:
    def test_one_for_both_kinds(self) -> None:
        environment = read(
            SAGE_UNIFIED_BASE_URL="http://a",
            SAGE_UNIFIED_MODEL="chatty",
            SAGE_UNIFIED_API_KEY="k",
            SAGE_EMBEDDING_MODEL="e",
        )
        llm, embedding = environment.unified("llm"), environment.unified("embedding")
        assert llm is not None
        assert embedding is not None
        assert (llm.endpoint.base_url, llm.endpoint.model) == ("http://a/v1", "chatty")
        # the one model that is named is a chat's: it embeds nothing
        assert (embedding.endpoint.base_url, embedding.endpoint.model) == ("http://a/v1", "e")
        assert llm.endpoint.api_key == embedding.endpoint.api_key == "k"

    def test_one_for_each(self) -> None:
        environment = read(
            SAGE_CHAT_BASE_URL="http://a",
            SAGE_CHAT_MODEL="m",
            SAGE_CHAT_API_KEY="k",
        )
        llm = environment.of_kind("llm")
        assert llm is not None
        assert (llm.endpoint.base_url, llm.endpoint.model, llm.endpoint.api_key) == (
            "http://a/v1",
            "m",
            "k",
        )
        assert environment.of_kind("embedding") is None

    def test_a_wrong_address_names_its_variable(self) -> None:
        with pytest.raises(ConfigurationError, match="SAGE_EMBEDDING_BASE_URL"):
            read(SAGE_EMBEDDING_BASE_URL="a:1").of_kind("embedding")

    def test_an_empty_variable_is_absent(self) -> None:
        assert read(SAGE_CHAT_BASE_URL=" ").of_kind("llm") is None


class TestCloud:
    @pytest.mark.parametrize(
        ("variables", "key"),
        [
            ({"DASHSCOPE_API_KEY": "d"}, "d"),
            ({"SAGE_CHAT_API_KEY": "c"}, "c"),
            ({"SAGE_CHAT_API_KEY": "c", "DASHSCOPE_API_KEY": "d"}, "c"),
        ],
    )
    def test_a_key_is_enough(self, variables: Any, key: str) -> None:
        named = read(**variables).cloud("llm")
        assert named is not None
        assert (named.endpoint.base_url, named.endpoint.api_key) == (CLOUD_URL, key)
        assert named.endpoint.model == "qwen-turbo"

    def test_without_one_there_is_none(self) -> None:
        assert read().cloud("llm") is None
        assert read(SAGE_CHAT_API_KEY="c").cloud("embedding") is None

    def test_model_and_provider_can_be_others(self) -> None:
        named = read(
            DASHSCOPE_API_KEY="d",
            SAGE_CLOUD_BASE_URL="https://cloud.example/v1",
            SAGE_EMBEDDING_MODEL="e",
        ).cloud("embedding")
        assert named is not None
        assert (named.endpoint.base_url, named.endpoint.model) == ("https://cloud.example/v1", "e")


class TestPools:
    @pytest.mark.parametrize(
        ("variables", "address"),
        [
            ({"SAGEPOOL_POOL": "rag"}, "http://rag-router/v1"),
            ({"SAGEPOOL_POOL": "ns/rag"}, "http://rag-router.ns.svc/v1"),
            (
                {"SAGEPOOL_POOL": "my-rag", "MY_RAG_ROUTER_SERVICE_PORT": "8080"},
                "http://my-rag-router:8080/v1",
            ),
            ({"SAGEPOOL_POOL": "rag", "RAG_ROUTER_SERVICE_PORT": "80"}, "http://rag-router/v1"),
            # a link is of this pod's namespace, whatever is called so elsewhere
            (
                {"SAGEPOOL_POOL": "ns/rag", "RAG_ROUTER_SERVICE_PORT": "9"},
                "http://rag-router.ns.svc/v1",
            ),
        ],
    )
    def test_a_named_pools_router_has_a_dns_name(self, variables: Any, address: str) -> None:
        named = read(**variables, SAGEPOOL_API_KEY="k").pool()
        assert named is not None
        assert (named.endpoint.base_url, named.endpoint.api_key) == (address, "k")
        assert not named.endpoint.uses_proxy

    @pytest.mark.parametrize("value", ["a/b/c", "/a", "a/", "Rag", "a b", "http://rag"])
    def test_what_is_no_name_is_refused(self, value: str) -> None:
        with pytest.raises(
            ConfigurationError, match="SAGEPOOL_POOL must be NAME or NAMESPACE/NAME"
        ):
            read(SAGEPOOL_POOL=value).pool()

    def test_services_that_may_be_routers_come_from_links(self) -> None:
        found = read(
            KUBERNETES_SERVICE_HOST="10.0.0.1",
            RAG_ROUTER_SERVICE_HOST="10.0.0.2",
            RAG_ROUTER_SERVICE_PORT="80",
            MY_RAG_ROUTER_SERVICE_HOST="fd00::1",
            MY_RAG_ROUTER_SERVICE_PORT="8000",
            OTHER_SERVICE_HOST="10.0.0.4",
        ).linked_routers()
        assert [named.endpoint.base_url for named in found] == [
            "http://[fd00::1]:8000/v1",
            "http://10.0.0.2:80/v1",
        ]
