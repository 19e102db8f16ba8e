"""The eleven few-shot data sets, in the folders and with the splits of CoOp.

Where to get them is what CoOp's DATASETS.md says, and the splits of the ten that are not ImageNet are its
fixed ones. Counts: Zhou et al., "Learning to Prompt for Vision-Language Models", appendix A.
"""

from ..records import DatasetRecord, Source

PROTOCOL = (
    "Retrieval: queries are `test`, the gallery is `train`, relevant is the same class. Classification:"
    " prototypes and shots from `train` (seeds 1, 2, 3), hyper-parameters on `val`, accuracy on `test`."
)
IMAGENET = "https://image-net.org/download-images.php"


def few_shot(name: str, printed: str, counts: tuple[int, int, int], **facts) -> DatasetRecord:
    """A record with splits train, val and test of `counts` examples."""
    return DatasetRecord(
        name=name,
        printed=printed,
        splits=dict(zip(("train", "val", "test"), counts, strict=True)),
        tasks=("label",),
        protocol=PROTOCOL,
        query="test",
        gallery="train",
        train="train",
        test="test",
        **facts,
    )


def zhou(
    name: str,
    printed: str,
    counts: tuple[int, int, int],
    folder: str,
    images: str,
    split: str,
    drive: str,
    url: str,
    folders: tuple[str, ...] = (),
    **facts,
) -> DatasetRecord:
    """A record of CoOp's layout: paths below `folder/images`, the splits in `folder/split_zhou_*.json`."""
    file = f"split_zhou_{split}.json"
    return few_shot(
        name,
        printed,
        counts,
        builder="jaxalign.eval.datasets.readers.annotations:read_zhou",
        source=url,
        options={"folder": folder, "images": images, "split": file},
        sources=(
            *(Source(f"{folder}/{path}", "the images, unpacked", url) for path in folders or (images,)),
            Source(f"{folder}/{file}", "the splits", f"https://drive.google.com/file/d/{drive}/view"),
        ),
        **facts,
    )


