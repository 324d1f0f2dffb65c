"""How honest a drawn holdout is when the photos come in bursts: its accuracy beside that on scenes nobody has seen.

`python -m benchmarks.bursts WEIGHTS PHOTOS OUT`: the photos lie in class folders. Frames of scenes are made of some of
them into OUT, the others are the unseen scenes. Two kinds of bursts: `moved` (frames shifted by up to 8 of 224 pixels,
7 % brighter or darker) and `handheld` (turned, zoomed, moved, lit, sharpened or blurred, saved at different sizes).

Heads are trained on random labels of what the holdout leaves. A holdout of some forty scenes is off by chance alone,
and so are the scenes that were made, which may be easier than the unseen ones: each seed makes its own, several
holdouts are drawn from it, and the difference is given with its standard error over the seeds.
"""

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image, ImageEnhance, ImageFilter

from al_pipeline.core.data.groups import NEAR_DUPLICATES, NONE, assign
from al_pipeline.core.data.holdout import draw_holdout, groups_of, holdout_mates
from al_pipeline.core.data.pool import scan
from al_pipeline.core.learning.options import TrainingOptions
from al_pipeline.core.learning.predict import embed
from al_pipeline.core.learning.train import untrained
from al_pipeline.core.turn import Given, learn
from benchmarks.table import print_table

SCENES, FRAMES, HOLDOUT = 160, 5, 200
LABELS, SEEDS, DRAWS = (100, 200, 400), 5, 8


def moved(photo: Image.Image, rng: np.random.Generator) -> tuple[Image.Image, int]:
    """Return a frame that is shifted and a little brighter or darker, and the quality to save it with."""
    left, top = map(int, rng.integers(0, 17, 2))
    shot = photo.resize((224, 224)).crop((left, top, left + 208, top + 208))
    return ImageEnhance.Brightness(shot).enhance(rng.uniform(0.93, 1.07)), 92


def handheld(photo: Image.Image, rng: np.random.Generator) -> tuple[Image.Image, int]:
    """Return a frame as a hand holds the camera."""
    turned = photo.resize((256, 256)).rotate(rng.uniform(-2.5, 2.5), Image.Resampling.BICUBIC)
    side = int(rng.integers(204, 221))
    # The corners that turning leaves empty are cut off.
    left, top = map(int, rng.integers(12, 245 - side, 2))
    side_shown = int(rng.choice([160, 224, 320]))
    shot = turned.crop((left, top, left + side, top + side)).resize((side_shown, side_shown))
    shot = ImageEnhance.Contrast(ImageEnhance.Brightness(shot).enhance(rng.uniform(0.85, 1.15))).enhance(
        rng.uniform(0.85, 1.15)
    )
    return shot.filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.8))), int(rng.integers(60, 96))


RECIPES = {"moved": moved, "handheld": handheld}


def make(photos: pd.DataFrame, out: Path, recipe: str, seed: int) -> tuple[pd.DataFrame, list[int]]:
    """Write the frames; return ``uri, label, scene`` of them, and the rows of the photos that they were made of."""
    rng = np.random.default_rng(seed)
    per_class = SCENES // photos["label"].nunique()
    chosen = [int(i) for rows in photos.groupby("label").groups.values() for i in rng.permutation(rows)[:per_class]]
    names, frames = rng.permutation(len(chosen) * FRAMES), []
    out.mkdir(parents=True, exist_ok=True)
    for scene, row in enumerate(chosen):
        with Image.open(photos["uri"][row]) as image:
            photo = image.convert("RGB")
        for frame in range(FRAMES):
            shot, quality = RECIPES[recipe](photo, rng)
            path = out / f"IMG_{names[scene * FRAMES + frame]:05d}.jpg"
            shot.save(path, quality=quality)
            frames.append((str(path.resolve()), photos["label"][row], scene))
    return pd.DataFrame(frames, columns=["uri", "label", "scene"]), chosen


