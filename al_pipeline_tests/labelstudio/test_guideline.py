"""The guideline: Markdown of the user's own, and examples that Label Studio can serve."""

from pathlib import Path

import pytest
from PIL import Image

from al_pipeline.core.errors import InputError
from al_pipeline.labelstudio.guideline import EXAMPLES, guideline

NAMES = ["cat", "grüner Wald"]


@pytest.fixture
def published(tmp_path: Path) -> Path:
    folder = tmp_path / "published" / "images"
    folder.mkdir(parents=True)
    return folder


def examples(tmp_path: Path, **counts: int) -> Path:
    """Write so many images per folder, all different."""
    for number, (name, count) in enumerate(counts.items()):
        folder = tmp_path / "examples" / name
        folder.mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (8, 8), (number, i, 0)).save(folder / f"{i}.png")
    return tmp_path / "examples"


def test_there_is_none_unless_it_is_asked_for(published: Path) -> None:
    assert guideline(None, None, NAMES, published) == ""


def test_markdown_is_rendered_from_a_text_and_from_a_file_and_its_html_is_shown_not_followed(
    tmp_path: Path, published: Path
) -> None:
    text = "# Dögs\n\n**never** <script>alert(1)</script>\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"
    (tmp_path / "guide.md").write_text(text, encoding="utf-8")
    said = guideline(text, None, NAMES, published)
    assert said == guideline(str(tmp_path / "guide.md"), None, NAMES, published)
    assert "<h1>Dögs</h1>" in said
    assert "<strong>never</strong>" in said
    assert "<td>2</td>" in said
    assert "<script>" not in said


def test_the_first_examples_of_each_class_are_published_by_what_is_in_them(tmp_path: Path, published: Path) -> None:
    folder = examples(tmp_path, **{"grüner Wald": 1, "cat": EXAMPLES + 2})
    (folder / "cat" / "notes.txt").write_text("no image")
    (folder / ".cache").mkdir()
    said = guideline("Look.", folder, NAMES, published)
    assert said.startswith("<p>Look.</p>")
    assert said.index("<th>cat</th>") < said.index("<th>grüner Wald</th>")
    names = sorted(path.name for path in published.iterdir())
    assert len(names) == EXAMPLES + 1
    assert all(f'src="/data/local-files/?d=images/{name}"' in said for name in names)
    assert "cat" not in "".join(names)
    # Nothing new of the same images.
    assert guideline("Look.", folder, NAMES, published) == said
    assert sorted(path.name for path in published.iterdir()) == names


def test_what_cannot_be_used_is_told_with_its_setting_and_the_remedy(tmp_path: Path, published: Path) -> None:
    def refused(instructions: str | None, folder: Path | None, said: str) -> None:
        with pytest.raises(InputError, match=said):
            guideline(instructions, folder, NAMES, published)

    refused(str(tmp_path / "none.md"), None, r"none\.md \(AL_INSTRUCTIONS\) cannot be read.*check the path")
    (tmp_path / "latin.md").write_bytes("Wälder".encode("latin-1"))
    refused(str(tmp_path / "latin.md"), None, r"latin\.md \(AL_INSTRUCTIONS\) is no UTF-8 text: save it as UTF-8")
    refused(None, tmp_path / "none", r"none \(AL_EXAMPLES\) cannot be read.*a folder of images for each class")
    folder = examples(tmp_path, dog=1)
    refused(None, folder, r"\(AL_EXAMPLES\) has the folder 'dog', and the classes are 'cat', 'grüner Wald'")
    (folder / "dog").rename(folder / "cat")
    (folder / "cat" / "0.png").write_bytes(b"no image")
    refused(None, folder, r"The example .*0\.png \(AL_EXAMPLES\) cannot be shown.*move it away")
    (folder / "cat" / "0.png").unlink()
    refused(None, folder, r"cat \(AL_EXAMPLES\) holds no images")
