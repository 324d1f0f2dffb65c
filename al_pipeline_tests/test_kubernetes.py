"""deploy/kubernetes/ without a cluster: its schemas, what refers to what, and the Jobs that runs become."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import kubernetes
import kubernetes_validate
import pytest
import yaml
from dagster import DagsterRunStatus as Status
from dagster._config import process_config
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.launcher import LaunchRunContext
from dagster._core.launcher.base import WorkerStatus
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.storage.event_log import InMemoryEventLogStorage
from dagster._daemon.monitoring.run_monitoring import monitor_started_run
from kubernetes.utils.quantity import parse_quantity

from al_pipeline.core.data.places import Place
from al_pipeline.defs import build as build_definitions
from al_pipeline.defs.pods import GROUPS, TAG
from al_pipeline.servers.kubernetes import RunLauncher, together
from al_pipeline.servers.orphans import end_orphaned_runs
from al_pipeline.settings import load_settings
from al_pipeline_tests.buckets import bucket_server
from al_pipeline_tests.cluster import Cluster, cluster_of
from al_pipeline_tests.compose import ROOT, Compose, image_environment, interpolated
from al_pipeline_tests.manifests import FOLDER, Document, build, containers, documents, named, pods, unmet, unrestricted
from al_pipeline_tests.templates import new_instance

# The first with probes by gRPC as they are, and the newest that the schemas know.
VERSIONS = ("1.27", kubernetes_validate.latest_version())
SECRETS = documents(FOLDER / "secrets.example.yaml")
NAMESPACE = "al-pipeline"


@pytest.fixture(scope="module", params=["base", "gpu", "buckets"])
def made(request: pytest.FixtureRequest) -> list[Document]:
    return build(FOLDER / request.param)


@pytest.fixture
def base() -> list[Document]:
    return build(FOLDER / "base")


def kubectl() -> str | None:
    """Return kubectl where it has a Kustomize of today: since 1.21."""
    found = shutil.which("kubectl")
    told = (
        subprocess.run([found, "version", "--client"], capture_output=True, text=True, check=False).stdout
        if found
        else ""
    )
    version = re.search(r"v1\.(\d+)", told)
    return found if version is not None and int(version[1]) >= 21 else None


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The overlay of docs/production.md, beside a copy of ours."""
    folder = tmp_path_factory.mktemp("deploy") / "kubernetes"
    shutil.copytree(FOLDER, folder)
    (folder / "mine").mkdir()
    (folder / "mine" / "kustomization.yaml").write_text(example("# deploy/kubernetes/mine/kustomization.yaml"))
    return folder / "mine"


def example(first: str) -> str:
    """Return the YAML of docs/production.md that begins with a line."""
    docs = (ROOT / "docs" / "production.md").read_text()
    [found] = re.findall(rf"```yaml\n({re.escape(first)}.*?)```", docs, re.DOTALL)
    return found


@pytest.mark.parametrize("name", ["base", "gpu", "buckets", "mine"])
def test_kustomize_builds_the_same(name: str, mine: Path) -> None:
    folder = mine.parent / name
    command = kubectl()
    if command is None:
        pytest.skip("no kubectl of 1.21 or newer: the other tests go by what is built of deploy/kubernetes/ without it")
    done = subprocess.run([command, "kustomize", folder], capture_output=True, text=True, check=True)

    def sorted_by_name(each: Document) -> tuple[str, str]:
        return each["kind"], each["metadata"]["name"]

    theirs = sorted((each for each in yaml.safe_load_all(done.stdout) if each), key=sorted_by_name)
    assert theirs == sorted(build(folder), key=sorted_by_name)
    assert "deprecated" not in done.stderr


def refused(document: Document) -> str | None:
    """Return what the schemas of Kubernetes say against a document; an unknown kind is none of theirs."""
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
            return str(error.message)
    return None


