"""What docs/python-client.md shows for LangChain, against the router at the address given."""

import json
import sys

from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings


@tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


def main(url: str) -> None:
    llm = ChatOpenAI(base_url=url, api_key="none", model="tiny-chat", temperature=0, max_tokens=8)
    embeddings = OpenAIEmbeddings(
        base_url=url, api_key="none", model="tiny-embed", check_embedding_ctx_length=False
    )
    answer = llm.invoke([SystemMessage("Be short."), HumanMessage("Hello")])
    pieces = [piece.content for piece in llm.stream("Hello")]
    batch = llm.batch(["one", "two", "three"])
    tooled = ChatOpenAI(base_url=url, api_key="none", model="tooled")
    called = tooled.bind_tools([weather], tool_choice="weather").invoke("How is it in Ulm?")
    try:
        ChatOpenAI(base_url=url, api_key="none", model="nope", max_retries=0).invoke("Hello")
        error = ""
    except Exception as failure:
        error = f"{type(failure).__name__}: {failure}"
    print(
        json.dumps(
            {
                "words": len(answer.content.split()),
                "usage": answer.usage_metadata,
                "pieces": len([piece for piece in pieces if piece]),
                "streamed": "".join(pieces),
                "batch": [len(message.content.split()) for message in batch],
                "tools": [[call["name"], call["args"]] for call in called.tool_calls],
                "query": len(embeddings.embed_query("one text")),
                "documents": [len(v) for v in embeddings.embed_documents(["a", "b", "c"])],
                "same": embeddings.embed_query("a") == embeddings.embed_documents(["a"])[0],
                "error": error,
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1])
