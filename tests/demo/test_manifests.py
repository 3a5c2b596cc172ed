import ast
from pathlib import Path

import sagepool_demo
from sagepool_demo.manifests import build_client
from sagepool_demo.story import CLIENT_MODULES

PACKAGE = Path(sagepool_demo.__file__).parent


def test_the_client_pod_keeps_to_the_restricted_standard() -> None:
    job = build_client("image:1", "http://rag-router/v1", "text.md", ("a", "b"), 5)
    pod = job["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


def test_the_modules_that_go_to_the_cluster_need_no_others_of_ours() -> None:
    for name in CLIENT_MODULES:
        tree = ast.parse((PACKAGE / f"{name}.py").read_text())
        imported = {
            node.module
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sagepool")
        }
        assert imported <= {f"sagepool_demo.{module}" for module in CLIENT_MODULES}
