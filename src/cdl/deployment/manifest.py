"""The manifest of a stage: what runs with which resources, as a file in the repository.

deploy/reader.staging.yaml      {name, stage, model, replicas, port, cpus, runtime}
"""

from cdl import document
from cdl.deployment.base import Line
from cdl.workflow.workspace import Workspace


def write(workspace: Workspace, line: Line, stage: str, package: str) -> str:
    """Commits the manifest of a stage where it changed; the object of its bytes."""
    config = line.config.stages[stage]
    content = {
        "name": line.name,
        "stage": stage,
        "package": package,
        "replicas": config.replicas,
        "port": config.port,
        "resources": {"cpus": config.replicas, "gpus": 0},
        "runtime": "cdl serve",
    }
    data = document.write(content)
    workspace.registry.commit(
        files={path(line.name, stage): data},
        command="manifest",
        line=f"{line.name} at {stage}",
        branch=workspace.registry.integration,
    )
    return workspace.store.put(data)


def path(name: str, stage: str) -> str:
    """Where the manifest of a stage stands."""
    return f"deploy/{name}.{stage}.yaml"