def test_every_document_is_as_the_schemas_of_kubernetes_have_it(base: list[Document]) -> None:
    for document in [*base, *SECRETS]:
        assert refused(document) is None, document["metadata"]["name"]
    kinds = {document["kind"] for document in base}
    assert {"Deployment", "Job", "Service", "Role", "NetworkPolicy", "PersistentVolumeClaim"} <= kinds
    # The overlay changes settings alone.
    changed = [each for each in build(FOLDER / "gpu") if each not in base]
    assert [(each["kind"], each["metadata"]["name"]) for each in changed] == [("ConfigMap", "settings")]
    assert refused(changed[0]) is None


def test_pods_that_share_buckets_have_no_volume_in_common(base: list[Document]) -> None:
    made = build(FOLDER / "buckets")
    gone = [(each["kind"], each["metadata"]["name"]) for each in base]
    for each in made:
        assert refused(each) is None, each["metadata"]["name"]
        gone.remove((each["kind"], each["metadata"]["name"]))
    assert gone == [("PersistentVolumeClaim", "files")]
    instance = yaml.safe_load(named(made, "ConfigMap", "instance")["data"]["dagster.yaml"])
    launcher = instance["run_launcher"]["config"]
    for volumes in (launcher["volumes"], *(template["spec"]["volumes"] for template in pods(made).values())):
        assert volumes == [{"name": "instance", "configMap": {"name": "instance"}}, {"name": "files", "emptyDir": {}}]
    # All else is as in the base.
    theirs = yaml.safe_load((FOLDER / "base" / "dagster.yaml").read_text())
    launcher["volumes"] = theirs["run_launcher"]["config"]["volumes"]
    del instance["compute_logs"]
    assert instance == theirs
    for name, template in pods(made).items():
        template["spec"]["volumes"] = pods(base)[name]["spec"]["volumes"]
        assert template == pods(base)[name]


