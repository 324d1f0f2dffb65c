"""What is gained and lost where frames of a burst are one question: labels per answer, wrong labels, accuracy.

`python -m benchmarks.ask_groups FOLDER` reads `chi_muf_224.tar` and `resnet18_tin199.safetensors` from the folder. Each
of 160 photos becomes five frames, moved by up to 8 px and 7 % brighter or darker; accuracy is that on the other photos.
Heads on frozen features; draws and first batches are paired over the seeds.
"""

import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image, ImageEnhance

from al_pipeline.core.data.groups import assign
from al_pipeline.core.data.pool import scan
from al_pipeline.core.learning.head import Head, fit_head, head_logits
from al_pipeline.core.learning.options import TrainingOptions
from al_pipeline.core.learning.predict import embed
from al_pipeline.core.learning.train import untrained
from al_pipeline.core.rng import generator
from al_pipeline.core.strategies import cold_start, select
from al_pipeline.loop.together import members_for, one_of_each
from benchmarks.table import print_table

SCENES, FRAMES, SEEDS = 160, 5, 5
BATCH, BUDGETS = 20, (20, 40, 80, 160)
STRATEGY = "auto"
SIZE = 96


@dataclass(frozen=True)
class Bursts:
    """Frames with ``sample_id, uri, phash, label, scene, near, pair``; their features; photos of other scenes."""

    frames: pd.DataFrame
    features: npt.NDArray[np.float32]
    test: npt.NDArray[np.float32]
    test_labels: npt.NDArray[np.int64]


@dataclass
class Asked:
    """What so many answers have brought."""

    answers: int
    labels: int
    wrong: int
    accuracy: float


