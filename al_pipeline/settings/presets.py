"""Settings that go together, by one name: plain settings, which everything that is set otherwise overrides."""

from pathlib import Path
from typing import Any

from al_pipeline.core.errors import InputError
from al_pipeline.settings.origins import Name, kept_file, origins_of

# Each has the same names: who changes the preset keeps nothing of the last one.
PRESETS: dict[str, tuple[str, dict[Name, Any]]] = {
    "laptop": (
        "The defaults: ImageNet weights where they can be had, and the classifier alone on stored features on a CPU",
        {
            ("round", "strategy"): "auto",
            ("round", "batch_size"): 8,
            ("round", "sample_size"): 80,
            ("training", "mode"): "auto",
            ("training", "architecture"): "resnet18",
            ("training", "weights"): "auto",
            ("training", "image_size"): None,
            ("training", "epochs"): 30,
            ("training", "learning_rate"): 1e-4,
            ("training", "optimizer"): "adam",
            ("training", "schedule"): "constant",
            ("training", "batch_size"): 16,
            ("training", "augmentation"): "none",
            ("policy", "hurry"): 4.0,
        },
    )
}
PRESETS["paper"] = (
    "What the paper did: the whole network from untrained weights at 64 px, and the least certain of S = 10 B",
    PRESETS["laptop"][1]
    | {
        ("round", "strategy"): "low_certainty",
        ("training", "mode"): "finetune",
        ("training", "weights"): "none",
        ("training", "image_size"): 64,
        ("policy", "hurry"): 1.0,
    },
)
PRESETS["gpu"] = (
    "A larger network, trained as a whole once classes have ten labels, and more candidates: needs CUDA",
    PRESETS["laptop"][1]
    | {
        ("round", "sample_size"): 2000,
        ("training", "architecture"): "resnet50",
        ("training", "optimizer"): "adamw",
        ("training", "schedule"): "one_cycle",
        ("training", "batch_size"): 32,
        ("training", "augmentation"): "crop",
    },
)


def preset_values(preset: str | None, home: Path | None) -> dict[str, dict[str, Any]]:
    """Return the settings of a preset by group, but for those that the environment, .env or al.toml set.

    What the home has kept of earlier times counts less: the preset is the newer word.

    Parameters
    ----------
    preset : str, optional
        One of `PRESETS`; without one there is nothing to set.
    home : Path, optional
        As it was named on the command line.

    Raises
    ------
    InputError
        There is no such preset, or a file of settings cannot be read.
    """
    if preset is None:
        return {}
    if preset not in PRESETS:
        raise InputError(f"There is no preset {preset!r}: choose one of {', '.join(PRESETS)} (`al presets` shows them)")
    origins = origins_of({} if home is None else {"home": home})
    kept = str(kept_file(home or origins.get(("home",), ("", None))[1]))
    found: dict[str, dict[str, Any]] = {}
    for (group, name), value in PRESETS[preset][1].items():
        if origins.get((group, name), (kept, None))[0] == kept:
            found.setdefault(group, {})[name] = value
    return found