def test_what_a_pod_prints_is_read_elsewhere(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = yaml.safe_load((FOLDER / "buckets" / "dagster.yaml").read_text())["compute_logs"]
    told["config"]["local_dir"] = str(tmp_path / "printed")
    with bucket_server(tmp_path_factory.mktemp("buckets")) as server, monkeypatch.context() as patch:
        for name, value in {**server.environment, "COMPUTE_LOGS_BUCKET": "logs"}.items():
            patch.setenv(name, value)
        Place("s3://logs").put("made", b"")

        @dg.op
        def says() -> None:
            print("said in a pod")

        @dg.job
        def saying() -> None:
            says()

        folders = [tmp_path / name for name in ("pod", "web")]
        for folder in folders:
            new_instance(folder)
        pod, web = (dg.DagsterInstance.local_temp(str(each), overrides={"compute_logs": told}) for each in folders)
        with pod, web:
            run_id = saying.execute_in_process(instance=pod).run_id
            shutil.rmtree(tmp_path / "printed")
            [record] = pod.get_records_for_run(run_id, of_type=dg.DagsterEventType.LOGS_CAPTURED).records
            captured = record.event_log_entry.dagster_event.logs_captured_data  # type: ignore[union-attr]
            key = web.compute_log_manager.build_log_key_for_run(run_id, captured.file_key)
            assert b"said in a pod" in (web.compute_log_manager.get_log_data(key).stdout or b"")
            assert [e.key for e in Place("s3://logs").entries() if e.key.startswith("printed/")]


@pytest.mark.parametrize(
    ("kind", "name", "path", "typo"),
    [
        ("Deployment", "code-server", "spec.template.spec.containers.0", "imagePullPolcy"),
        ("Deployment", "code-server", "spec.template.spec.containers.0.livenessProbe", "timeoutSecond"),
        ("Deployment", "page", "spec.template.spec.securityContext", "runAsNonroot"),
        ("Job", "migration", "spec", "backofflimit"),
        ("Service", "webserver", "spec.ports.0", "targetport"),
        ("Role", "launcher", "rules.0", "verb"),
        ("PersistentVolumeClaim", "files", "spec", "accessMode"),
        ("NetworkPolicy", "own-pods-alone", "spec", "ingres"),
        ("PriorityClass", "al-pipeline-waits", "", "preemption"),
    ],
)
def test_a_field_that_is_misspelt_is_refused(kind: str, name: str, path: str, typo: str, base: list[Document]) -> None:
    place: Any = named(base, kind, name)
    for part in filter(None, path.split(".")):
        place = place[int(part) if part.isdigit() else part]
    place[typo] = "x"
    assert typo in (refused(named(base, kind, name)) or "")


def test_a_kind_that_is_misspelt_is_refused(base: list[Document]) -> None:
    assert "Deploymnt" in (refused(named(base, "Deployment", "page") | {"kind": "Deploymnt"}) or "")


def test_all_that_is_referred_to_is_there(made: list[Document]) -> None:
    assert unmet([*made, *SECRETS]) == []
    assert [why for template in pods(made).values() for why in unrestricted(template)] == []
    namespaces = {each["metadata"].get("namespace") for each in [*made, *SECRETS]}
    assert namespaces == {NAMESPACE, None}


def test_the_overlay_of_the_docs_has_one_image_and_settings_that_exist(
    mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = build(mine)
    assert unmet([*made, *SECRETS]) == []
    images = {part["image"] for name, pod in pods(made).items() if name != "label-studio" for part in containers(pod)}
    assert images == {named(made, "ConfigMap", "dagster")["data"]["DAGSTER_CURRENT_IMAGE"]}
    told = named(made, "ConfigMap", "settings")["data"]
    own = {
        key: told[key] for key in told.keys() - named(build(FOLDER / "base"), "ConfigMap", "settings")["data"].keys()
    }
    for key, value in own.items():
        monkeypatch.setenv(key, value)
    assert load_settings().classes == ["muffin", "chihuahua"]


def test_the_values_for_dagsters_chart_are_a_launcher_that_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    launcher = yaml.safe_load(example("# dagster/dagster"))["runLauncher"]["config"]["customRunLauncher"]
    assert (launcher["module"], launcher["class"]) == (RunLauncher.__module__, RunLauncher.__name__)
    # The chart's own variables, in the pods of the daemon and the web server.
    for name in ("DAGSTER_HOME", "DAGSTER_K8S_INSTANCE_CONFIG_MAP", "DAGSTER_K8S_PG_PASSWORD_SECRET"):
        monkeypatch.setenv(name, "x")
    checked = process_config({"launcher": dg.Field(RunLauncher.config_type())}, {"launcher": launcher["config"]})
    assert checked.success, checked.errors


def changed(kind: str, name: str, path: str, value: object) -> Callable[[list[Document]], None]:
    def change(made: list[Document]) -> None:
        *parents, last = path.split(".")
        place: Any = named(made, kind, name)
        for part in parents:
            place = place[int(part) if part.isdigit() else part]
        place[int(last) if last.isdigit() else last] = value

    return change


POD = "spec.template.spec"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (changed("Service", "page", "spec.selector", {"app": "pages"}), "page: no port http"),
        (changed("Service", "webserver", "spec.ports.0.targetPort", "https"), "webserver: no port https"),
        (changed("Deployment", "daemon", "spec.selector.matchLabels", {"app": "demon"}), "daemon: its selector"),
        (
            changed("Deployment", "page", f"{POD}.containers.0.envFrom.1.secretRef.name", "secret"),
            "page: no Secret secret",
        ),
        (
            changed("Deployment", "page", f"{POD}.containers.0.envFrom.2.configMapRef.name", "al"),
            "page: no ConfigMap al",
        ),
        (changed("Deployment", "page", f"{POD}.serviceAccountName", "works"), "page: no ServiceAccount works"),
        (changed("Deployment", "page", f"{POD}.volumes.1.name", "home"), "page: no volume files"),
        (
            changed("Deployment", "page", f"{POD}.containers.0.volumeMounts.0.subPath", "dagster"),
            "page: no key dagster",
        ),
        (changed("Deployment", "page", f"{POD}.containers.0.livenessProbe.httpGet.port", 80), "livenessProbe asks"),
        (
            changed("Deployment", "code-server", f"{POD}.containers.0.readinessProbe.grpc.port", 1),
            "readinessProbe asks",
        ),
        (
            changed("Job", "migration", f"{POD}.volumes.1.persistentVolumeClaim.claimName", "al"),
            "PersistentVolumeClaim al",
        ),
        (changed("RoleBinding", "launcher", "roleRef.name", "launch"), "launcher: no Role launch"),
    ],
)
def test_what_refers_to_nothing_is_found(
    change: Callable[[list[Document]], None], said: str, base: list[Document]
) -> None:
    change(base)
    assert any(said in each for each in unmet([*base, *SECRETS]))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (changed("Deployment", "page", f"{POD}.securityContext.runAsUser", 0), "root"),
        (changed("Deployment", "page", f"{POD}.securityContext.seccompProfile", {}), "seccomp"),
        (changed("Deployment", "page", f"{POD}.hostNetwork", True), "hostNetwork"),
        (
            changed("Deployment", "page", f"{POD}.volumes.1", {"name": "files", "hostPath": {"path": "/"}}),
            "volume files",
        ),
        (changed("Job", "migration", f"{POD}.initContainers.0.securityContext", {}), "folders may gain"),
        (changed("Deployment", "page", f"{POD}.containers.0.securityContext.capabilities", {}), "capabilities"),
    ],
)
def test_what_pod_security_refuses_is_found(
    change: Callable[[list[Document]], None], said: str, base: list[Document]
) -> None:
    change(base)
    assert any(said in each for template in pods(base).values() for each in unrestricted(template))