def differences(
    manifest: pd.DataFrame, pool: Given, tests: Given, truth: npt.NDArray[np.int64], names: list[str], seed: int
) -> list[tuple[int, int, float, float]]:
    """Return seed, labels, accuracy on the holdout and on the unseen, of heads for holdouts of the groups."""
    targets = manifest["label"].map(names.index).to_numpy(dtype=np.int64)
    ids, groups, rows = manifest["sample_id"].to_numpy(), groups_of(manifest), []
    options = TrainingOptions(mode="head", weights=sys.argv[1])
    for draw in range(DRAWS):
        drawn = draw_holdout(manifest, HOLDOUT, draw)
        held = np.isin(ids, [*drawn, *holdout_mates(groups, drawn)])
        rest = np.random.default_rng([seed, draw]).permutation(np.flatnonzero(~held))
        blind = np.flatnonzero(np.isin(ids, drawn))
        for count in LABELS:
            labeled = np.sort(rest[:count])
            model = learn(pool, labeled, targets[labeled], names, options, seed=seed, number=1, network=False)
            own = (model.predict(pool, blind).argmax(axis=1) == targets[blind]).mean()
            true = (model.predict(tests, np.arange(len(truth))).argmax(axis=1) == truth).mean()
            rows.append((seed, count, float(own), float(true)))
    return rows


def main() -> None:
    """Print a table per kind of bursts."""
    root, out = Path(sys.argv[2]), Path(sys.argv[3])
    found = [(str(path), folder.name) for folder in sorted(root.iterdir()) for path in sorted(folder.iterdir())]
    photos = pd.DataFrame(found, columns=["uri", "label"])
    names = sorted(photos["label"].unique())
    start = untrained(names, TrainingOptions(weights=sys.argv[1]), seed=0, round_number=0).checkpoint
    every = embed(start, photos["uri"].tolist())
    for recipe in RECIPES:
        rows, pairs = [], []
        for seed in range(SEEDS):
            folder = out / f"{recipe}-{seed}"
            frames, chosen = make(photos, folder, recipe, seed)
            manifest = scan(folder).drop(columns="label").merge(frames, on="uri")
            pool = Given([""] * len(manifest), embed(start, manifest["uri"].tolist()))
            unseen = np.setdiff1d(np.arange(len(photos)), chosen)
            truth = photos["label"][unseen].map(names.index).to_numpy(dtype=np.int64)
            alike = assign(manifest, folder, NEAR_DUPLICATES)
            pairs.append(_found(alike, manifest["scene"]))
            rules = {
                NONE: assign(manifest, folder, NONE),
                NEAR_DUPLICATES: alike,
                "the scenes": manifest.groupby("scene")["sample_id"].transform("min"),
            }
            for rule, groups in rules.items():
                tests = Given([""] * len(unseen), every[unseen])
                of_rule = differences(manifest.assign(group=groups), pool, tests, truth, names, seed)
                rows += [(rule, *row) for row in of_rule]
        results = pd.DataFrame(rows, columns=["groups", "seed", "labels", "holdout", "unseen"])
        table = [_line(key, part) for key, part in results.groupby(["groups", "labels"], sort=False)]
        columns = ["groups", "labels", "holdout", "unseen", "holdout − unseen", "deviation of one holdout"]
        print_table(f"Bursts, {recipe}: {FRAMES} frames each of {SCENES} scenes, {SEEDS} seeds", columns, table)
        recall, precision = np.mean(pairs, axis=0)
        print(f"Pairs of frames of a scene that are in one group: {recall:.3f}; of those in one group: {precision:.4f}")


def _line(key: object, part: pd.DataFrame) -> tuple[object, ...]:
    off = part["holdout"] - part["unseen"]
    means = f"{part['holdout'].mean():.3f}", f"{part['unseen'].mean():.3f}"
    spread = part.groupby("seed")["holdout"].std().mean()
    return (*key, *means, f"{off.mean():+.3f} ± {off.groupby(part['seed']).mean().sem():.3f}", f"{spread:.3f}")  # type: ignore[misc]


def _found(groups: pd.Series, scenes: pd.Series) -> tuple[float, float]:
    own = groups.to_numpy()[:, None] == groups.to_numpy()
    true = scenes.to_numpy()[:, None] == scenes.to_numpy()
    pairs = np.triu(np.ones_like(own), 1)
    both = (own & true & pairs).sum()
    return float(both / (true & pairs).sum()), float(both / max(1, (own & pairs).sum()))


if __name__ == "__main__":
    main()
