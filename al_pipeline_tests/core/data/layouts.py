"""Layouts of public data sets, made anew: paths, AL_CLASSES, and where files of which folder come to lie."""

Placed = dict[str, tuple[str, str | None]]


def files(*folders: str, count: int = 2, name: str = "{}.jpg") -> list[str]:
    """Return paths of some images in each folder."""
    return [f"{folder}/{name.format(i)}" for folder in folders for i in range(count)]


LAYOUTS: dict[str, tuple[list[str], list[str] | None, Placed]] = {
    "ImageNet: a folder per WordNet id": (
        files("train/n01440764", "train/n01443537", "val/n01440764", "val/n01443537"),
        None,
        {"train/n01440764/0.jpg": ("pool", "n01440764"), "val/n01443537/1.jpg": ("pool", "n01443537")},
    ),
    "Kaggle's dogs and cats: the class in the files' names, test1 flat": (
        ["train/cat.0.jpg", "train/dog.0.jpg", "test1/1.jpg", "test1/2.jpg", "sampleSubmission.csv"],
        ["cat", "dog"],
        {"train/cat.0.jpg": ("pool", None), "train/dog.0.jpg": ("pool", None)},
    ),
    "Kaggle: class folders, a flat test folder, and an archive's folder around them": (
        [*files("leaves/train/healthy", "leaves/train/rust", "leaves/test"), "leaves/train.csv"],
        None,
        {"leaves/train/healthy/0.jpg": ("pool", "healthy"), "leaves/train/rust/0.jpg": ("pool", "rust")},
    ),
    "MVTec: train without defects, test with them, and their masks": (
        files("train/good", "test/good", "test/broken_large", name="{}.png")
        + files("ground_truth/broken_large", name="{}_mask.png")
        + ["license.txt"],
        None,
        {"train/good/0.png": ("pool", "good"), "test/broken_large/1.png": ("holdout", "broken_large")},
    ),
    "MVTec as a whole: several data sets": (
        files("bottle/train/good", "bottle/test/cut", "cable/train/good", "cable/test/bent", name="{}.png")
        + files("cable/ground_truth/bent", name="{}_mask.png"),
        None,
        {"bottle/train/good/0.png": ("pool", "good"), "cable/test/bent/0.png": ("holdout", "bent")},
    ),
    "Oxford's pets: all in one folder, trimaps beside it": (
        ["images/Abyssinian_1.jpg", "images/beagle_2.jpg", "annotations/trimaps/beagle_2.png", "annotations/list.txt"],
        ["Abyssinian", "beagle"],
        {"images/Abyssinian_1.jpg": ("pool", None), "images/beagle_2.jpg": ("pool", None)},
    ),
    "iNaturalist: species below groups, no AL_CLASSES": (
        files("train_val_images/Aves/Cardinalis cardinalis", "train_val_images/Insecta/Danaus plexippus"),
        None,
        {
            "train_val_images/Aves/Cardinalis cardinalis/0.jpg": ("pool", "Aves"),
            "train_val_images/Insecta/Danaus plexippus/1.jpg": ("pool", "Insecta"),
        },
    ),
    "iNaturalist: the species named": (
        files("train_val_images/Aves/Cardinalis cardinalis", "train_val_images/Insecta/Danaus plexippus"),
        ["Cardinalis cardinalis", "Danaus plexippus"],
        {
            "train_val_images/Aves/Cardinalis cardinalis/0.jpg": ("pool", "Cardinalis cardinalis"),
            "train_val_images/Insecta/Danaus plexippus/1.jpg": ("pool", "Danaus plexippus"),
        },
    ),
    "Snapshot Serengeti: seasons, sites, cameras": (
        files("S1/B04/B04_R1", "S1/C10/C10_R1", name="S1_R1_PICT{:04d}.JPG"),
        ["zebra", "gnu", "nothing"],
        {"S1/B04/B04_R1/S1_R1_PICT0000.JPG": ("pool", None), "S1/C10/C10_R1/S1_R1_PICT0001.JPG": ("pool", None)},
    ),
    "camera traps of which a site is sorted": (
        files("Site_001/CAM2/deer", "Site_001/CAM2/fox", "Site_002/CAM1", name="IMG_{}.JPG"),
        ["fox", "deer"],
        {"Site_001/CAM2/deer/IMG_0.JPG": ("pool", "deer"), "Site_002/CAM1/IMG_0.JPG": ("pool", None)},
    ),
    "Roboflow: train, valid and test with class folders": (
        [*files("train/ripe", "valid/ripe", "test/raw"), "README.roboflow.txt", "README.dataset.txt"],
        None,
        {
            "train/ripe/0.jpg": ("pool", "ripe"),
            "valid/ripe/0.jpg": ("pool", "ripe"),
            "test/raw/0.jpg": ("holdout", "raw"),
        },
    ),
    "Roboflow: boxes, images and labels apart": (
        files("train/images", "valid/images") + files("train/labels", "valid/labels", name="{}.txt") + ["data.yaml"],
        ["ripe", "raw"],
        {"train/images/0.jpg": ("pool", None), "valid/images/0.jpg": ("pool", None)},
    ),
    "CIFAR: classes that are numbers": (
        files(*(f"{split}/{number}" for split in ("train", "test") for number in range(10)), name="{}.png"),
        None,
        {"train/0/0.png": ("pool", "0"), "test/9/1.png": ("holdout", "9")},
    ),
    "GTSRB: numbers with zeros before them, a flat test": (
        files(*(f"Train/{number:05d}" for number in range(43)), "Test", name="{}.png"),
        None,
        {"Train/00000/0.png": ("pool", "00000"), "Train/00042/1.png": ("pool", "00042")},
    ),
    "patients, with a diagnosis below some": (
        files("patient_07/left", "patient_07/right", "patient_08/left/melanoma", name="IMG_{}.png"),
        ["melanoma", "nevus"],
        {"patient_07/left/IMG_0.png": ("pool", None), "patient_08/left/melanoma/IMG_1.png": ("pool", "melanoma")},
    ),
    "WILDS, PACS: domains with the same classes in each": (
        files(*(f"{domain}/{name}" for domain in ("photo", "sketch") for name in ("dog", "horse", "house"))),
        ["dog", "horse", "house"],
        {"photo/dog/0.jpg": ("pool", "dog"), "sketch/house/0.jpg": ("pool", "house")},
    ),
    "Google Photos: years and albums, a file of metadata beside each": (
        files("Takeout/Google Photos/Photos from 2022", "Takeout/Google Photos/Photos from 2023", name="IMG_{}.jpg")
        + files("Takeout/Google Photos/Photos from 2022", name="IMG_{}.jpg.supplemental-metadata.json"),
        ["muffin", "chihuahua"],
        {"Takeout/Google Photos/Photos from 2022/IMG_0.jpg": ("pool", None)},
    ),
    "months in years": (
        files("2023/05", "2023/06", "2024/01"),
        ["muffin", "chihuahua"],
        {"2023/05/0.jpg": ("pool", None), "2024/01/1.jpg": ("pool", None)},
    ),
}
