"""What the pods of runs get on Kubernetes: processor, memory, GPU, and on which nodes they may be."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from al_pipeline.core.options import Options

NAME = r"[A-Za-z0-9]([-\w.]{0,61}[A-Za-z0-9])?"
KEY = rf"([a-z0-9]([-a-z0-9.]{{0,251}}[a-z0-9])?/)?{NAME}"
LABEL = re.compile(rf"(?P<key>{KEY})=(?P<value>({NAME})?)", re.ASCII)
TAINT = re.compile(
    rf"(?P<key>{KEY})(=(?P<value>({NAME})?))?:(?P<effect>NoSchedule|PreferNoSchedule|NoExecute)", re.ASCII
)


def _each(pattern: re.Pattern[str], such: str) -> AfterValidator:
    def check(text: str) -> str:
        for part in text.split(","):
            if pattern.fullmatch(part.strip()) is None:
                raise ValueError(f"{part.strip()!r} is not of the form {such}; several are set apart by commas")
        return text

    return AfterValidator(check)


class PodResources(Options):
    """What a pod asks for; what is not set is as the launcher of runs has it, in its dagster.yaml."""

    cpu: float | None = Field(
        default=None, gt=0, description="Cores that are kept for the pod; it computes with as many threads."
    )
    memory: str | None = Field(
        default=None,
        pattern=r"^[1-9]\d*(\.\d+)?(Mi|Gi|Ti|M|G|T)$",
        examples=["8Gi", "500Mi"],
        description="Memory that is kept for the pod, and above which it is ended.",
    )
    gpu: int = Field(default=0, ge=0, description="GPUs (`nvidia.com/gpu`) that the pod has for itself.")
    node_selector: Annotated[str, _each(LABEL, "label=value")] | None = Field(
        default=None,
        examples=["pool=gpu"],
        description="Labels of the nodes that the pod may be on: label=value, several set apart by commas.",
    )
    tolerations: Annotated[str, _each(TAINT, "taint:NoSchedule or taint=value:NoSchedule")] | None = Field(
        default=None,
        examples=["nvidia.com/gpu:NoSchedule"],
        description="Taints that the pod bears, as `kubectl taint` writes them: taint=value:effect or taint:effect, "
        "several set apart by commas.",
    )
    priority_class: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$",
        examples=["waits"],
        description="PriorityClass of the pod: with a low one it is ended where the pod of a round finds no place.",
    )

    def labels(self) -> dict[str, str]:
        """Return the labels that its node must have."""
        return {found["key"]: found["value"] for found in LABEL.finditer(self.node_selector or "")}

    def bears(self) -> list[dict[str, str]]:
        """Return the taints that it bears, as a pod has them."""
        found = [part.groupdict() for part in TAINT.finditer(self.tolerations or "")]
        return [
            {"key": part["key"], "effect": part["effect"]}
            | ({"operator": "Exists"} if part["value"] is None else {"operator": "Equal", "value": part["value"]})
            for part in found
        ]


class KubernetesOptions(Options):
    """What the pods of runs get on Kubernetes."""

    train: PodResources = Field(
        default=PodResources(),
        description="On Kubernetes, the pod of a run that trains, evaluates or is part of a study.",
    )
    features: PodResources = Field(
        default=PodResources(),
        description="On Kubernetes, the pod of a run that computes features, predicts or chooses a batch.",
    )
    refine: PodResources = Field(
        default=PodResources(),
        description="On Kubernetes, the pod of a run that refines a network while people label. While a round is due "
        "it waits, and keeps what it has.",
    )