# Compose's services and settings, with what is usual where .env says nothing.
SERVICES = Compose(ROOT, {}, "127.77.0", {}).services
ENV: dict[str, str] = {
    **dict.fromkeys(("POSTGRES_PASSWORD", "AL_LABEL_STUDIO_TOKEN"), "given"),
    **dict.fromkeys(("LABEL_STUDIO_USERNAME", "LABEL_STUDIO_PASSWORD"), "given"),
}


def environment(template: Document, made: list[Document]) -> dict[str, str]:
    """Return the variables of a pod that come from ConfigMaps and Secrets."""
    found: dict[str, str] = {}
    for source in template["spec"]["containers"][0]["envFrom"]:
        if "configMapRef" in source:
            found |= named(made, "ConfigMap", source["configMapRef"]["name"])["data"]
        else:
            found |= named(SECRETS, "Secret", source["secretRef"]["name"])["stringData"]
    return found


# On Compose alone: an optional service's, and what leads to its own PostgreSQL.
COMPOSES = {
    "AL_WEBHOOK_URL",
    "AL_DATABASE_URL",
    "AL_LABEL_STUDIO_DATABASE_URL",
    "POSTGRE_HOST",
    "DAGSTER_POSTGRES_HOST",
}
KUBERNETES = {"DAGSTER_CURRENT_IMAGE", "SECRET_KEY", "AL_KUBERNETES__REFINE__PRIORITY_CLASS", "HF_HOME"}


def test_the_services_are_of_compose_with_their_commands_variables_and_memory(base: list[Document]) -> None:
    usual = {name: service for name, service in SERVICES.items() if "profiles" not in service and name != "postgres"}
    found = pods(base)
    assert found.keys() == usual.keys()
    for name, service in usual.items():
        [container] = found[name]["spec"]["containers"]
        command = container.get("command") or container["args"]
        # The folders are an initContainer's.
        theirs = [interpolated(word, ENV).removeprefix('chmod 700 "$AL_HOME"; ') for word in service["command"]]
        assert command == theirs, name
        # Runs are pods of their own.
        memory = "4g" if name == "code-server" else interpolated(service["mem_limit"], {})
        assert container["resources"]["limits"]["memory"] == memory.replace("g", "Gi"), name
        assert container["image"] == service["image"]
        ours = environment(found[name], base)
        theirs = {key: interpolated(value, ENV) for key, value in service["environment"].items()}
        assert ours.keys() - theirs.keys() <= KUBERNETES, name
        assert theirs.keys() - ours.keys() <= COMPOSES, name
        # Of a secret it is known that there is one.
        same = {key for key, value in theirs.items() if key in ours and key not in COMPOSES and "given" not in value}
        assert {key: ours[key] for key in same} == {key: theirs[key] for key in same}, name