RECORDS = (
    DatasetRecord(
        name="imagenet",
        printed="ImageNet",
        builder="jaxalign.eval.datasets.readers.class_lists:read_imagenet",
        splits={"train": 1_281_167, "val": 50_000},
        optional_splits=("train",),
        tasks=("label",),
        licence="for non-commercial research, terms of image-net.org",
        source=IMAGENET,
        description="ImageNet 2012: 1,000 WordNet classes, with CLIP's names",
        protocol=PROTOCOL.replace("`test`", "`val`").replace("hyper-parameters on `val`, ", ""),
        query="val",
        gallery="train",
        train="train",
        test="val",
        sources=(
            Source(
                "imagenet/images/val",
                "a folder for each of the 1,000 classes with the 50,000 validation images",
                f"{IMAGENET} (ILSVRC2012_img_val.tar, sorted into folders)",
            ),
            Source(
                "imagenet/images/train",
                "a folder for each class with the 1,281,167 training images",
                f"{IMAGENET} (ILSVRC2012_img_train.tar)",
                required=False,
                needed_by="the split train",
            ),
        ),
    ),
    zhou(
        "caltech101",
        "Caltech",
        (4128, 1649, 2465),
        "caltech-101",
        "101_ObjectCategories",
        "Caltech101",
        "1hyarUivQE36mY6jSomru6Fjd-JzwcCzN",
        "https://data.caltech.edu/records/mzrjq-6wc02",
        licence="CC-BY-4.0",
        description="Caltech101: 100 object categories, without background and easy faces",
        tfds="caltech101:3.0.2",
    ),
    zhou(
        "pets",
        "Pets",
        (2944, 736, 3669),
        "oxford_pets",
        "images",
        "OxfordPets",
        "1501r8Ber4nNKvmlFVQZ8SeUHTcdTTEqs",
        "https://www.robots.ox.ac.uk/~vgg/data/pets/data/images.tar.gz",
        licence="CC-BY-SA-4.0",
        description="Oxford-IIIT Pets: 37 breeds of cats and dogs",
        template="a photo of a {}, a type of pet.",
        tfds="oxford_iiit_pet:4.0.0",
    ),
    zhou(
        "cars",
        "Cars",
        (6509, 1635, 8041),
        "stanford_cars",
        "",
        "StanfordCars",
        "1ObCFbaAgVu0I-k_Au-gIUcefirdAuizT",
        "http://ai.stanford.edu/~jkrause/car196/ (cars_train.tgz, cars_test.tgz)",
        folders=("cars_train", "cars_test"),
        licence="for non-commercial research",
        description="Stanford Cars: 196 makes and models of cars",
        tfds="cars196:2.1.0",
    ),
    zhou(
        "flowers102",
        "Flowers",
        (4093, 1633, 2463),
        "oxford_flowers",
        "jpg",
        "OxfordFlowers",
        "1Pp0sRXzZFZq15zVOzKjKBu4A9i01nozT",
        "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/102flowers.tgz",
        licence="not stated",
        description="Oxford Flowers: 102 species, in CoOp's own split",
        template="a photo of a {}, a type of flower.",
        tfds="oxford_flowers102:2.1.1",
    ),
    zhou(
        "food101",
        "Food101",
        (50500, 20200, 30300),
        "food-101",
        "images",
        "Food101",
        "1QK0tGi096I0Ba6kggatX1ee6dJFIcEJl",
        "https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/",
        licence="images of Foodspotting, for research",
        description="Food-101: 101 dishes",
        template="a photo of {}, a type of food.",
        tfds="food101:2.1.0",
    ),
    few_shot(
        "aircraft",
        "Aircraft",
        (3334, 3333, 3333),
        builder="jaxalign.eval.datasets.readers.class_lists:read_aircraft",
        licence="for non-commercial research",
        source="https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/",
        description="FGVC-Aircraft: 100 variants of aircraft",
        template="a photo of a {}, a type of aircraft.",
        sources=(
            Source(
                "fgvc_aircraft",
                "the folder `data` of the archive, renamed (images/, variants.txt, images_variant_*.txt)",
                "https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz",
            ),
        ),
    ),
    zhou(
        "eurosat",
        "EuroSAT",
        (13500, 5400, 8100),
        "eurosat",
        "2750",
        "EuroSAT",
        "1Ip7yaCWFi0eaOFUGga0lUdVi_DDQth1o",
        "http://madm.dfki.de/files/sentinel/EuroSAT.zip",
        licence="MIT",
        description="EuroSAT: 10 kinds of land use from Sentinel-2, in RGB",
        template="a centered satellite photo of {}.",
        tfds="eurosat/rgb:2.0.0",
    ),
    zhou(
        "ucf101",
        "UCF101",
        (7639, 1898, 3783),
        "ucf101",
        "UCF-101-midframes",
        "UCF101",
        "1I0S0q91hJfsV9Gf4xDIjgDq4AqBNJb1y",
        "https://drive.google.com/file/d/10Jqome3vtUA2keJkNanAiFpgbyC9Hc2O/view (UCF-101-midframes.zip)",
        licence="not stated",
        description="UCF101: 101 human actions, the middle frame of each video",
        template="a photo of a person doing {}.",
    ),
    zhou(
        "dtd",
        "DTD",
        (2820, 1128, 1692),
        "dtd",
        "images",
        "DescribableTextures",
        "1u3_QfB467jqHgNXC00UIzbLZRQCg2S7x",
        "https://www.robots.ox.ac.uk/~vgg/data/dtd/download/dtd-r1.0.1.tar.gz",
        licence="for research",
        description="Describable Textures: 47 textures, in CoOp's own split",
        template="{} texture.",
        tfds="dtd:3.0.1",
    ),
    zhou(
        "sun397",
        "SUN397",
        (15880, 3970, 19850),
        "sun397",
        "SUN397",
        "SUN397",
        "1y2RD81BYuiyvebdN-JymPfyWYcd8_MUq",
        "http://vision.princeton.edu/projects/2010/SUN/SUN397.tar.gz",
        licence="for research",
        description="SUN397: 397 kinds of scenes",
        tfds="sun397/tfds:4.0.0",
    ),
)
