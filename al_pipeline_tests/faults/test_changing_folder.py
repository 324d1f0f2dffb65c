"""Whatever happens to the files between any two steps of a round: it goes on, and no label is lost or silently unused.

The stories of `test_interleavings`, told of a real folder of tiny images that is really scanned: files vanish, come
back, move, are tagged, overwritten, damaged or copied into the folder of another class. `make faults` tells 200 of
them, CI fewer; a story that fails names its seed and its steps.
"""

import contextlib
import io
import random
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image, PngImagePlugin

from al_pipeline.core.data.images import open_rgb
from al_pipeline.core.errors import InputError
from al_pipeline.core.labels.class_set import ClassSet
from al_pipeline.core.rounds import Done, decide, round_key
from al_pipeline.ledger import Ledger
from al_pipeline.loop.answers import agreed_labels
from al_pipeline.loop.deployment import Deployment
from al_pipeline.loop.presence import Files, ImagesAwayError
from al_pipeline.loop.scan import scan_images
from al_pipeline_tests.faults.report import report
from al_pipeline_tests.faults.size import FULL, size
from al_pipeline_tests.faults.test_interleavings import (
    CLASSES,
    DECLARED,
    OFTEN,
    POOL,
    Interleavings,
    counted,
    drawn,
    tell,
)

pytestmark = pytest.mark.faults

# What is not about images; changes of classes are told of in the other stories.
ELSEWHERE = {"edit_the_interface", "change_the_classes"}
FOLDERS = ("cat", "dog", "2023/05")
KINDS = ("vanish", "vanish", "come_back", "come_back", "move", "tag", "overwrite", "damage", "copy", "add")
# Fewer images than these are not left: an empty folder is another story, that of `away`.
FEWEST, MOST = 3, 16


