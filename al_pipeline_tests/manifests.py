"""deploy/kubernetes/ as `kubectl kustomize` builds it, without kubectl, and what in it must refer to each other.

Of Kustomize it knows what is used there, and no more: `test_kubernetes.py` holds it against the real one where that is.
"""

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parents[1] / "deploy" / "kubernetes"
Document = dict[str, Any]
KNOWN = {"apiVersion", "kind", "namespace", "resources", "generatorOptions", "configMapGenerator", "patches", "images"}
OF_NO_NAMESPACE = {"Namespace", "PriorityClass"}


def documents(file: Path) -> list[Document]:
    """Return the documents of a YAML file."""
    return [each for each in yaml.safe_load_all(file.read_text()) if each]


def build(folder: Path) -> list[Document]:
    """Return the documents that Kustomize makes of a folder."""
    [kustomization] = documents(folder / "kustomization.yaml")
    assert kustomization.keys() <= KNOWN, kustomization.keys() - KNOWN
    made: list[Document] = []
    for name in kustomization["resources"]:
        made += build(folder / name) if (folder / name).is_dir() else documents(folder / name)
    changed = {each["name"]: f"{each['newName']}:{each['newTag']}" for each in kustomization.get("images", [])}
    for container in (each for template in pods(made).values() for each in containers(template)):
        container["image"] = changed.get(container["image"].split(":")[0], container["image"])
    options = kustomization["generatorOptions"]
    assert options["disableNameSuffixHash"] is True
    for asked in kustomization.get("configMapGenerator", []):
        data = dict(_data(folder, asked))
        if asked.get("behavior") == "merge":
            named(made, "ConfigMap", asked["name"])["data"] |= data
        else:
            metadata = {"name": asked["name"], "labels": options["labels"]}
            made.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
    for patch in kustomization.get("patches", []):
        operations: Any = yaml.safe_load((folder / patch["path"]).read_text())
        if not isinstance(operations, list):
            assert operations.pop("$patch") == "delete"
            made.remove(named(made, operations["kind"], operations["metadata"]["name"]))
            continue
        for document in made:
            if document["kind"] == patch["target"]["kind"]:
                for each in operations:
                    assert each["op"] == "add"
                    *parents, last = each["path"].strip("/").split("/")
                    place: Any = document
                    for part in parents:
                        place = place[int(part) if part.isdigit() else part]
                    place[last] = deepcopy(each["value"])
    for document in made:
        if document["kind"] not in OF_NO_NAMESPACE:
            document["metadata"]["namespace"] = kustomization["namespace"]
        for subject in document.get("subjects", []):
            subject["namespace"] = kustomization["namespace"]
    return made


def _data(folder: Path, asked: Document) -> Iterator[tuple[str, str]]:
    assert asked.keys() <= {"name", "behavior", "files", "envs", "literals"}
    for name in asked.get("files", []):
        yield name, (folder / name).read_text()
    lines = [line for name in asked.get("envs", []) for line in (folder / name).read_text().splitlines()]
    for line in [*lines, *asked.get("literals", [])]:
        if line and not line.startswith("#"):
            name, _, value = line.partition("=")
            yield name, value


def named(made: list[Document], kind: str, name: str) -> Document:
    """Return the one document of a kind and name."""
    [found] = [each for each in made if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found


def pods(made: list[Document]) -> dict[str, Document]:
    """Return the templates of pods by the name of what starts them."""
    return {
        each["metadata"]["name"]: each["spec"]["template"] for each in made if each["kind"] in {"Deployment", "Job"}
    }


def containers(template: Document) -> list[Document]:
    """Return all containers of a pod."""
    return [*template["spec"].get("initContainers", []), *template["spec"]["containers"]]


def unmet(made: list[Document]) -> list[str]:
    """Return what refers to something that is not there, or that does not fit, in words."""
    names = {(each["kind"], each["metadata"]["name"]) for each in made}
    found = [
        f"{name}: no {kind} {wanted}"
        for name, template in pods(made).items()
        for kind, wanted in _wanted(template)
        if (kind, wanted) not in names
    ]
    found += [f"{name}: {why}" for name, template in pods(made).items() for why in _misfits(template, made)]
    for each in made:
        name = each["metadata"]["name"]
        if each["kind"] == "Service":
            meant = [
                pod
                for pod in pods(made).values()
                if each["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
            ]
            offered = {port["name"] for pod in meant for part in containers(pod) for port in part.get("ports", [])}
            found += [
                f"{name}: no port {port['targetPort']}"
                for port in each["spec"]["ports"]
                if port["targetPort"] not in offered
            ]
        if (
            each["kind"] == "Deployment"
            and each["spec"]["selector"]["matchLabels"] != each["spec"]["template"]["metadata"]["labels"]
        ):
            found.append(f"{name}: its selector is of other pods")
        if each["kind"] == "RoleBinding":
            wanted = [each["roleRef"], *each["subjects"]]
            found += [
                f"{name}: no {ref['kind']} {ref['name']}" for ref in wanted if (ref["kind"], ref["name"]) not in names
            ]
    return found


def _wanted(template: Document) -> Iterator[tuple[str, str]]:
    spec = template["spec"]
    yield "ServiceAccount", spec["serviceAccountName"]
    if "priorityClassName" in spec:
        yield "PriorityClass", spec["priorityClassName"]
    for volume in spec["volumes"]:
        if "configMap" in volume:
            yield "ConfigMap", volume["configMap"]["name"]
        elif "emptyDir" not in volume:
            yield "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]
    for container in containers(template):
        for source in container.get("envFrom", []):
            for key, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
                if key in source:
                    yield kind, source[key]["name"]


def _misfits(template: Document, made: list[Document]) -> Iterator[str]:
    volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
    for container in containers(template):
        for mount in container["volumeMounts"]:
            volume = volumes.get(mount["name"])
            if volume is None:
                yield f"no volume {mount['name']}"
            elif (
                "configMap" in volume
                and mount["subPath"] not in named(made, "ConfigMap", volume["configMap"]["name"])["data"]
            ):
                yield f"no key {mount['subPath']}"
        ports = {value for port in container.get("ports", []) for value in (port["name"], port["containerPort"])}
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            for way in ("httpGet", "grpc"):
                if (port := container.get(kind, {}).get(way, {}).get("port", None)) and port not in ports:
                    yield f"{kind} asks at no port of its own"


def unrestricted(template: Document) -> list[str]:
    """Return what of a pod the profile `restricted` of Pod Security refuses."""
    spec = template["spec"]
    pod = spec.get("securityContext", {})
    found = [] if pod.get("runAsNonRoot") and pod.get("runAsUser", 1) != 0 else ["it may be root"]
    if pod.get("seccompProfile", {}).get("type") not in {"RuntimeDefault", "Localhost"}:
        found.append("no seccomp profile")
    found += [f"hosts's {key}" for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key)]
    allowed = {"name", "configMap", "secret", "emptyDir", "persistentVolumeClaim", "projected", "downwardAPI", "csi"}
    found += [f"volume {each['name']}" for each in spec.get("volumes", []) if each.keys() - allowed]
    for container in containers(template):
        context = container.get("securityContext", {})
        if context.get("allowPrivilegeEscalation") is not False or context.get("privileged"):
            found.append(f"{container['name']} may gain privileges")
        capabilities = context.get("capabilities", {})
        if capabilities.get("drop") != ["ALL"] or set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
            found.append(f"{container['name']} keeps capabilities")
    return found