def test_only_what_loads_our_code_has_our_settings_and_only_what_launches_talks_to_kubernetes(
    base: list[Document],
) -> None:
    for name, template in pods(base).items():
        told = environment(template, base)
        assert ("AL_HOME" in told) == (name not in {"webserver", "daemon", "label-studio"})
        # The migration makes a launcher, to tell how it is configured.
        launches = name in {"webserver", "daemon", "migration"}
        assert (template["spec"]["serviceAccountName"] == "launcher") == launches
        assert [each["name"] for each in template["spec"]["containers"][0].get("env", [])] == [
            "POD_NAMESPACE"
        ] * launches
        assert template["spec"]["enableServiceLinks"] is False
    assert named(base, "ServiceAccount", "worker")["automountServiceAccountToken"] is False


def test_every_setting_exists_and_makes_a_pod_that_the_overlay_names(
    made: list[Document], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    told = environment(pods(made)["code-server"], made)
    for name in [name for name in os.environ if name.startswith("AL_")]:
        monkeypatch.delenv(name)
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert str(settings.home) == "/al"
    assert str(settings.images) == ("/images" if settings.artifacts is None else "s3://example-images")
    assert (
        settings.kubernetes.refine.priority_class
        == named(made, "PriorityClass", "al-pipeline-waits")["metadata"]["name"]
    )
    gpus = {settings.kubernetes.train.gpu, settings.kubernetes.features.gpu}
    assert gpus == ({1} if "AL_KUBERNETES__TRAIN__GPU" in told else {0})


def test_dagster_is_as_everywhere_but_for_its_launcher_and_the_time_that_pods_take_to_start() -> None:
    ours = yaml.safe_load((FOLDER / "base" / "dagster.yaml").read_text())
    theirs = yaml.safe_load((ROOT / "dagster.yaml").read_text() + (ROOT / "deploy" / "storage.yaml").read_text())
    assert ours.pop("run_launcher")["class"] == RunLauncher.__name__
    assert ours["run_monitoring"].pop("start_timeout_seconds") > theirs["run_monitoring"].pop("start_timeout_seconds")
    assert ours == theirs


def test_the_code_server_is_found_where_the_workspace_and_the_probes_look() -> None:
    [found] = yaml.safe_load((ROOT / "deploy" / "workspace.yaml").read_text())["load_from"]
    service = named(build(FOLDER / "base"), "Service", "code-server")
    assert (found["grpc_server"]["host"], found["grpc_server"]["port"]) == (
        "code-server",
        service["spec"]["ports"][0]["port"],
    )


def test_the_docs_tell_what_it_asks_for_at_rest(base: list[Document]) -> None:
    asked = [each for name, pod in pods(base).items() if name != "migration" for each in pod["spec"]["containers"]]
    cores, memory = (
        sum(parse_quantity(each["resources"]["requests"][kind]) for each in asked) for kind in ("cpu", "memory")
    )
    assert f"{cores:.1f} cores and {memory / 2**30:.1f} GB at rest" in (ROOT / "docs" / "production.md").read_text()


# What a deployment sets, and the tags that follow.
ASKED: dict[str, Any] = {
    "train": {
        "cpu": 4,
        "memory": "8Gi",
        "gpu": 1,
        "node_selector": "pool=gpu",
        "tolerations": "nvidia.com/gpu:NoSchedule",
    },
    "features": {"cpu": 2, "memory": "12Gi", "tolerations": "nvidia.com/gpu:NoSchedule,spot=yes:NoExecute"},
    "refine": {"cpu": 0.5, "priority_class": "al-pipeline-waits"},
}


def definitions(folder: Path, **asked: Any) -> dg.Definitions:
    return build_definitions(load_settings(home=folder / "al", kubernetes=asked, compute={"engine": "parts"}))


@pytest.fixture(scope="module")
def defs(tmp_path_factory: pytest.TempPathFactory) -> dg.Definitions:
    return definitions(tmp_path_factory.mktemp("kubernetes"), **ASKED)


@contextmanager
def deployed(folder: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """Make Dagster's instance as the daemon has it, but for PostgreSQL."""
    told = yaml.safe_load((FOLDER / "base" / "dagster.yaml").read_text())
    del told["storage"]
    # A database for the events of each run takes half a second.
    told["event_log_storage"] = {
        "module": InMemoryEventLogStorage.__module__,
        "class": InMemoryEventLogStorage.__name__,
    }
    new_instance(folder)
    (folder / "dagster.yaml").write_text(yaml.safe_dump(told))
    monkeypatch.setenv("POD_NAMESPACE", NAMESPACE)

    def load_incluster_config() -> None:
        kubernetes.client.Configuration.set_default(kubernetes.client.Configuration(host=cluster.url))

    monkeypatch.setattr(kubernetes.config, "load_incluster_config", load_incluster_config)
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        yield instance


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with cluster_of(named(build(FOLDER / "base"), "Role", "launcher")["rules"]) as cluster:
        yield cluster


def new_run(
    instance: dg.DagsterInstance,
    job: dg.JobDefinition,
    assets: set[str] | None = None,
    tags: dict[str, str] | None = None,
) -> dg.DagsterRun:
    """Return a run as the code server's origin makes it, with the image that it is told."""
    image = named(build(FOLDER / "base"), "ConfigMap", "dagster")["data"]["DAGSTER_CURRENT_IMAGE"]
    pointer = ModuleCodePointer("al_pipeline.definitions", "defs", "/dagster")
    python = RepositoryPythonOrigin(sys.executable, pointer, container_image=image, entry_point=["dagster"])
    server = GrpcServerCodeLocationOrigin(host="code-server", port=4000, location_name="al_pipeline")
    subset = job.get_subset(asset_selection={dg.AssetKey(each) for each in assets}) if assets else job
    return instance.create_run_for_job(
        subset,
        tags={"dagster/partition": "r0000"} | (tags or {}),
        job_code_origin=JobPythonOrigin(job.name, python),
        remote_job_origin=RemoteJobOrigin(RemoteRepositoryOrigin(server, "__repository__"), job.name),
    )


def launched(instance: dg.DagsterInstance, run: dg.DagsterRun, cluster: Cluster) -> Document:
    """Launch a run, and return the Job that the cluster was given."""
    instance.run_launcher.launch_run(LaunchRunContext(run, workspace=None))
    return cluster.jobs[f"dagster-run-{run.run_id}"]


def resources(job: Document) -> Document:
    return job["spec"]["template"]["spec"]["containers"][0]["resources"]


def test_without_settings_there_are_no_tags_and_with_them_every_op_that_computes_has_its_own(
    tmp_path: Path, defs: dg.Definitions
) -> None:
    def tags(found: dg.Definitions) -> dict[str, Any]:
        nodes = {node.name: node.definition for job in found.get_repository_def().get_all_jobs() for node in job.nodes}
        return {name: json.loads(node.tags[TAG]) for name, node in nodes.items() if TAG in node.tags}

    assert tags(definitions(tmp_path)) == {}
    found = tags(defs)
    assert found.keys() == GROUPS.keys()
    torch = {
        key.to_user_string()
        for key, node in ((n.key, n) for n in defs.resolve_asset_graph().asset_nodes)
        if "pytorch" in node.kinds
    }
    assert found.keys() >= torch
    assert found["checkpoint"] == {
        "container_config": {
            "resources": {"requests": {"cpu": "4", "memory": "8Gi"}, "limits": {"memory": "8Gi", "nvidia.com/gpu": "1"}}
        },
        "pod_spec_config": {
            "node_selector": {"pool": "gpu"},
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
        },
    }
    assert found["refined_checkpoint"]["pod_spec_config"] == {"priority_class_name": "al-pipeline-waits"}


def test_every_run_becomes_a_job_that_kubernetes_takes_with_what_its_steps_ask_for(
    tmp_path: Path, cluster: Cluster, defs: dg.Definitions, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = build(FOLDER / "base")
    repository = defs.get_repository_def()
    with deployed(tmp_path, cluster, monkeypatch) as instance:
        instance.add_dynamic_partitions("round", ["r0000"])
        jobs = {
            name: launched(instance, new_run(instance, repository.get_job(name)), cluster)
            for name in ("setup", "round", "retrain", "refine", "next_round", "draw_learning_curve", "simulate")
        }
        # "Materialize" in the UI, of one asset.
        by_hand = new_run(instance, repository.get_job("__ASSET_JOB"), {"checkpoint"})
        jobs["by hand"] = launched(instance, by_hand, cluster)
        told = {TAG: json.dumps({"container_config": {"resources": {"limits": {"memory": "99Gi"}}}})}
        jobs["told"] = launched(instance, new_run(instance, repository.get_job("retrain"), tags=told), cluster)
    usual = yaml.safe_load((FOLDER / "base" / "dagster.yaml").read_text())["run_launcher"]["config"]["resources"]
    for name, job in jobs.items():
        assert refused(job) is None, name
        template = job["spec"]["template"]
        assert unrestricted(template) == [], name
        assert unmet([*base, *SECRETS, job]) == [], name
        assert template["spec"]["automountServiceAccountToken"] is False
        assert template["spec"]["containers"][0]["args"][:3] == ["dagster", "api", "execute_run"]
        assert template["spec"]["containers"][0]["image"] == "al_pipeline:latest"
    for name in ("next_round", "draw_learning_curve"):
        assert resources(jobs[name]) == usual
        assert "tolerations" not in jobs[name]["spec"]["template"]["spec"]
    both = {"requests": {"cpu": "4", "memory": "12Gi"}, "limits": {"memory": "12Gi", "nvidia.com/gpu": "1"}}
    assert resources(jobs["round"]) == both
    pod = jobs["round"]["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"pool": "gpu"}
    assert [each["key"] for each in pod["tolerations"]] == ["nvidia.com/gpu", "spot"]
    assert {"name": "OMP_NUM_THREADS", "value": "4"} in pod["containers"][0]["env"]
    trains = {"requests": {"cpu": "4", "memory": "8Gi"}, "limits": {"memory": "8Gi", "nvidia.com/gpu": "1"}}
    assert resources(jobs["retrain"]) == resources(jobs["simulate"]) == resources(jobs["by hand"]) == trains
    assert resources(jobs["setup"]) == {"requests": {"cpu": "2", "memory": "12Gi"}, "limits": {"memory": "12Gi"}}
    refines = jobs["refine"]["spec"]["template"]["spec"]
    assert refines["priorityClassName"] == "al-pipeline-waits"
    assert resources(jobs["refine"]) == {"requests": {"cpu": "0.5", "memory": "4Gi"}, "limits": {"memory": "4Gi"}}
    assert {"name": "OMP_NUM_THREADS", "value": "1"} in refines["containers"][0]["env"]
    # What somebody types for one run counts alone.
    assert resources(jobs["told"])["limits"] == {"memory": "99Gi"}


def test_a_run_writes_where_the_others_read(base: list[Document]) -> None:
    launcher = yaml.safe_load((FOLDER / "base" / "dagster.yaml").read_text())["run_launcher"]["config"]

    def places(mounts: list[Document]) -> dict[str, tuple[str, str]]:
        return {mount["mountPath"]: (mount["name"], mount["subPath"]) for mount in mounts}

    run = places(launcher["volume_mounts"])
    assert run == places(containers(pods(base)["code-server"])[0]["volumeMounts"])
    settings = load_settings(home="/al")
    # Where Dagster keeps what steps hand to each other and what runs print, and what it calls that by itself.
    inside = image_environment((ROOT / "deploy" / "Dockerfile").read_text())
    assert launcher["dagster_home"] == inside["DAGSTER_HOME"]
    volume, folder = run[f"{inside['DAGSTER_HOME']}/storage"]
    assert run[inside["AL_HOME"]] == (volume, folder.split("/")[0])
    assert f"/al/{folder.removeprefix('home/')}" == str(settings.dagster_home / "storage")
    others = {name: places(containers(template)[-1]["volumeMounts"]) for name, template in pods(base).items()}
    assert others["webserver"].items() <= run.items()
    assert others["label-studio"]["/al/published"] == (volume, "home/published")
    # All that a volume is asked for is made before.
    [folders] = pods(base)["migration"]["spec"]["initContainers"]
    asked = {where for mounts in (run, *others.values()) for name, where in mounts.values() if name == volume}
    assert all(f" {each}" in folders["command"][-1] for each in asked if each != "home"), asked


def started(instance: dg.DagsterInstance, job: dg.JobDefinition, cluster: Cluster) -> dg.DagsterRun:
    """Return a run whose pod has begun."""
    run = new_run(instance, job)
    launched(instance, run, cluster)
    begun = instance.get_run_by_id(run.run_id)
    assert begun is not None
    for event in (dg.DagsterEventType.RUN_STARTING, dg.DagsterEventType.RUN_START):
        instance.report_dagster_event(dg.DagsterEvent(event.value, job.name, message=""), run.run_id)
    return instance.get_run_by_id(run.run_id)  # type: ignore[return-value]


def test_only_the_cluster_ends_a_run_and_the_launcher_needs_all_that_its_role_allows(
    tmp_path: Path,
    cluster: Cluster,
    defs: dg.Definitions,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    job = defs.get_job_def("next_round")
    with deployed(tmp_path, cluster, monkeypatch) as instance:
        [lives, dies, gone, canceled] = [started(instance, job, cluster) for _ in range(4)]
        launcher = instance.run_launcher

        def look(run: dg.DagsterRun) -> Status:
            record = instance.get_run_records(dg.RunsFilter(run_ids=[run.run_id]))[0]
            monitor_started_run(instance, None, record, dg.get_dagster_logger())  # type: ignore[arg-type]
            return instance.get_run_by_id(run.run_id).status  # type: ignore[union-attr]

        # A code server that starts again: no run is its child.
        assert end_orphaned_runs(instance, "al_pipeline") == []
        assert capsys.readouterr().out.count("no code server has started it, but another launcher") == 4

        # An API server that is away, and one that refuses.
        cluster.up = False
        assert look(lives) == Status.STARTED
        cluster.up, cluster.rules = True, []
        assert look(lives) == Status.STARTED
        assert launcher.check_run_worker_health(lives).status == WorkerStatus.RUNNING
        cluster.rules = named(build(FOLDER / "base"), "Role", "launcher")["rules"]
        assert look(lives) == Status.STARTED
        [away, *refused] = [each.getMessage() for each in caplog.records if each.name == RunLauncher.__module__]
        assert f"The cluster does not say how run {lives.run_id} is" in away
        assert len(refused) == 2

        cluster.statuses[f"dagster-run-{dies.run_id}"] = {"failed": 1, "startTime": "2026-01-01T00:00:00Z"}
        assert look(dies) == Status.FAILURE
        told = "".join(entry.message for entry in instance.all_logs(dies.run_id))
        assert "OOMKilled" in told
        del cluster.jobs[f"dagster-run-{gone.run_id}"]
        assert look(gone) == Status.FAILURE

        assert launcher.terminate(canceled.run_id)
        assert f"dagster-run-{canceled.run_id}" not in cluster.jobs
        assert "OOMKilled" in str(launcher.get_run_worker_debug_info(lives))
        assert "Could not find job" in str(launcher.get_run_worker_debug_info(gone))
    allowed = {
        (group, kind, verb)
        for rule in cluster.rules
        for group in rule["apiGroups"]
        for kind in rule["resources"]
        for verb in rule["verbs"]
    }
    assert cluster.asked == allowed


def test_of_several_wishes_the_most_is_granted() -> None:
    def asks(memory: str, gpus: str = "0", **pod: Any) -> Document:
        limits = {"memory": memory} | ({"nvidia.com/gpu": gpus} if gpus != "0" else {})
        return {"container_config": {"resources": {"limits": limits}}, "pod_spec_config": pod}

    found = together([asks("900Mi"), asks("1Gi", "2"), asks("1G", "1")])
    assert found["container_config"]["resources"]["limits"] == {"memory": "1Gi", "nvidia.com/gpu": "2"}
    waits = asks("1Gi", priority_class_name="waits")
    assert together([waits, waits])["pod_spec_config"] == {"priority_class_name": "waits"}
    # People wait for a part of it.
    assert together([waits, asks("1Gi")])["pod_spec_config"] == {}
