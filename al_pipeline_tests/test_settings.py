"""Settings come from the environment, .env and al.toml, and refuse what cannot work, naming it."""

import tomllib
from pathlib import Path

import pytest

from al_pipeline.core.data.places import Place
from al_pipeline.core.errors import InputError
from al_pipeline.core.learning import compute
from al_pipeline.core.strategies.options import RoundSettings
from al_pipeline.settings import load_settings
from al_pipeline.settings.presets import PRESETS, preset_values


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    # What all other tests are given.
    monkeypatch.delenv("AL_TRAINING__WEIGHTS")
    return tmp_path


def test_defaults_are_the_papers_but_for_the_strategy_and_the_weights() -> None:
    settings = load_settings()
    assert settings.round == RoundSettings(
        strategy="auto", batch_size=8, sample_size=80, balanced=False, explore=0.0, dedup=None, seed=0
    )
    assert (settings.training.architecture, settings.training.weights) == ("resnet18", "auto")
    assert (settings.training.optimizer, settings.training.learning_rate) == ("adam", 1e-4)


def test_the_environment_wins_over_dotenv_and_dotenv_over_toml(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (empty_folder / "al.toml").write_text(
        'holdout_size = 1\nlabel_studio_project = "toml"\n[round]\nbatch_size = 2\nseed = 3\n'
    )
    (empty_folder / ".env").write_text("AL_LABEL_STUDIO_PROJECT=dotenv\nAL_ROUND__BATCH_SIZE=4\n")
    monkeypatch.setenv("AL_ROUND__BATCH_SIZE", "6")
    settings = load_settings()
    assert settings.round.batch_size == 6
    assert settings.label_studio_project == "dotenv"
    assert (settings.holdout_size, settings.round.seed) == (1, 3)


def test_a_guideline_is_a_file_if_it_is_named_like_one_and_a_text_otherwise(empty_folder: Path) -> None:
    (empty_folder / "al.toml").write_text('instructions = "guide.md"\nexamples = "examples"\n')
    settings = load_settings()
    assert settings.instructions == str(empty_folder.resolve() / "guide.md")
    assert settings.examples == empty_folder.resolve() / "examples"
    assert load_settings(instructions="Look *twice*.").instructions == "Look *twice*."


@pytest.mark.parametrize("word", ["all", "null", "none", ""])
def test_a_word_stands_for_the_whole_pool_where_there_is_no_null(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AL_ROUND__SAMPLE_SIZE", word)
    assert load_settings().round.sample_size is None


@pytest.mark.parametrize(
    ("value", "names"), [("muffin, chihuahua", ["muffin", "chihuahua"]), ('["a, b", "ü"]', ["a, b", "ü"])]
)
def test_classes_are_a_list_or_comma_separated(value: str, names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AL_CLASSES", value)
    assert load_settings().classes == names


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("AL_ROUND__STRATEGY", "entropie", "low_certainty"),
        ("AL_EMBEDDINGS", "s3://key:secret@bucket/features", "an address with a key in it"),
        ("AL_IMAGES", "s3://key:secret@bucket/photos", r"images \(AL_IMAGES in .*an address of a bucket with a key"),
        ("AL_IMAGES", "s3:///photos", r"AL_IMAGES in the environment\): s3:///photos names no bucket"),
        ("AL_IMAGES", "ftp://host/photos", r"AL_IMAGES in the environment\): ftp://host/photos is no address of a"),
        (
            "AL_PUBLISHED",
            "gs://shown/x",
            r"published \(AL_PUBLISHED in the environment\): gs://shown/x is no bucket of S3",
        ),
        ("AL_PUBLISHED", "s3://shown/a b", r"AL_PUBLISHED in the environment\): s3://shown/a b has letters that Label"),
        (
            "AL_PUBLISHED",
            "/data/shown",
            r"AL_PUBLISHED in the environment\): '/data/shown' is no address of a bucket: write s3://BUCKET",
        ),
        (
            "AL_EMBEDDINGS",
            "s4://bucket/features",
            r"kept in s4://bucket/features \(AL_EMBEDDINGS\): s4.* is no address",
        ),
        (
            "AL_TRACKING__URI",
            "mlflow.example.com",
            r"AL_TRACKING__URI in .*'mlflow.example.com' is no address.*https://",
        ),
        ("AL_TRACKING__URI", "https:///x", r"AL_TRACKING__URI in .*'https:///x' is no address"),
        ("AL_TRACKING__URI", "https://host/?token=pw", "a query, in it: leave it out, and set MLFLOW_TRACKING_U"),
        ("AL_TRACKING__MODEL", "a/b", r"AL_TRACKING__MODEL in .*'a/b' has / or :.*leave them out"),
        ("AL_HOME", "s3://bucket/home", r"AL_HOME in the environment\): an address, where a folder of this machine"),
        ("AL_EXAMPLES", "gs://bucket/x", "AL_EXAMPLES in the environment.: an address, where a folder"),
        (
            "AL_COMPUTE__ENGINE",
            "spark",
            r"compute.engine \(AL_COMPUTE__ENGINE in .*unknown engine 'spark'; .*parts, ray",
        ),
        ("AL_COMPUTE__WORKERS", "0", "workers must be a whole number of at least 1, or none, not '0'"),
        ("AL_COMPUTE__GPUS", "-1", "gpus must be a number from 0 to 16, not '-1'"),
        ("AL_COMPUTE__ADDRESS", "auto", "compute.address is for engine ray alone, and engine is local: set AL_COMPUTE"),
        ("AL_COMPUTE__WORKERS", "4", "compute.workers is for engine parts and ray alone, and engine is local"),
        ("AL_TRAINING__MODE", "head", "mode head learns from the features of given weights, and weights are none"),
        ("AL_TRAINING__PRECISION", "int8", "unknown precision 'int8'; choose one of auto, float32"),
        ("AL_TRAINING__FRAMING", "letterbox", "unknown framing 'letterbox'; choose one of auto, crop, squeeze, pad"),
        ("AL_TRAINING__PATIENCE", "3", "patience 3 needs a validation share"),
        ("AL_CACHE_GB", "-1", "AL_CACHE_GB"),
        (
            "AL_PLANE",
            "last",
            r"plane \(AL_PLANE in the environment\): .*first, middle, max or a whole number .*, not 'last'",
        ),
        ("AL_PLANE", "-1", r"plane \(AL_PLANE in the environment\): .*or a whole number of at least 0, not '-1'"),
        ("AL_ROUND__EXPLORE", "1.5", "explore must be a number from 0 to 1, not '1.5'"),
        ("AL_WHITE", "foo", r"used:\n  white \(.*\): white must be auto, percentile or a number above 0, not 'foo'$"),
        ("AL_CHANNELS", "a", "channels 'a' is not of the form of 1 or 0,2,1$"),
        ("AL_ROUND__DEDUP", "2", "dedup must be a number from -1 to 1, or none, not '2'"),
        ("AL_TRAINING__ARCHITECTURE", "vgg16", "resnet152"),
        ("AL_TRAINING__OPTIMIZER", "lbfgs", "adamw"),
        ("AL_ROUND__BALANCED", "true", "balanced = true does not go with the strategy 'auto'"),
        ("AL_ROUND__BATCH_SIZE", "0", r"\(AL_ROUND__BATCH_SIZE in the environment\): .* of at least 1, not '0'"),
        ("AL_TRAINING__TEST_TIME_FLIP", "perhaps", "test_time_flip must be true or false, not 'perhaps'"),
        ("AL_ROUND__BATCH_SIZE", "500", "batch_size 500 is larger than sample_size 80"),
        ("AL_POLICY__MIN_FRACTION", "1.5", "AL_POLICY__MIN_FRACTION"),
        ("AL_POLICY__MIN_VOTES", "3", "raise AL_OVERLAP"),
        ("AL_SUBMIT", "return", "unknown submit 'return'; choose one of auto, ctrl.enter, enter, key"),
        (
            "AL_KUBERNETES__TRAIN__MEMORY",
            "8",
            r"train.memory \(AL_KUBERNETES__TRAIN__MEMORY in .*'8' is not of the form of 8Gi or 500Mi",
        ),
        ("AL_KUBERNETES__TRAIN__CPU", "0", "cpu must be a number above 0, or none, not '0'"),
        ("AL_KUBERNETES__REFINE__GPU", "-1", "gpu must be a whole number of at least 0, not '-1'"),
        ("AL_KUBERNETES__FEATURES__NODE_SELECTOR", "pool=gpu, fast", "'fast' is not of the form label=value; several"),
        ("AL_KUBERNETES__TRAIN__TOLERATIONS", "gpu:Never", "'gpu:Never' is not of the form taint:NoSchedule or"),
        ("AL_KUBERNETES__REFINE__PRIORITY_CLASS", "Low!", "priority_class 'Low!' is not of the form of waits"),
        ("AL_GRID", "5", r"grid \(AL_GRID in the environment\): unknown grid .*5.*; choose one of 1, 4, 9"),
    ],
)
def test_a_value_that_cannot_work_is_refused_with_its_name_and_what_is_valid(
    variable: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AL_TRAINING__WEIGHTS", "none")
    monkeypatch.setenv(variable, value)
    with pytest.raises(InputError, match=said):
        load_settings()


@pytest.mark.parametrize(("other", "value"), [("AL_PREDICTIONS", "true"), ("AL_POLICY__MIN_SECONDS", "none")])
def test_one_key_answers_only_where_somebody_looks_first(
    other: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AL_SUBMIT", "key")
    assert load_settings().submits == "key"
    monkeypatch.setenv(other, value)
    with pytest.raises(InputError, match=f"submit key .*set {other}=.*, or AL_SUBMIT=enter"):
        load_settings()
    monkeypatch.delenv("AL_SUBMIT")
    assert load_settings().submits == "enter"
    assert load_settings(label_studio_url="http://ls.example.org").submits == "ctrl+enter"


@pytest.mark.parametrize("other", ["AL_ASK_GROUPS", "AL_PREDICTIONS"])
def test_a_grid_is_of_single_images_without_guesses(other: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AL_GRID", "4")
    assert load_settings().grid == 4
    monkeypatch.setenv(other, "true")
    with pytest.raises(InputError, match=f"cannot be combined: set AL_GRID=1 or {other}=false"):
        load_settings()
    monkeypatch.delenv(other)
    monkeypatch.setenv("AL_SUBMIT", "key")
    with pytest.raises(InputError, match=r"submit key does not go with grid 4: .*set AL_GRID=1, or AL_SUBMIT=enter"):
        load_settings()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[round\nbatch_size = 3\n", r"al.toml is not TOML: Expected ']' .*line 1"),
        (b"\xff\xfe", r"al.toml is not UTF-8"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(content: bytes, said: str, empty_folder: Path) -> None:
    (empty_folder / "al.toml").write_bytes(content)
    with pytest.raises(InputError, match=said):
        load_settings()


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("AL_IMAGE", "AL_IMAGES"),
        ("AL_ROUND__BATCHSIZE", "AL_ROUND__BATCH_SIZE"),
        ("AL_STRATEGY", "AL_ROUND__STRATEGY"),
        ("AL_KUBERNETES__TRAIN__GPUS", "AL_KUBERNETES__TRAIN__GPU"),
        ("AL_POLICY__SEED", "AL_ROUND__SEED"),
        ("al_labelstudio_url", "AL_LABEL_STUDIO_URL"),
    ],
)
def test_an_unknown_name_is_told_with_where_it_stands_and_the_nearest(
    variable: str, meant: str, empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "s3cret")
    with pytest.raises(InputError, match=rf"\({variable.upper()} in the environment\).*\({meant}\)\?") as refused:
        load_settings()
    assert "s3cret" not in str(refused.value)
    monkeypatch.delenv(variable)
    (empty_folder / ".env").write_text(f"{variable}=s3cret\nPOSTGRES_PASSWORD=others\n")
    with pytest.raises(InputError, match=rf"\({variable.upper()} in .env\).*\({meant}\)\?"):
        load_settings()


def test_unknown_names_of_a_file_are_told_together_with_what_else_is_wrong_with_it(empty_folder: Path) -> None:
    (empty_folder / "al.toml").write_text('imagez = "x"\nbatch_size = 3\n[round]\nbatchsize = 3\nseed = -1\n')
    with pytest.raises(InputError) as refused:
        load_settings()
    told = str(refused.value).replace(str(empty_folder), "").splitlines()[1:]
    assert told[0] == "  imagez (/al.toml) is no setting: did you mean images (AL_IMAGES)?"
    assert "round.batch_size (AL_ROUND__BATCH_SIZE) or training.batch_size (AL_TRAINING__BATCH_SIZE)?" in told[1]
    assert "round.batchsize (/al.toml) is no setting" in told[2]
    assert told[3] == "  round.seed (/al.toml): seed must be a whole number of at least 0, not -1"
    assert len(told) == 4


def test_a_group_that_is_misspelt_is_told_once(empty_folder: Path) -> None:
    (empty_folder / "al.toml").write_text('kubernetes.trian.cpu = 4\nkubernetes.features = "cpu=4"\nrounds = {}\n')
    with pytest.raises(InputError) as refused:
        load_settings()
    told = str(refused.value).replace(str(empty_folder), "").splitlines()[1:]
    assert told[0].startswith("  kubernetes.trian.cpu (/al.toml) is no setting: did you mean kubernetes.train.cpu (")
    assert "features must be a table of settings (cpu, memory, gpu, node_selector, tolerations" in told[1]
    assert len(told) == 2


def test_what_the_tests_are_told_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AL_TEST_ANYTHING", "AL_REQUIRE_BROWSER", "AL_FAULTS_FULL", "AL_FAULT_REPORT"):
        monkeypatch.setenv(name, "1")
    load_settings()


def test_a_child_process_is_given_all_that_was_given_and_nothing_else(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (empty_folder / "al.toml").write_text('images = "photos"\nfollow_links = true\nclasses = ["a, b", "ü"]\n')
    monkeypatch.setenv("AL_ROUND__SAMPLE_SIZE", "all")
    monkeypatch.setenv("AL_LABEL_STUDIO_TOKEN", "s3cret")
    parent = load_settings(home=empty_folder / "home", label_studio_url=None)
    environment = parent.environment()
    assert environment == {
        "AL_HOME": str(empty_folder / "home"),
        "AL_IMAGES": str(empty_folder / "photos"),
        "AL_FOLLOW_LINKS": "true",
        "AL_CLASSES": '["a, b", "\\u00fc"]',
        "AL_ROUND__SAMPLE_SIZE": "",
        "AL_LABEL_STUDIO_TOKEN": "s3cret",
        "AL_LABEL_STUDIO_URL": "",
    }
    (empty_folder / "al.toml").unlink()
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    child = load_settings()
    assert child == parent
    assert child.given() == parent.given()


def test_the_home_keeps_what_it_was_told_but_no_secret(empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (empty_folder / "weights.pt").touch()
    monkeypatch.setenv("AL_LABEL_STUDIO_TOKEN", "s3cret")
    monkeypatch.setenv("AL_DATABASE_URL", "postgresql://al:s3cret@db/al?sslmode=require&password=s3cret")
    told = load_settings(
        home=empty_folder / "home",
        images=Path("photos"),
        classes='["say \\"a\\"", "ü 🐎", "b\\\\c"]',
        cache_gb=1e-5,
        follow_links=True,
        round={"sample_size": None, "batch_size": 3},
        training={"weights": "weights.pt"},
    )
    line = told.keep()
    file = empty_folder / "home" / "settings.toml"
    assert file.stat().st_mode & 0o077 == 0
    assert "s3cret" not in file.read_text() + line
    for said in (str(file), f"images '{empty_folder / 'photos'}'", "round.batch_size 3"):
        assert said in line
    monkeypatch.delenv("AL_LABEL_STUDIO_TOKEN")
    monkeypatch.delenv("AL_DATABASE_URL")
    (empty_folder / "elsewhere").mkdir()
    monkeypatch.chdir(empty_folder / "elsewhere")
    found = load_settings(home=empty_folder / "home")
    assert found.ledger_url == "postgresql://al@db/al?sslmode=require"
    assert found.training.weights == str(empty_folder / "weights.pt")
    assert (found.images, found.classes) == (empty_folder / "photos", ['say "a"', "ü 🐎", "b\\c"])
    assert (found.cache_gb, found.follow_links, found.round) == (1e-5, True, told.round)
    assert "was" not in found.keep()


def test_groups_in_groups_are_kept_and_handed_on_like_others(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (empty_folder / "al.toml").write_text('[kubernetes.train]\ncpu = 4\ntolerations = "gpu:NoSchedule"\n')
    monkeypatch.setenv("AL_KUBERNETES__FEATURES__MEMORY", "8Gi")
    told = load_settings(home=empty_folder / "home")
    assert (told.kubernetes.train.cpu, told.kubernetes.features.memory) == (4.0, "8Gi")
    assert "kubernetes.train.tolerations 'gpu:NoSchedule'" in told.keep()
    (empty_folder / "al.toml").unlink()
    monkeypatch.delenv("AL_KUBERNETES__FEATURES__MEMORY")
    assert load_settings(home=empty_folder / "home").kubernetes == told.kubernetes
    for name, value in (told.environment() | {"AL_HOME": str(empty_folder / "other")}).items():
        monkeypatch.setenv(name, value)
    assert load_settings().kubernetes == told.kubernetes


def test_one_pod_that_does_both_is_on_one_kind_of_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AL_KUBERNETES__TRAIN__NODE_SELECTOR", "pool=gpu,zone=a")
    monkeypatch.setenv("AL_KUBERNETES__FEATURES__NODE_SELECTOR", "pool=gpu,disk=ssd")
    assert load_settings().kubernetes.features.labels() == {"pool": "gpu", "disk": "ssd"}
    monkeypatch.setenv("AL_KUBERNETES__FEATURES__NODE_SELECTOR", "pool=cpu")
    with pytest.raises(InputError, match=r"want different nodes \(pool\).*set it in one of them, or alike"):
        load_settings()


def test_whatever_is_said_later_wins_over_what_the_home_keeps_and_is_kept_anew(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_settings(images=Path("old"), classes=["a", "b"], round={"batch_size": 3}).keep()
    (empty_folder / "al.toml").write_text("[round]\nbatch_size = 4\n")
    monkeypatch.setenv("AL_CLASSES", "a,c")
    later = load_settings()
    assert (later.images, later.classes, later.round.batch_size) == (empty_folder / "old", ["a", "c"], 4)
    line = later.keep()
    assert "classes ['a', 'c'] (was ['a', 'b'])" in line
    assert "round.batch_size 4 (was 3)" in line
    (empty_folder / "al.toml").unlink()
    monkeypatch.delenv("AL_CLASSES")
    assert load_settings().classes == ["a", "c"]
    assert load_settings().round.batch_size == 4
    monkeypatch.setenv("AL_CLASSES", "")
    assert "classes no more (was ['a', 'c'])" in load_settings().keep()
    monkeypatch.delenv("AL_CLASSES")
    assert load_settings().classes is None


def test_a_group_that_is_no_json_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AL_ROUND", "s3cret")
    with pytest.raises(InputError, match=r'field "round".*AL_ROUND__BATCH_SIZE') as refused:
        load_settings()
    assert "s3cret" not in str(refused.value)


def test_secrets_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AL_LABEL_STUDIO_TOKEN", "s3cret-token")
    monkeypatch.setenv("AL_DATABASE_URL", "postgresql+psycopg2://al:s3cret-token@db/al")
    settings = load_settings()
    assert "s3cret" not in repr(settings)
    assert "s3cret" not in str(settings.model_dump())
    # Neither beside what is wrong, nor where they are what is wrong.
    monkeypatch.setenv("AL_ROUND__BATCH_SIZE", "0")
    monkeypatch.setenv("AL_WEBHOOK_SECRET", "s3cret token")
    monkeypatch.setenv("AL_EMBEDDINGS", "s3://key:s3cret@bucket/features")
    with pytest.raises(InputError, match="AL_WEBHOOK_SECRET") as refused:
        load_settings()
    assert "AL_EMBEDDINGS" in str(refused.value)
    assert "s3cret" not in str(refused.value)


def test_images_may_be_in_a_bucket_and_their_address_keeps_its_scheme(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it goes: into the environment of children, and into what the home keeps."""
    monkeypatch.setenv("AL_IMAGES", "s3://bucket/photos/")
    settings = load_settings(home=empty_folder / "home")
    assert settings.images == Place("s3://bucket/photos")
    assert settings.environment()["AL_IMAGES"] == "s3://bucket/photos"
    settings.keep()
    monkeypatch.delenv("AL_IMAGES")
    assert load_settings(home=empty_folder / "home") == settings
    assert load_settings(images=f"file://{empty_folder}").images == empty_folder
    assert load_settings(images="photos").images == empty_folder / "photos"


def test_what_people_are_shown_is_never_in_the_bucket_of_the_images(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever labels can open any key of the bucket, and those of originals have the class folder in them."""
    monkeypatch.setenv("AL_PUBLISHED", "s3://bucket/shown")
    assert load_settings(images=empty_folder).published == Place("s3://bucket/shown")
    assert load_settings(images="s3://bucket2/photos").published == Place("s3://bucket/shown")
    told = r"published \(AL_PUBLISHED in the environment\): s3://bucket/shown is in the bucket of .*name another bucket"
    for images in ("s3://bucket/photos", "s3://bucket"):
        with pytest.raises(InputError, match=told):
            load_settings(images=images)
    told = r"embeddings s3://bucket/x \(AL_EMBEDDINGS\) are in the bucket of published s3://bucket/shown .AL_PUBLISHED"
    with pytest.raises(InputError, match=told):
        load_settings(images=empty_folder, embeddings="s3://bucket/x")


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AL_LABEL_STUDIO_URL", "")
    monkeypatch.setenv("AL_IMAGES", "")
    settings = load_settings()
    assert settings.label_studio_url is None
    assert settings.images is None


def test_a_preset_sets_what_nobody_sets_otherwise_and_the_next_one_leaves_nothing_of_it(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = empty_folder / "home"
    (empty_folder / "al.toml").write_text("[training]\nepochs = 5\n")
    load_settings(home=home, holdout_size=7, round={"batch_size": 3, "seed": 4}).keep()
    monkeypatch.setenv("AL_ROUND__SAMPLE_SIZE", "60")
    paper = load_settings(home=home, **preset_values("paper", home))
    assert (paper.round.strategy, paper.training.weights, paper.training.image_size) == ("low_certainty", "none", 64)
    assert (paper.round.sample_size, paper.training.epochs) == (60, 5), "what the environment and al.toml say"
    assert (paper.round.batch_size, paper.round.seed, paper.holdout_size) == (8, 4, 7), "of the home the rest"
    paper.keep()
    assert load_settings(home=home).training.weights == "none"
    monkeypatch.setenv("AL_HOME", str(home))
    load_settings(**preset_values("laptop", None)).keep()
    monkeypatch.delenv("AL_ROUND__SAMPLE_SIZE")
    (empty_folder / "al.toml").unlink()
    found = load_settings()
    assert (found.training.weights, found.training.image_size, found.round.strategy) == ("auto", None, "auto")


def test_presets_are_about_the_same_settings_and_laptop_is_the_defaults() -> None:
    usual = load_settings()
    for preset, (_, values) in PRESETS.items():
        assert values.keys() == PRESETS["laptop"][1].keys()
        loaded = load_settings(**preset_values(preset, None))
        assert (loaded == usual) == (preset == "laptop")


def test_the_readmes_example_is_what_can_be_set(empty_folder: Path) -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    example = readme.split("```toml\n")[1].split("```")[0]
    (empty_folder / "al.toml").write_text(example)
    loaded = load_settings()
    for group, values in tomllib.loads(example).items():
        for name, value in values.items() if isinstance(values, dict) else ():
            assert getattr(getattr(loaded, group), name) == value
    assert loaded.classes == ["muffin", "chihuahua"]
    assert loaded.images == Path("/data/photos")


def test_ray_is_refused_where_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings(compute={"engine": "ray", "address": "", "gpus": 0.5}).compute.address is None
    monkeypatch.setattr(compute, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"compute.engine ray needs the package ray: pip install 'al_pipeline\[ray\]'"):
        load_settings(compute={"engine": "ray"})
