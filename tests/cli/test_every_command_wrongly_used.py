"""Each command, wrongly used in each way that it has: exit code 2 and one sentence, before anything
is asked or started; what is named and not there is exit code 3."""

import io
import sys
from pathlib import Path

import pytest
import typer

from sagepool.cli.app import app, run

NO_NAME = "is no name: write small letters, digits, - and ."
TWO = [
    ("chat hi there", "got unexpected extra argument(s) (there)"),
    ("chat hi --base-url nonsense", "base_url must be an http or https address"),
    ("chat hi --base-url http://127.0.0.1:99999", "is no address: Port out of range"),
    ("chat hi --base-url http://a --pool rag", "give --base-url or --pool, not both"),
    ("chat hi --base-url http://127.0.0.1:9 --api-key k\u00e9y", "must be printable ASCII"),
    ("chat hi --namespace a", "say where a cluster's pool is: name it with --pool"),
    ("chat hi --pool a/b", NO_NAME),
    ("chat hi --pool rag", "no Kubernetes cluster: this is no pod"),
    ("chat hi --temperature 3", "3.0 is not in the range 0<=x<=2"),
    ("chat hi --temperature nan", "nan is no number that can be used"),
    ("chat hi --max-tokens 0", "0 is not in the range x>=1"),
    ("chat", "there is no question"),
    ("embed {} --base-url http://127.0.0.1:9", "it is empty"),
    ("embed /tmp", "/tmp is a folder: name its files"),
    ("embed --batch 0", "0 is not in the range 1<=x<=2048"),
    ("embed - --namespace a", "say where a cluster's pool is: name it with --pool"),
    ("doctor all", "got unexpected extra argument(s) (all)"),
    ("doctor -o xml", "'xml' is not one of 'table', 'json', 'yaml'"),
    ("finetune serve {}", "it is empty"),
    ("inference config -o table", "a pool is no table"),
    ("inference logs --lines -1", "-1 is not in the range x>=0"),
    ("inference logs --pool ../a", "'../a' is no name of a pool"),
    ("inference restart rag --timeout nan", "nan is no number that can be used"),
    ("inference start", "say what to run: a pool file with --file, or --llm-model"),
    ("inference start -l m --timeout nan", "nan is no number that can be used"),
    ("inference start -l m --host nowhere.invalid --llm-backend simulator", "--host is"),
    ("inference start -l m -p 70000", "70000 is not in the range 1<=x<=65535"),
    ("inference status --watch", "--watch needs a terminal"),
    ("inference status a/b", "'a/b' is no name of a pool"),
    ("inference stop rag --all", "name a pool or give --all, not both"),
    ("instance drain {}", "it is empty"),
    ("instance list --pool a/b", NO_NAME),
    ("instance list --watch -o yaml", "--watch shows a table: leave --output out"),
    ("instance undrain ../a", NO_NAME),
    ("llm logs --port 0", "0 is not in the range 1<=x<=65535"),
    ("llm run {}", "it is empty"),
    ("llm run o/m --gpu-memory nan", "nan is no number that can be used"),
    ("llm status --port 99999", "99999 is not in the range 1<=x<=65535"),
    ("llm stop --port x", "'x' is not a valid int"),
    ("model download m", "'m' is no model: write OWNER/NAME"),
    ("model download a--b/c", "'a--b/c' is no model: write OWNER/NAME"),
    ("model list --pool rag --cluster", "name a pool with --pool or give --cluster for all"),
    ("model list --namespace a", "add --pool or --cluster, or leave them out"),
    ("model list --watch", "--watch needs a terminal"),
    ("model remove a/b/c", "'a/b/c' is no model: write OWNER/NAME"),
    ("pool apply", "missing option '--file'"),
    ("pool apply -f {}", "it is empty"),
    ("pool apply -f /tmp", "/tmp cannot be read: Is a directory"),
    ("pool delete {}", "it is empty"),
    ("pool delete *", NO_NAME),
    ("pool events rag --watch -o json", "--watch shows a table: leave --output out"),
    ("pool get a/b", NO_NAME),
    ("pool list -A -n a", "give --all-namespaces or --namespace, not both"),
    ("pool list -n A", NO_NAME),
    ("pool list --kubeconfig /tmp", "there is no kubeconfig at /tmp"),
    ("pool list", "no Kubernetes cluster: this is no pod"),
    ("pool scale rag chat", "'chat' is no size: write GROUP=N"),
    ("pool scale rag chat=1 chat=2", "group chat is given twice"),
    ("pool source rag both", "the source is 'both': write one of auto, local, cloud"),
    ("pool start {}", "it is empty"),
    ("pool stop {}", "it is empty"),
    ("pool top", "missing argument 'name'"),
    ("pool top rag --watch", "--watch needs a terminal"),
]
THREE = [
    ("embed /none", "there is no file /none"),
    ("finetune serve none", "there is no folder /"),
    ("inference config", "no pool runs here"),
    ("inference restart", "no pool runs here"),
    ("inference start -f /none", "there is no file /none"),
    ("inference status", "no pool runs here"),
    ("llm logs", "no engine runs here"),
    ("llm stop --port 8001", "no engine 8001 runs here"),
    ("model remove o/m", "no model o/m is in the cache"),
    ("pool apply -f /none", "there is no file /none"),
    ("pool list --kubeconfig /none", "there is no kubeconfig at /none"),
]


@pytest.fixture(autouse=True)
def _nothing_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "SAGE_UNIFIED_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SAGE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))


@pytest.mark.parametrize(
    ("code", "words", "says"),
    [*((2, *row) for row in TWO), *((3, *row) for row in THREE)],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_it_is_an_exit_code_and_a_sentence(
    capsys: pytest.CaptureFixture[str], code: int, words: str, says: str
) -> None:
    given = ["" if word == "{}" else word for word in words.split()]
    assert run(given) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("sage: ")
    assert says in err
    assert err.count("\n") == 1


def test_no_command_is_left_out() -> None:
    root = typer.main.get_command(app)
    named = set()
    for name, command in root.commands.items():  # type: ignore[attr-defined]
        below = getattr(command, "commands", {})
        named |= {f"{name} {one}" for one in below} or {name}
    used = {" ".join(words.split()[:2]) for words, _ in TWO} | {w.split()[0] for w, _ in TWO}
    assert named - used == set()