def bursts(folder: Path, place: Path) -> Bursts:
    """Make the set; which frames look alike is found as for any folder of images."""
    with tarfile.open(folder / "chi_muf_224.tar") as tar:
        tar.extractall(place, filter="data")
    names = sorted(path.name for path in (place / "chi_muf_224" / "train").iterdir() if path.is_dir())
    rng, others, rows = np.random.default_rng(0), list[tuple[Path, int]](), list[tuple[str, int, int]]()
    (place / "pool").mkdir()
    for label, name in enumerate(names):
        photos = [
            photo for split in ("train", "test") for photo in sorted((place / "chi_muf_224" / split / name).iterdir())
        ]
        order = rng.permutation(len(photos))
        others += [(photos[i], label) for i in order[SCENES // len(names) :]]
        for i in order[: SCENES // len(names)]:
            with Image.open(photos[i]) as image:
                photo = image.convert("RGB").resize((224, 224))
            scene = len(rows) // FRAMES
            for frame in range(FRAMES):
                left, top = rng.integers(0, 17, 2)
                shot = photo.crop((left, top, left + 208, top + 208))
                path = place / "pool" / f"{scene:03}-{frame}.jpg"
                ImageEnhance.Brightness(shot).enhance(rng.uniform(0.93, 1.07)).save(path, quality=92)
                rows.append((str(path), label, scene))
    found = scan(place / "pool").drop(columns="label")
    found["near"] = assign(found, place / "pool", "near_duplicates")
    frames = found.merge(pd.DataFrame(rows, columns=["uri", "label", "scene"]), on="uri")
    # Groups that are none: the frames of two scenes, of different classes as often as not.
    frames["pair"] = rng.permutation(SCENES)[frames["scene"]] // 2
    options = TrainingOptions(weights=str(folder / "resnet18_tin199.safetensors"), image_size=SIZE)
    start = untrained(names, options, seed=0, round_number=0).checkpoint
    test = embed(start, [photo for photo, _ in others])
    return Bursts(frames, embed(start, frames["uri"].tolist()), test, np.array([label for _, label in others]))


def ask(data: Bursts, strategy: str, by: str | None, seed: int, *, careful: bool) -> list[Asked]:
    """Ask until the largest budget is spent, by groups of a column; return what each budget has brought.

    Who is careful says so where the frames are not all of one class; who is not answers for the first.
    """
    frames = data.frames.assign(group=data.frames[by] if by else data.frames["sample_id"])
    row_of = {sample: row for row, sample in enumerate(frames["sample_id"])}
    truth = frames["label"].to_numpy()
    known, answers, found = dict[int, int](), 0, list[Asked]()
    alone, waiting = set[str](), list[str]()
    head: Head | None = None
    while answers < BUDGETS[-1]:
        number = answers // BATCH
        unlabeled = frames[~frames["sample_id"].isin([frames["sample_id"].iat[row] for row in known])]
        again, waiting = waiting[:BATCH], waiting[BATCH:]
        drawn = one_of_each(
            unlabeled[~unlabeled["sample_id"].isin([*again, *waiting])], alone, seed=seed, number=number
        )
        rows = np.array([row_of[i] for i in drawn["sample_id"]])
        chosen = again + _choose(data, strategy, rows, head, known, frames, BATCH - len(again), seed, number)
        plan = [{"sample_id": sample, "purpose": "query"} for sample in chosen]
        shown = members_for(plan, unlabeled, alone | set(waiting))
        beside = shown.groupby("sample_id")["member_id"].agg(list).to_dict()
        for sample in chosen:
            seen = [sample, *beside.get(sample, [])]
            classes = {int(truth[row_of[i]]) for i in seen}
            answers += 1
            if careful and len(classes) > 1:
                alone |= set(seen)
                waiting += seen
            else:
                known |= dict.fromkeys((row_of[i] for i in seen), int(truth[row_of[sample]]))
        labeled = np.array(sorted(known))
        targets = np.array([known[row] for row in labeled])
        head = fit_head(data.features[labeled], targets, 2, seed=seed)
        if answers in BUDGETS:
            right = head_logits(data.test, head.weight, head.bias).argmax(axis=1) == data.test_labels
            found.append(Asked(answers, len(known), int((targets != truth[labeled]).sum()), 100 * float(right.mean())))
    return found


def _choose(
    data: Bursts,
    strategy: str,
    rows: npt.NDArray[np.int64],
    head: Head | None,
    known: dict[int, int],
    frames: pd.DataFrame,
    size: int,
    seed: int,
    number: int,
) -> list[str]:
    if not len(rows) or not size:
        return []
    probabilities = None
    if head is not None:
        logits = head_logits(data.features[rows], head.weight, head.bias)
        probabilities = np.exp(logits - logits.max(axis=1, keepdims=True)).astype(np.float64)
        probabilities /= probabilities.sum(axis=1, keepdims=True)
    selection = select(
        strategy if head is not None else cold_start(strategy),
        probabilities=probabilities,
        embeddings=data.features[rows],
        labeled_embeddings=data.features[sorted(known)] if known else None,
        batch_size=min(size, len(rows)),
        rng=generator(seed, number, "query"),
    )
    return frames["sample_id"].iloc[rows[selection.indices]].tolist()


def main() -> None:
    """Print a table."""
    with tempfile.TemporaryDirectory() as place:
        data = bursts(Path(sys.argv[1]), Path(place))
    sizes = data.frames.groupby("near").size()
    mixed = data.frames.groupby("near")["scene"].nunique()
    print(
        f"{len(sizes)} groups of look-alikes in {SCENES} scenes, the largest of {sizes.max()}; {(mixed > 1).sum()} are "
        "of several scenes"
    )
    arms = (("each by itself", None, True), ("scenes", "scene", True), ("look-alikes", "near", True))
    arms += (("two scenes", "pair", True), ("two scenes, and nobody says that they differ", "pair", False))
    table = []
    for name, by, careful in arms:
        runs = [ask(data, STRATEGY, by, seed, careful=careful) for seed in range(SEEDS)]
        for i, budget in enumerate(BUDGETS):
            each = [run[i] for run in runs]
            labels, wrong = np.mean([one.labels for one in each]), np.mean([one.wrong for one in each])
            accuracy = [one.accuracy for one in each]
            row = (name, budget, f"{labels / budget:.2f}", f"{wrong:.1f}")
            table.append((*row, f"{np.mean(accuracy):.1f} ± {np.std(accuracy, ddof=1):.1f}"))
    header = ("asked about", "answers", "labels per answer", "wrong labels", "accuracy on unseen, %")
    print_table(f"Bursts, {STRATEGY}, {SEEDS} seeds", header, table)


if __name__ == "__main__":
    main()
