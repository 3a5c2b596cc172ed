"""`sage chat`: a conversation with a model."""

import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer

from sagepool.cli.cluster import KubeconfigOption, NamespaceOption
from sagepool.cli.servers import ApiKey, BaseUrl, ClusterPool, open_client
from sagepool.cli.texts import decode
from sagepool.cli.values import finite
from sagepool.laptop.errors import WrongUse

if TYPE_CHECKING:
    from sagepool import UnifiedInferenceClient
    from sagepool.parameters import ChatParameters

_PROMPT: Final = "> "
_HINT: Final = "/new begins anew, /quit or Ctrl-D ends, Ctrl-C stops an answer"


def chat(
    prompt: Annotated[
        str, typer.Argument(help="One question; left out: a conversation.", show_default=False)
    ] = "",
    model: Annotated[str, typer.Option("--model", "-m", help="The first when left out.")] = "",
    system: Annotated[str, typer.Option("--system", help="What the model is told first.")] = "",
    temperature: Annotated[
        float | None,
        typer.Option(min=0, max=2, help="0: always the likeliest word.", callback=finite),
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Of each answer.")] = None,
    base_url: BaseUrl = "",
    api_key: ApiKey = "",
    pool: ClusterPool = "",
    namespace: NamespaceOption = "",
    kubeconfig: KubeconfigOption = "",
) -> None:
    """Talk with a chat model; answers appear as they are made.

    In a pipe standard input is one question. The server is the one of --base-url or --pool, else
    what is found on this machine (`sage doctor` tells), else the only pool of the kubeconfig's
    cluster, else a provider whose key is set.
    """
    question = prompt
    is_conversation = not prompt and sys.stdin.isatty()
    if not prompt and not is_conversation:
        question = decode(sys.stdin.buffer.read(), "standard input").strip()
        if not question:
            raise WrongUse("there is no question: give one, or write it to standard input")
    with open_client(base_url, api_key, pool, namespace, kubeconfig) as client:
        conversation = _Conversation(client, model, system, temperature, max_tokens)
        if is_conversation:
            conversation.hold()
        else:
            conversation.ask(question)


class _Conversation:
    """The messages so far, and how to go on."""

    def __init__(
        self,
        client: "UnifiedInferenceClient",
        model: str,
        system: str,
        temperature: float | None,
        max_tokens: int | None,
    ) -> None:
        self._client = client
        self._model = model or None
        self._first = [{"role": "system", "content": system}] if system else []
        self._messages = list(self._first)
        self._parameters: ChatParameters = {}
        if temperature is not None:
            self._parameters["temperature"] = temperature
        if max_tokens is not None:
            self._parameters["max_tokens"] = max_tokens

    def hold(self) -> None:
        """Ask and answer until the person leaves."""
        from sagepool.errors import AuthenticationError, SagepoolError

        print(_HINT, file=sys.stderr)
        while True:
            try:
                question = _read_question().strip()
            except EOFError:
                print(file=sys.stderr)
                return
            if question == "/quit":
                return
            if question == "/new":
                self._messages = list(self._first)
            elif question:
                try:
                    self.ask(question)
                except KeyboardInterrupt:
                    print("\n(stopped)", file=sys.stderr)
                except AuthenticationError:
                    raise  # the next question would not get in either
                except SagepoolError as error:
                    print(f"sage: {error}", file=sys.stderr)

    def ask(self, question: str) -> None:
        """Print the answer as it comes and remember both; a failed one is forgotten."""
        asked = [*self._messages, {"role": "user", "content": question}]
        said: list[str] = []
        with self._client.chat(asked, model=self._model, stream=True, **self._parameters) as stream:
            for piece in stream:
                said.append(piece)
                sys.stdout.write(piece)
                sys.stdout.flush()
        print()
        self._messages = [*asked, {"role": "assistant", "content": "".join(said)}]


def _read_question() -> str:
    """A line of the person's; where the answers go into a pipe, the prompt does not."""
    if sys.stdout.isatty():
        return input(_PROMPT)
    print(_PROMPT, end="", file=sys.stderr, flush=True)
    return input()
