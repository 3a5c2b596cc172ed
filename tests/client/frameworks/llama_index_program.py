"""What docs/python-client.md shows for LlamaIndex, against the router at the address given."""

import json
import sys

from llama_index.core import Document, Settings, VectorStoreIndex
from llama_index.core.llms import ChatMessage
from llama_index.core.node_parser import TokenTextSplitter
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.openai_like import OpenAILike


def main(url: str) -> None:
    Settings.llm = OpenAILike(
        api_base=url, api_key="none", model="tiny-chat", is_chat_model=True, max_tokens=8
    )
    Settings.embed_model = OpenAILikeEmbedding(
        api_base=url, api_key="none", model_name="tiny-embed"
    )
    # both would load a tokenizer from the internet
    Settings.tokenizer = str.split
    Settings.node_parser = TokenTextSplitter(tokenizer=str.split)

    answer = Settings.llm.chat([ChatMessage(role="user", content="Hello")])
    pieces = [piece.delta for piece in Settings.llm.stream_chat([ChatMessage(content="Hello")])]
    texts = ["cats sleep all day", "trains run on rails", "bread is made of flour"]
    index = VectorStoreIndex.from_documents([Document(text=text) for text in texts])
    found = index.as_retriever(similarity_top_k=1).retrieve("trains run on rails")
    told = index.as_query_engine().query("What runs on rails?")
    print(
        json.dumps(
            {
                "words": len(str(answer.message.content).split()),
                "pieces": len([piece for piece in pieces if piece]),
                "found": found[0].text,
                "told": len(str(told).split()),
                "dimension": len(Settings.embed_model.get_text_embedding("a")),
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1])
