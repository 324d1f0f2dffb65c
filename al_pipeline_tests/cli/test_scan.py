"""`al scan` shows a folder as it is, without a project, and its page is safe whatever files are called."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from al_pipeline.cli.app import app
from al_pipeline.cli.doctor import examine
from al_pipeline.cli.scan import reading
from al_pipeline.settings import load_settings

EVIL = "[red]a|b <script>alert(1)</script> `c` _d_"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for i, name in enumerate(("cat/1", "cat/2", "dog/1", "dog/2", f"dog/{EVIL.replace('/', '∕')}")):
        path = tmp_path / "images" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (30 + i, 20), (40 * i, 90, 200 - 40 * i)).save(path)
    return tmp_path / "images"


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["scan", *map(str, arguments)], env={"COLUMNS": "200"})
    return result.exit_code, " ".join(result.output.split())


def test_a_folder_is_shown_and_nothing_is_written(folder: Path) -> None:
    before = sorted(folder.parent.rglob("*"))
    code, output = run("images")
    assert code == 0
    assert f"5 images in {folder}" in output
    for words in ("cat │ 2 │ 0", "dog │ 3 │ 0", "all │ 5 │ 0", "formats PNG 5"):
        assert words in output
    assert sorted(folder.parent.rglob("*")) == before


def test_what_is_set_aside_is_counted_and_what_the_loop_would_refuse_is_told(folder: Path) -> None:
    for i in range(3):
        (folder / "cat" / f"empty{i}.jpg").touch()
    (folder / "cat" / f"{EVIL.replace('/', '∕')} copy.png").write_bytes((folder / "cat" / "1.png").read_bytes())
    code, output = run("images")
    assert code == 0
    assert "Set aside: 4 files" in output
    assert "3 │ empty file │ cat/empty0.jpg" in output
    assert "raise AL_MAX_EXCLUDED_SHARE" in output


def test_without_classes_it_says_what_is_to_be_set(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "flat").mkdir()
    (folder / "cat" / "1.png").rename(tmp_path / "flat" / "1.png")
    code, output = run("flat")
    assert code == 0
    assert "no class │ 1 │ 0" in output
    assert "Note:" in output
    assert "AL_CLASSES=muffin,chihuahua" in output


def test_a_test_split_that_tears_groups_is_told(tmp_path: Path) -> None:
    for i, place in enumerate(("train/cat/a", "train/dog/b", "test/cat/a", "test/dog/c")):
        (tmp_path / "splits" / place).mkdir(parents=True)
        Image.new("RGB", (20, 20 + i)).save(tmp_path / "splits" / place / "1.png")
    code, output = run("splits", "--group", "(a)/")
    assert code == 0
    assert "1 of the 2 images in the test split share a group with images of the pool" in output


def test_what_only_a_person_can_tell_is_asked_beside_what_was_found(tmp_path: Path) -> None:
    for i, place in enumerate(("Site_001/CAM1", "Site_001/CAM2", "Site_002/CAM1", "Site_002/@eaDir")):
        (tmp_path / "trap" / place).mkdir(parents=True)
        Image.new("RGB", (20, 20 + i)).save(tmp_path / "trap" / place / "1.png")
    (tmp_path / "trap" / "1.xmp").touch()
    code, output = run("trap", "--group", "parent")
    assert code == 0
    for words in ("no class │ 3 │ 0", "3 groups by parent", "Site_002/@eaDir", ".xmp 1"):
        assert words in output
    assert "Note: The folders 'Site_001', 'Site_002' look like sites" in output
    code, output = run("trap", "--classes", "fox,deer", "--group", "folder")
    assert code == 0
    assert "2 groups by folder; 1 of several images, 2 in all, the largest of 2" in output
    assert "look like sites" not in output


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere"], "does not exist"),
        (["empty"], "holds no images"),
        (["broken"], "1 of 1 files in"),
        (["images", "--group", "("], "no regular expression"),
        ([], "No folder of images is named: `al scan DIR`"),
        (["images", "--html", "images"], "images (--html) is a folder"),
    ],
)
def test_nothing_to_show_is_an_error_in_a_sentence(tmp_path: Path, arguments: list[str], sentence: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "1.png").touch()
    code, output = run(*arguments)
    assert code == 1
    assert sentence in output


def test_the_folder_of_the_settings_is_meant_where_none_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AL_IMAGES", str(folder))
    assert f"5 images in {folder}" in run()[1]


def test_the_page_shows_pictures_of_what_is_odd_and_loads_and_runs_nothing(folder: Path) -> None:
    Image.new("RGB", (400, 10)).save(folder / "dog" / f"{EVIL.replace('/', '∕')} long.png")
    (folder / "dog" / "empty.png").touch()
    code, output = run("images", "--html", "page.html")
    assert (code, "The page is page.html" in output) == (0, True)
    text = Path("page.html").read_text(encoding="utf-8")
    assert "data:image/png;base64," in text
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)&lt;∕script&gt; `c` _d_ long.png · 400 × 10 px" in text
    assert len(text) < 100_000


def test_the_page_of_many_odd_images_is_small(folder: Path) -> None:
    for i in range(40):
        noise = Image.effect_noise((100 + 100 * (i % 9), 100), 100)
        Image.merge("RGB", [noise, noise.rotate(90), noise.rotate(180)]).resize((300, 100 + 20 * i)).save(
            folder / "cat" / f"noise{i}.jpg"
        )
    assert run("images", "--html", "page.html")[0] == 0
    assert Path("page.html").stat().st_size < 2_000_000


def test_ctrl_c_is_answered_with_how_far_it_was(
    capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    # It is ignored by what a shell starts in the background.
    outside = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, outside))

    def begin() -> None:
        with reading(kept=True) as progress:
            progress(2, 5)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        begin()
    assert "Ended after 2 of 5 files; the next scan goes on from there" in capsys.readouterr().out


def test_a_home_that_is_named_keeps_what_was_read(folder: Path, tmp_path: Path) -> None:
    for path in folder.rglob("*.png"):
        # Not written just now.
        os.utime(path, (1e9, 1e9))
    run("images", "--home", "home")
    kept = tmp_path / "home" / "cache" / "scan"
    before = {path.name for path in kept.iterdir()}
    assert before
    run("images", "--home", "home")
    assert {path.name for path in kept.iterdir()} == before
    assert f"5 images in {folder}" in run("images", "--home", "home", "--full")[1]
    assert {path.name for path in kept.iterdir()}.isdisjoint(before)


def test_it_starts_without_what_is_heavy() -> None:
    program = (
        "import json, sys; from al_pipeline.cli.app import app\n"
        "try: app(['scan', 'images', '--html', 'page.html'])\n"
        "finally: print(json.dumps([name for name in ('torch', 'dagster', 'matplotlib', 'sklearn') "
        "if name in sys.modules]))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(ran.stdout.splitlines()[-1]) == []


def test_the_doctor_points_to_it(folder: Path, tmp_path: Path) -> None:
    (folder / "cat" / "empty.jpg").touch()
    settings = load_settings(home=tmp_path / "home", images=folder)
    found = [finding for finding in examine(lambda: settings) if finding.subject == "images"]
    assert [finding.ok for finding in found] == [True, None]
    assert "5 in the pool, 0 holdout, classes: cat, dog" in found[0].text
    assert "1 files are set aside, for example cat/empty.jpg: empty file; `al scan` shows all reasons" in found[1].text