class ChangingFolder(Interleavings):
    """People, rounds and accidents, and what happens to the files."""

    often = (*OFTEN, *["change_a_file"] * 8, *["scan"] * 3, *["learn"] * 3)

    def _make_images(self) -> pd.DataFrame:
        self.root = self.folder / "images"
        # The bytes of each picture; which one lies where, None if it is damaged; and by which name it is known.
        self.bytes: list[bytes] = []
        self.lies: dict[Path, int | None] = {}
        self.sample_of: dict[str, int] = {}
        self.copies = 0
        for number in range(POOL):
            self._write(self.root / FOLDERS[number % 3] / f"{number}.png", self._draw())
        return self._scan()

    # What happens to the files.

    def change_a_file(self, kind: str, number: int, place: int) -> None:
        """Change one file, as far as enough of them stay."""
        before = dict(self.lies)
        getattr(self, f"_{kind}")(number, place)
        counted[f"files: {kind}"] += self.lies != before or kind == "tag"
        # Whatever was there, or should have been, is not where it was.
        self.disturbed |= {sample for sample in self._known() if not self._shows(sample)}

    def scan(self) -> None:
        self.images = self._scan()
        counted["scans"] += 1

    def learn(self, at: int, kind: str, number: int) -> None:
        """Read the images of all labels, as training does; a file vanishes or breaks meanwhile."""
        labels = self._look_at_labels()["sample_id"].tolist()
        files, left = Files(self.images, self.deployment), [at]

        def read(there: Sequence[str]) -> Sequence[str]:
            for sample in there:
                if left[0] == 0:
                    self.change_a_file(kind, number, 0)
                left[0] -= 1
                assert self._picture(open_rgb(files.uris[sample])) == self.sample_of[sample]
            return there

        used, found = files.work(labels, read, stored=list)
        assert sorted([*used, *found.absent]) == sorted(labels), "labels are unused, and nobody says so"
        for sample, why in found.absent.items():
            assert not self._shows(sample), f"{sample} is there, and is said not to be: {why}"
            assert ".png: " in why, why
        counted["labels unused"] += len(found.absent)
        counted["lessons"] += 1

    def unmount(self, number: int) -> None:
        """The folder is away for a push, a lesson and a scan: none stores that images are gone."""
        before, files = self._counted_out(), Files(self.images, self.deployment)
        labels = files.known(self._look_at_labels()["sample_id"]).there
        away = self.root.rename(self.folder / "away")
        # What is published already can be pushed all the same.
        with contextlib.suppress(ImagesAwayError):
            self._push(round_key(number % self.rounds))
        for act in [lambda: files.look(labels)] * bool(labels) + [self._scan]:
            with pytest.raises((ImagesAwayError, InputError)):
                act()
        assert self._counted_out() <= before
        away.rename(self.root)
        counted["folders away"] += 1

    def push_while_a_file_changes(self, number: int, after: int, kind: str, place: int) -> None:
        self.studio.visit_after(after, lambda: self.change_a_file(kind, place, place))
        self._whole(lambda: self._push(round_key(number % self.rounds)), None, "pushes")

    def tick(self) -> None:
        super().tick()
        labels, classes = set(self._look_at_labels()["sample_id"]), self.ledger.class_set()
        assert classes is not None
        labels |= set(agreed_labels(self.ledger, classes, self.policy.min_votes, purpose="holdout").labels["sample_id"])
        told = [remark for remark in self._facts(self.rounds - 1).remarks if "unused because" in remark]
        assert bool(told) == bool(labels & self.ledger.gone().keys()), told

    # How.

    def acts(self, r: random.Random) -> dict[str, dict[str, Any]]:
        number, place, kind = r.randrange(2**16), r.randrange(2**16), r.choice(KINDS)
        own: dict[str, dict[str, Any]] = {
            "change_a_file": {"kind": kind, "number": number, "place": place},
            "scan": {},
            "learn": {"at": r.randrange(6), "kind": r.choice(["vanish", "damage"]), "number": number},
            "unmount": {"number": number},
            "push_while_a_file_changes": {"number": number, "after": r.randrange(7), "kind": kind, "place": place},
        }
        return {name: each for name, each in drawn(r).items() if name not in ELSEWHERE} | own

    def _make_an_end(self) -> None:
        """The loop ends without the images that are gone; when they are back, it ends with them too."""
        self.scan()
        super()._make_an_end()
        decision = decide(self._facts(self.rounds - 1).status, self.policy, self.studio.now())
        assert isinstance(decision, Done), decision
        # Now that everything has a label: images of labels go, with and without a scan that knows.
        for number in range(2):
            self.change_a_file("vanish", number, 0)
            self.learn(1, "damage", number)
        self.scan()
        self.learn(-1, "vanish", 0)
        self.tick()
        self._put_everything_back()
        self.scan()
        super()._make_an_end()
        assert self.ledger.gone() == {}
        self.learn(-1, "vanish", 0)
        assert Files(self.images, self.deployment).look(self._known()).absent == {}

    def _put_everything_back(self) -> None:
        for path in [*self.lies]:
            path.unlink(missing_ok=True)
        self.lies.clear()
        for picture in range(len(self.bytes)):
            self._write(self.root / "2023" / f"back{picture}.png", picture)

    def _settings(self) -> dict[str, Any]:
        own = {
            "images": self.root,
            "home": self.folder,
            "database_url": None,
            "ledger_url": self.url,
            "classes": list(CLASSES),
            "follow_links": False,
            "white": "auto",
            "channels": None,
            "truncated": "refuse",
            "plane": "first",
        }
        return super()._settings() | own | {"group": "folder", "max_excluded_share": 1.0}

    @property
    def deployment(self) -> Deployment:
        own = super().deployment
        own.artifacts = SimpleNamespace(  # pyright: ignore[reportAttributeAccessIssue]
            image_pool=self.folder / "image_pool.parquet",
            group_rule=self.folder / "group_rule",
            how_read=self.folder / "how_read.json",
            checkpoints=self.folder / "checkpoint",
            published_as=self.folder / "published_as.json",
            known_tasks=self.folder / "known_tasks.json",
        )
        return own

    def _scan(self) -> pd.DataFrame:
        found = scan_images(self.deployment)
        found.manifest.to_parquet(self.deployment.artifacts.image_pool)
        for sample, uri in zip(found.manifest["sample_id"], found.manifest["uri"], strict=True):
            picture = self.lies.get(Path(uri))
            if sample is not None and picture is not None:
                assert self.sample_of.setdefault(sample, picture) == picture, f"{uri} is taken for another picture"
        assert len({*self.sample_of.values()}) == len(self.sample_of), "a picture has two names"
        return found.manifest

    def _counted_out(self) -> set[str]:
        """Return who is gone, and which tasks are withdrawn."""
        planned = self.ledger.planned()
        rows = planned[planned["withdrawn_at"].notna()]
        return {*self.ledger.gone(), *(rows["round"] + " " + rows["sample_id"])}

    def _known(self) -> list[str]:
        return sorted(self.sample_of)

    def _askable(self, sample_ids: Sequence[str]) -> list[str]:
        return list(Files(self.images, self.deployment).askable(sample_ids).there)

    def _shows(self, sample: str) -> bool:
        """Say whether the file that the last scan has found is that picture, whole."""
        rows = self.images[(self.images["sample_id"] == sample) & (self.images["split"] != "excluded")]
        return any(self.lies.get(Path(uri)) == self.sample_of[sample] for uri in rows["uri"])

    def _whole_files(self) -> list[Path]:
        return sorted(path for path, picture in self.lies.items() if picture is not None)

    def _one(self, number: int, *, least: int = FEWEST) -> Path | None:
        paths = self._whole_files()
        return paths[number % len(paths)] if len(paths) > least else None

    def _draw(self) -> int:
        """Make another picture; return its number."""
        picture = len(self.bytes)
        noise = np.random.default_rng(picture).integers(0, 256, (12, 12, 3), dtype=np.uint8)
        self.bytes.append(_png(noise))
        return picture

    def _write(self, path: Path, picture: int, data: bytes | None = None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A new file, as editors make it: what is published is a link to the old one.
        path.unlink(missing_ok=True)
        path.write_bytes(self.bytes[picture] if data is None else data)
        self.lies[path] = picture

    def _picture(self, image: Image.Image) -> int:
        pixels = np.asarray(image)
        return next(i for i, data in enumerate(self.bytes) if np.array_equal(np.asarray(_opened(data)), pixels))

    def _free(self, place: int) -> Path:
        self.copies += 1
        return self.root / FOLDERS[place % 3] / f"new{self.copies}.png"

    def _vanish(self, number: int, place: int) -> None:
        if path := self._one(number):
            path.unlink()
            del self.lies[path]

    def _come_back(self, number: int, place: int) -> None:
        away = sorted(set(range(len(self.bytes))) - set(self.lies.values()))
        if away:
            self._write(self._free(place), away[number % len(away)])

    def _move(self, number: int, place: int) -> None:
        if path := self._one(number, least=0):
            target = self._free(place)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)
            self.lies[target] = self.lies.pop(path)

    def _tag(self, number: int, place: int) -> None:
        if path := self._one(number, least=0):
            picture = self.lies[path]
            assert picture is not None
            self._write(path, picture, _png(np.asarray(_opened(self.bytes[picture])), rating=str(place)))

    def _overwrite(self, number: int, place: int) -> None:
        if len(self.bytes) < MOST and (path := self._one(number)):
            self._write(path, self._draw())

    def _damage(self, number: int, place: int) -> None:
        if path := self._one(number):
            data = path.read_bytes()
            path.unlink()
            path.write_bytes(data[: len(data) // 2])
            self.lies[path] = None

    def _copy(self, number: int, place: int) -> None:
        if (path := self._one(number)) and len(self.lies) < MOST + POOL:
            picture = self.lies[path]
            assert picture is not None
            self._write(self._free(place), picture)

    def _add(self, number: int, place: int) -> None:
        if len(self.bytes) < MOST:
            self._write(self._free(place), self._draw())


def _png(pixels: np.ndarray, **tags: str) -> bytes:
    info, file = PngImagePlugin.PngInfo(), io.BytesIO()
    for name, value in tags.items():
        info.add_text(name, value)
    Image.fromarray(pixels).save(file, "png", pnginfo=info)
    return file.getvalue()


def _opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def make_template(path: Path) -> Path:
    """Make a ledger to begin with: it knows no image yet."""
    ledger = Ledger(f"sqlite:///{path}")
    ledger.change_classes("declare", {DECLARED: list(CLASSES)}, ClassSet(CLASSES))
    ledger.close()
    return path


def test_rounds_go_on_whatever_happens_to_the_files(tmp_path: Path) -> None:
    counted.clear()
    template = make_template(tmp_path / "template.sqlite3")
    for seed in range(size(200, ci=3)):
        tell(ChangingFolder, template, seed)
    report("changing folder", **{name: counted[name] for name in sorted(counted)})
    met = ["scans", "lessons", "labels unused", "folders away"]
    # The few stories of CI need not meet all that happens to files.
    met += [f"files: {kind}" for kind in KINDS] if FULL else ["files: vanish", "files: move"]
    assert [name for name in met if not counted[name]] == []
