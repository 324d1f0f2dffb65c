"""What a framing costs: made pictures of several shapes, with an object anywhere in them that says the class.

`python -m benchmarks.framing DATA` reads `resnet18_tin199.safetensors` from the folder. Heads on features are learned.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.table import print_table

CLASSES = ("disc", "square", "triangle", "cross")
SHAPES = {"1:1": (192, 192), "16:9": (341, 192), "3:1": (576, 192)}
SIZE, LABELS, TESTS, SEEDS = 96, 160, 400, 5


def draw(rng: np.random.Generator, kind: str, width: int, height: int) -> Image.Image:
    """Return a picture of clouds with an object of a colour, a size, an angle and a place of its own."""
    clouds = Image.fromarray(rng.integers(40, 216, (6, 6 * width // height, 3), dtype=np.uint8))
    image = clouds.resize((width, height), Image.Resampling.BICUBIC)
    radius = int(rng.integers(height // 6, height // 4))
    mask = Image.new("L", (2 * radius, 2 * radius))
    pen, side = ImageDraw.Draw(mask), 2 * radius - 1
    if kind == "disc":
        pen.ellipse((0, 0, side, side), fill=255)
    elif kind == "square":
        pen.rectangle((side // 6, side // 6, side - side // 6, side - side // 6), fill=255)
    elif kind == "triangle":
        pen.polygon([(radius, 0), (0, side), (side, side)], fill=255)
    else:
        pen.rectangle((side * 3 // 8, 0, side * 5 // 8, side), fill=255)
        pen.rectangle((0, side * 3 // 8, side, side * 5 // 8), fill=255)
    mask = mask.rotate(float(rng.uniform(0, 360)), Image.Resampling.BILINEAR)
    place = int(rng.integers(0, width - 2 * radius + 1)), int(rng.integers(0, height - 2 * radius + 1))
    image.paste(tuple(int(value) for value in rng.integers(0, 256, 3)), place, mask)
    return image


def main(folder: Path) -> None:
    """Print the accuracy of each framing on each shape: the mean over draws of pictures, and its standard error."""
    from al_pipeline.core.data.framing import FRAMINGS, by_shapes
    from al_pipeline.core.learning.options import TrainingOptions
    from al_pipeline.core.learning.predict import predict
    from al_pipeline.core.learning.train import train

    options = TrainingOptions(mode="head", weights=str(folder / "resnet18_tin199.safetensors"), image_size=SIZE)
    labels = [CLASSES[i % len(CLASSES)] for i in range(LABELS + TESTS)]
    truth = np.array([CLASSES.index(label) for label in labels[LABELS:]])
    rows = []
    for shape, (width, height) in SHAPES.items():
        found: dict[str, list[float]] = {framing: [] for framing in FRAMINGS}
        for seed in range(SEEDS):
            rng = np.random.default_rng(seed)
            with tempfile.TemporaryDirectory() as place:
                paths = [f"{place}/{i}.png" for i in range(len(labels))]
                for path, label in zip(paths, labels, strict=True):
                    draw(rng, label, width, height).save(path, compress_level=1)
                for framing in FRAMINGS:
                    chosen = options.but(framing=framing)
                    result = train(paths[:LABELS], labels[:LABELS], CLASSES, chosen, seed=seed, round_number=1)
                    said = predict(result.checkpoint, paths[LABELS:]).argmax(axis=1)
                    found[framing].append(float((said == truth).mean()))
        suits, share = by_shapes([width], [height])
        figures = [f"{np.mean(hits):.3f} ± {np.std(hits, ddof=1) / SEEDS**0.5:.3f}" for hits in found.values()]
        rows.append((shape, f"{share:.0%}", *figures, suits))
    print_table(
        f"{LABELS} labels of {len(CLASSES)} classes, {TESTS} test pictures, {SIZE} px, {SEEDS} draws",
        ("shape", "a crop shows", *FRAMINGS, "auto"),
        rows,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
