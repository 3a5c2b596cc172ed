"""What engines cost in time: the constants of the model, fitted to measurements (`calibration`)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Costs:
    """Of a 7B chat engine and a 335M embedding engine on one H100 class GPU. In seconds.

    A chat engine runs iterations: each makes one token for every sequence and reads prompt tokens
    up to what an iteration takes. An embedding engine has an HTTP front that handles one call at
    a time and then computes texts in iterations. Both engines on one GPU slow each other down.
    """

    chat_front_s: float = 0.003
    """Of the front, which is one process, for a chat request."""
    chat_step_s: float = 0.0058
    """An iteration that does nothing: the weights are read once."""
    chat_sequence_s: float = 0.00002
    """For each sequence of an iteration."""
    chat_token_s: float = 0.000028
    """For each prompt token of an iteration."""
    chat_iteration_tokens: int = 8192
    chat_sequences: int = 256
    """At a time; others wait in the engine."""

    embedding_call_s: float = 0.0013
    """Of the front, for a call."""
    embedding_text_s: float = 0.00132
    """Of the front, for a text."""
    embedding_text_delay_s: float = 0.0006
    """What a text adds to its call's way back; nobody else waits for it."""
    embedding_step_s: float = 0.002
    """An iteration on the GPU."""
    embedding_token_s: float = 0.0000025
    """For each token of an iteration."""
    embedding_iteration_tokens: int = 8192

    chat_slowed: float = 1.3
    """Chat takes so many times its time while texts are computed beside it..."""
    chat_slowed_a_sequence: float = 0.006
    """...and so much more for each of its sequences."""
    embedding_slowed: float = 1.3
    embedding_slowed_a_sequence: float = 0.04
    embedding_slowed_most: float = 2.8
    """Beside a chat iteration that reads prompts, or has very many sequences."""

    def chat_iteration(self, sequences: int, prompt_tokens: int) -> float:
        """An iteration of a chat engine that has the GPU for itself."""
        return (
            self.chat_step_s + sequences * self.chat_sequence_s + prompt_tokens * self.chat_token_s
        )

    def chat_slowdown(self, sequences: int) -> float:
        """How many times longer it takes beside a working embedding engine."""
        return self.chat_slowed + self.chat_slowed_a_sequence * min(sequences, 64)

    def embedding_front(self, texts: int) -> float:
        """A call in the front of an embedding engine."""
        return self.embedding_call_s + texts * self.embedding_text_s

    def embedding_iteration(self, tokens: int) -> float:
        """An iteration of an embedding engine that has the GPU for itself."""
        return self.embedding_step_s + tokens * self.embedding_token_s

    def embedding_slowdown(self, sequences: int, *, reads_prompts: bool) -> float:
        """How many times longer it takes beside a chat engine's iteration."""
        if reads_prompts:
            return self.embedding_slowed_most
        slowed = self.embedding_slowed + self.embedding_slowed_a_sequence * sequences
        return min(self.embedding_slowed_most, slowed)

    def chat_capacity(self, prompt_tokens: float, output_tokens: float) -> float:
        """Requests of such a size that a chat engine alone on its GPU completes a second."""
        full = self.chat_sequences
        step_s = self.chat_iteration(full, 0) / full
        return 1 / (output_tokens * step_s + prompt_tokens * self.chat_token_s)

    def embedding_capacity(self, texts: int = 32) -> float:
        """Texts a second of an embedding engine alone, in calls of so many."""
        return texts / self.embedding_front(texts)
