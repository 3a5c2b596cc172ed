"""What the API server refuses of a group, each with the way out."""

from typing import Final

from sagepool_crds.markers import Rule
from sagepool_crds.pod_template import ENGINE_CONTAINER

NAMES: Final = "([{0}.name] + {0}.aliases)"
"""The names that a model answers to, as CEL."""

MIXED_MEMORY_FRACTION: Final = 0.9
"""Share of a GPU's memory that two processes on it take together, unless the group says another:
what one of them takes beside torch is no part of its own share."""
EMBEDDING_MEMORY_FRACTION: Final = 0.2
"""How much of it the one for embeddings takes."""
LEAST_MEMORY_FRACTION: Final = 0.05
"""What the other one is left of it at least: no engine does with less."""
_PAIR: Final = "(self.role == 'llm_embedding' && self.engine.type == 'vllm')"
"""Two processes in one container."""

GROUP_RULES: Final = (
    Rule(
        "self.name != 'router'",
        "the name router belongs to the pool's router: give the group another name",
        field_path=".name",
    ),
    Rule(
        "self.engine.type != 'tei' || self.role == 'embedding'",
        "tei serves embeddings only: set role to embedding, or engine.type to vllm",
        field_path=".engine.type",
    ),
    Rule(
        "self.engine.type == 'simulator' || has(self.model.uri)",
        "model.uri is missing: say what the engine loads, for example "
        "hf://Qwen/Qwen2.5-7B-Instruct",
        field_path=".model",
    ),
    Rule(
        "self.engine.type != 'simulator' || "
        "(!has(self.model.revision) && !has(self.model.tokenSecret) && "
        "!has(self.model.credentialsSecret))",
        "the simulator downloads nothing: remove model.revision, tokenSecret and credentialsSecret",
        field_path=".model",
    ),
    Rule(
        "!has(self.embeddingModel) || self.engine.type != 'simulator' || "
        "(!has(self.embeddingModel.revision) && !has(self.embeddingModel.tokenSecret) && "
        "!has(self.embeddingModel.credentialsSecret))",
        "the simulator downloads nothing: remove embeddingModel.revision, tokenSecret and "
        "credentialsSecret",
        field_path=".embeddingModel",
    ),
    Rule(
        "!has(self.model.uri) || self.model.uri.startsWith('hf://') || "
        "!has(self.model.tokenSecret) || self.adapters.size() > 0 || has(self.lora)",
        "only the hub asks for a token: remove model.tokenSecret",
        field_path=".model",
    ),
    Rule(
        "self.role == 'llm_embedding' || !has(self.embeddingModel)",
        "only role llm_embedding serves a second model: remove embeddingModel, or put it "
        "into a group of its own",
        field_path=".embeddingModel",
    ),
    Rule(
        "self.role != 'llm_embedding' || has(self.embeddingModel)",
        "embeddingModel is missing: role llm_embedding serves one model for chat (model) "
        "and one for embeddings; name the second, or set role to llm",
        field_path=".role",
    ),
    Rule(
        f"!has(self.embeddingModel) || !sets.intersects({NAMES.format('self.model')}, "
        f"{NAMES.format('self.embeddingModel')})",
        "embeddingModel repeats a name or alias of model: give it another, so that a name "
        "means one model",
        field_path=".embeddingModel",
    ),
    Rule(
        "self.role != 'embedding' || (self.adapters.size() == 0 && !has(self.lora))",
        "adapters answer chat: remove adapters and lora, or set role to llm",
        field_path=".adapters",
    ),
    Rule(
        "self.engine.type == 'vllm' || !has(self.gpu) || !has(self.gpu.memoryFraction)",
        "only vllm can be given a share of the GPU's memory: remove gpu.memoryFraction",
        field_path=".gpu",
    ),
    Rule(
        "self.engine.type == 'vllm' || !has(self.gpu) || !has(self.gpu.memory)",
        "only for vllm it is reckoned whether a model fits: remove gpu.memory",
        field_path=".gpu",
    ),
    Rule(
        f"{_PAIR} || self.engine.embeddingArgs.size() == 0",
        "only role llm_embedding on vllm has a second process: remove engine.embeddingArgs, or "
        "write them to engine.args",
        field_path=".engine.embeddingArgs",
    ),
    Rule(
        f"{_PAIR} || !has(self.gpu) || !has(self.gpu.embeddingMemoryFraction)",
        "only role llm_embedding on vllm shares its part of the GPU's memory out: remove "
        "gpu.embeddingMemoryFraction",
        field_path=".gpu.embeddingMemoryFraction",
    ),
    Rule(
        # The rounding of 0.25 - 0.2 must not be what refuses it.
        f"!{_PAIR} || !has(self.gpu) || "
        "double(has(self.gpu.embeddingMemoryFraction) ? self.gpu.embeddingMemoryFraction : "
        f"{EMBEDDING_MEMORY_FRACTION}) + {LEAST_MEMORY_FRACTION} <= "
        "double(has(self.gpu.memoryFraction) ? self.gpu.memoryFraction : "
        f"{MIXED_MEMORY_FRACTION}) + 0.000001",
        f"less than {LEAST_MEMORY_FRACTION} of the GPU is left for chat: lower "
        f"embeddingMemoryFraction ({EMBEDDING_MEMORY_FRACTION} if left out), or raise "
        f"memoryFraction ({MIXED_MEMORY_FRACTION} if left out)",
        field_path=".gpu",
    ),
    Rule(
        f"!{_PAIR} || self.engine.port < 65535",
        "the process for embeddings listens on the port after engine.port: set it to 65534 or less",
        field_path=".engine.port",
    ),
    Rule(
        f"!{_PAIR} || !has(self.podTemplate) || !has(self.podTemplate.spec) || "
        "!has(self.podTemplate.spec.containers) || self.podTemplate.spec.containers.all(c, "
        f"c.name != '{ENGINE_CONTAINER}' || (!has(c.command) && !has(c.args)))",
        "command and args of container engine start both processes of role llm_embedding: remove "
        "them, and set engine.args and engine.embeddingArgs",
        field_path=".podTemplate",
    ),
    Rule(
        "!has(self.embeddingModel) || self.engine.type == 'simulator' || "
        "has(self.embeddingModel.uri)",
        "embeddingModel.uri is missing: say what the engine loads, for example "
        "hf://BAAI/bge-small-en-v1.5",
        field_path=".embeddingModel",
    ),
    Rule(
        "!has(self.embeddingModel) || !has(self.embeddingModel.uri) || "
        "self.embeddingModel.uri.startsWith('hf://') || !has(self.embeddingModel.tokenSecret)",
        "only the hub asks for a token: remove embeddingModel.tokenSecret",
        field_path=".embeddingModel",
    ),
    Rule(
        "!has(self.replicas) || !has(self.scaling)",
        "replicas and scaling are both set: remove replicas to have the group scaled, or "
        "scaling to have a fixed number",
        field_path=".scaling",
    ),
    Rule(
        "self.role != 'embedding' || !has(self.scaling) || !has(self.scaling.target) || "
        "!has(self.scaling.target.ttftMs)",
        "embeddings have no first token: remove scaling.target.ttftMs, or scale by queuedTexts",
        field_path=".scaling.target.ttftMs",
    ),
    Rule(
        "self.role != 'llm' || !has(self.scaling) || !has(self.scaling.target) || "
        "!has(self.scaling.target.queuedTexts)",
        "only embeddings are counted in texts: remove scaling.target.queuedTexts, or "
        "scale by queuedRequests",
        field_path=".scaling.target.queuedTexts",
    ),
    Rule(
        "self.role == oldSelf.role",
        "a group's role cannot change: add a group with another name and remove this one",
        field_path=".role",
    ),
)
