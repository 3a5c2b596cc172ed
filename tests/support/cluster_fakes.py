"""Stand-ins for the machine, for programs and for progress."""

from collections.abc import Iterable
from pathlib import Path

from sagepool_cluster.config import ClusterConfig
from sagepool_cluster.errors import CommandFailed
from sagepool_cluster.prerequisites import Host


class Programs:
    """Answers commands by how they begin, and remembers them; others fail."""

    def __init__(self, answers: dict[str, str]) -> None:
        self._answers = answers
        self.commands: list[str] = []

    def run(self, command: Iterable[object], **_options: object) -> str:
        """Answer as the program would."""
        words = " ".join(str(word) for word in command)
        self.commands.append(words)
        for start, answer in self._answers.items():
            if words.startswith(start):
                return answer
        raise CommandFailed(f"`{words}` ended with 1: unexpected")


class Journal:
    """Keeps what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, message: str) -> None:
        """Keep the line."""
        self.lines.append(message)


def host(*programs: str, platform: str = "linux", user_id: int = 0) -> Host:
    """Return a machine with these programs."""
    paths = {program: f"/usr/bin/{program}" for program in programs}
    return Host(platform, user_id, paths.get)


def config(root: Path = Path("/state")) -> ClusterConfig:
    """Return a configuration below the folder."""
    return ClusterConfig(state=root / "cluster", cache=root / "cache")
