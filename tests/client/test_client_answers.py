"""Both clients against a server on a real socket: what is sent, and what the answers become."""

import pytest

import sagepool
from client_face import Face
from client_server import CHAT_ANSWER, MODELS, Reply, error_reply, scripted

TEXT = {"role": "user", "content": "hi"}
EMBEDDED = Reply(body={"data": [{"index": 0, "embedding": [1.0, 2.0]}], "model": "tiny"})


class TestAnswers:
    def test_a_chat_is_a_text(self, face: Face) -> None:
        with scripted() as server:
            assert face.chat(face.create(server.url, model="m"), [TEXT]) == "hello"
        (got,) = server.received
        assert (got.path, got.body) == ("/v1/chat/completions", {"model": "m", "messages": [TEXT]})

    def test_a_completion_is_a_text(self, face: Face) -> None:
        with scripted(Reply(body={"choices": [{"text": "b"}]})) as server:
            assert face.generate(face.create(server.url, model="m"), "a", max_tokens=1) == "b"
        (got,) = server.received
        assert (got.path, got.body) == (
            "/v1/completions",
            {"model": "m", "prompt": "a", "max_tokens": 1},
        )

    def test_embeddings_are_vectors(self, face: Face) -> None:
        with scripted(EMBEDDED) as server:
            client = face.create(server.url, embedding_model="e")
            assert face.embed(client, "a") == [[1.0, 2.0]]
        (got,) = server.received
        assert (got.path, got.body) == ("/v1/embeddings", {"model": "e", "input": ["a"]})

    def test_a_result_tells_the_rest(self, face: Face) -> None:
        headers = {"x-request-id": "r-1", "x-sagepool-instance": "i", "x-sagepool-policy": "hybrid"}
        with scripted(Reply(headers=headers)) as server:
            result = face.chat(face.create(server.url, model="m"), "hi", return_result=True)
        assert isinstance(result, sagepool.Result)
        assert (result.request_id, result.request_type, result.model) == ("r-1", "llm_chat", "tiny")
        assert result.usage == sagepool.Usage(3, 1, 4)
        assert result.latency_ms > 0
        assert (result.metadata["instance"], result.metadata["policy"]) == ("i", "hybrid")
        assert result.metadata["retries"] == 0

    def test_a_server_that_gives_no_request_id_gets_ours(self, face: Face) -> None:
        with scripted(EMBEDDED) as server:
            client = face.create(server.url, embedding_model="e")
            result = face.embed(client, ["a"], return_result=True)
        assert result.request_type == "embedding"
        assert result.request_id == server.received[0].headers["x-request-id"]

    def test_a_key_is_sent_as_bearer_token(self, face: Face) -> None:
        with scripted() as server:
            face.chat(face.create(server.url, api_key="secret", model="m"), "hi")
            face.chat(face.create(server.url, model="m"), "hi")
        with_key, without = server.received
        assert with_key.headers["authorization"] == "Bearer secret"
        assert "authorization" not in without.headers

    def test_a_model_that_calls_tools_is_not_taken_for_silent(self, face: Face) -> None:
        call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        body = {"choices": [{"message": {"content": None, "tool_calls": [call]}}]}
        with scripted(Reply(body=body)) as server:
            client = face.create(server.url, model="m")
            with pytest.raises(sagepool.UnexpectedAnswerError, match="return_result=True"):
                face.chat(client, "hi", tools=[])
            result = face.chat(client, "hi", tools=[], return_result=True)
        assert result.metadata["tool_calls"] == [call]

    def test_embeddings_may_have_a_server_of_their_own(self, face: Face) -> None:
        with scripted() as chats, scripted(EMBEDDED) as embeds:
            client = face.create(
                chats.url,
                api_key="k",
                model="m",
                embedding_base_url=embeds.url,
                embedding_model="e",
            )
            face.chat(client, "hi")
            face.embed(client, "hi")
        assert [got.path for got in chats.received] == ["/v1/chat/completions"]
        (got,) = embeds.received
        assert got.path == "/v1/embeddings"
        assert "authorization" not in got.headers  # another server's key is not its business


class TestModels:
    def test_without_a_name_the_first_model_of_the_kind_is_used(self, face: Face) -> None:
        models = Reply(
            body={
                "data": [
                    {"id": "e", "role": "embedding"},
                    {"id": "asleep", "role": "llm", "ready": False},
                    {"id": "m", "role": "llm", "ready": True},
                ]
            }
        )
        with scripted(Reply(), Reply(), EMBEDDED, models=models) as server:
            client = face.create(server.url)
            face.chat(client, "hi")
            face.chat(client, "hi")
            face.embed(client, "hi")
        assert [got.body["model"] for got in server.received] == ["m", "m", "e"]
        assert server.listings == 2  # once a kind

    def test_a_server_without_models_for_the_kind_is_said(self, face: Face) -> None:
        models = Reply(body={"data": [{"id": "e", "role": "embedding"}]})
        with scripted(models=models) as server:
            client = face.create(server.url)
            with pytest.raises(sagepool.ConfigurationError, match="lists no model for llm"):
                face.chat(client, "hi")
        assert server.received == []

    def test_an_unknown_model_is_told_with_the_known(self, face: Face) -> None:
        with scripted(error_reply(404, "no such model")) as server:
            client = face.create(server.url, model="gone")
            with pytest.raises(sagepool.NotFoundError) as told:
                face.chat(client, "hi")
        assert told.value.models == ("tiny",)
        assert str(told.value) == "no such model; models: tiny"

    def test_a_server_that_lists_them_itself_is_not_repeated(self, face: Face) -> None:
        with (
            scripted(error_reply(404, "no such model; models: tiny")) as server,
            pytest.raises(sagepool.NotFoundError) as told,
        ):
            face.chat(face.create(server.url, model="gone"), "hi", stream=True)
        assert str(told.value) == "no such model; models: tiny"

    def test_that_it_cannot_list_them_changes_nothing(self, face: Face) -> None:
        with (
            scripted(error_reply(404, "lost"), models=error_reply(500)) as server,
            pytest.raises(sagepool.NotFoundError, match="lost") as told,
        ):
            face.chat(face.create(server.url, model="gone"), "hi")
        assert told.value.models == ()

    def test_a_model_that_has_gone_is_looked_for_anew(self, face: Face) -> None:
        with scripted(Reply(), error_reply(404), Reply()) as server:
            client = face.create(server.url)
            face.chat(client, "hi")
            server.models = Reply(body={"data": [{"id": "new"}]})
            with pytest.raises(sagepool.NotFoundError):
                face.chat(client, "hi")
            face.chat(client, "hi")
        assert [got.body["model"] for got in server.received] == ["tiny", "tiny", "new"]


def test_the_scripts_answers_are_openais() -> None:
    assert CHAT_ANSWER["choices"]
    assert MODELS["data"]
