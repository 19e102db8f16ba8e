"""Data sets of the retrieval tables and of the experiments on context, beside the few-shot ones.

Those of captions stand here with their images and without: text retrieval needs the captions alone.
"""

from dataclasses import replace

from ..records import DatasetRecord, Source

REVISITED = "http://cmp.felk.cvut.cz/revisitop/data/datasets"
R1M = f"{REVISITED}/revisitop1m"
REVISITED_PROTOCOL = (
    "70 queries, cropped to their boxes, against the gallery; easy, medium and hard by the ground truth, "
    "junk removed. The papers print the easy setting, IsoCLIP with the distractors R1M. Their published code "
    "reads the queries whole (`query-uncropped`) and adds R1M where it is there."
)
VGG = "https://www.robots.ox.ac.uk/~vgg/data"
FLICKR30K = "https://shannon.cs.illinois.edu/DenotationGraph/"
BDD = "http://bdd-data.berkeley.edu/"
PLACES = "http://data.csail.mit.edu/places/places365"

CAPTIONS_PROTOCOL = (
    "Text-to-text: queries are the first caption of each image, the gallery is all captions, the "
    "query itself left out; relevant are the other captions of the image. The paper uses `{test}`{note}. "
    "In the published code no query is in the gallery."
)
COCO = "http://images.cocodataset.org/zips"
KARPATHY = "https://cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip"


def revisited(name: str, printed: str, gallery: int, city: str, images: str) -> DatasetRecord:
    """ROxford or RParis, in the folders of revisitop."""
    return DatasetRecord(
        name=name,
        printed=printed,
        builder="jaxalign.eval.datasets.readers.revisited:read",
        splits={"query": 70, "gallery": gallery},
        licence="images of Flickr, of their photographers; annotations MIT",
        source="http://cmp.felk.cvut.cz/revisitop/",
        description=f"Revisited {city}: landmarks, 70 queries with boxes",
        protocol=REVISITED_PROTOCOL,
        query="query",
        gallery="gallery",
        distractors="revisitop1m",
        reference_splits={"query": "query-uncropped"},
        sources=(
            Source(f"{name}/jpg", "the images, all in this folder", images),
            Source(f"{name}/gnd_{name}.pkl", "lists and ground truth", f"{REVISITED}/{name}/gnd_{name}.pkl"),
        ),
    )


def captioned(
    name: str, printed: str, test: str, note: str, file: Source, images: tuple[Source, ...], **facts
) -> tuple[DatasetRecord, DatasetRecord]:
    """The record with images, and the one of the captions alone."""
    whole = DatasetRecord(
        name=name,
        protocol=CAPTIONS_PROTOCOL.format(test=test, note=note),
        query=test,
        gallery=test,
        test=test,
        sources=(file, *images),
        **facts,
    )
    texts = replace(
        whole,
        name=f"{name}-captions",
        printed=printed,
        description=f"{whole.description}, the captions alone",
        images=False,
        sources=(file,),
    )
    return texts, whole


RECORDS = (
    DatasetRecord(
        name="cub",
        printed="CUB",
        builder="jaxalign.eval.datasets.readers.class_lists:read_cub",
        splits={"train": 5994, "test": 5794},
        tasks=("label",),
        licence="for non-commercial research and education",
        source="https://data.caltech.edu/records/65de6-vp158",
        description="Caltech-UCSD Birds-200-2011: 200 species of birds",
        protocol="All images are queries and gallery, the query left out; relevant is the same species.",
        query="train+test",
        gallery="train+test",
        train="train",
        test="test",
        template="a photo of a {}, a type of bird.",
        sources=(
            Source(
                "CUB_200_2011",
                "the folder of this name in the archive (images/, images.txt, classes.txt, ...)",
                "https://data.caltech.edu/records/65de6-vp158 (CUB_200_2011.tgz)",
            ),
        ),
    ),
    revisited("roxford5k", "ROxford", 4993, "Oxford", f"{VGG}/oxbuildings/oxbuild_images-v1.tgz"),
    revisited("rparis6k", "RParis", 6322, "Paris", f"{VGG}/parisbuildings/ (paris_1-v1.tgz, paris_2-v1.tgz)"),
    DatasetRecord(
        name="revisitop1m",
        builder="jaxalign.eval.datasets.readers.revisited:read_distractors",
        splits={"distractors": 1_001_001},
        licence="images of Flickr, of their photographers",
        source="http://cmp.felk.cvut.cz/revisitop/",
        description="R1M: a million images without the landmarks of Oxford and Paris",
        protocol="Added to the gallery of ROxford and RParis; never relevant.",
        sources=(
            Source(
                "revisitop1m/jpg",
                "the images of all 100 archives, in their subfolders",
                f"{R1M}/jpg/ (revisitop1m.1.tar.gz to revisitop1m.100.tar.gz)",
            ),
            Source("revisitop1m/revisitop1m.txt", "the list of the images", f"{R1M}/revisitop1m.txt"),
        ),
    ),
    DatasetRecord(
        name="dogs-vs-cats",
        builder="jaxalign.eval.datasets.readers.class_lists:read_dogs_vs_cats",
        splits={"train": 24_998},
        tasks=("label",),
        licence="terms of Microsoft Research",
        source="https://www.microsoft.com/en-us/download/details.aspx?id=54765",
        description="Dogs vs Cats: 25,000 images without the two that are damaged",
        protocol=(
            "All images are queries and gallery, the query itself left out. Reevaluating, table 1; IsoCLIP,"
            " figure 4, with dogs as queries and without the dogs that are nearer to `a photo of a cat`."
        ),
        query="train",
        gallery="train",
        train="train",
        test="train",
        template="a photo of a {}",
        sources=(
            Source(
                "dogs-vs-cats/PetImages",
                "the folder of this name in the archive (Cat/, Dog/)",
                "https://www.microsoft.com/en-us/download/details.aspx?id=54765 (kagglecatsanddogs_5340.zip)",
            ),
        ),
    ),
    DatasetRecord(
        name="bdd100k",
        builder="jaxalign.eval.datasets.readers.annotations:read_bdd100k",
        splits={"train": 69_863, "val": 10_000},
        tasks=("weather", "time-of-day", "scene"),
        licence="for educational, research and not-for-profit purposes",
        source=BDD,
        description="BDD100K: frames of car cameras, with weather, time of day and scene",
        protocol=(
            "Queries are `val`, the gallery is `train` (the paper does not say); relevant is the same"
            " weather, or the same time of day. What the authors labelled as undefined has label -1:"
            " leave it out."
        ),
        query="val",
        gallery="train",
        sources=(
            Source("bdd100k/images/100k/train", "the training images", f"{BDD} (100K Images)"),
            Source("bdd100k/images/100k/val", "the validation images", f"{BDD} (100K Images)"),
            *(
                Source(f"bdd100k/labels/bdd100k_labels_images_{split}.json", "the labels", f"{BDD} (Labels)")
                for split in ("train", "val")
            ),
        ),
    ),
    DatasetRecord(
        name="places365",
        printed="Places365",
        builder="jaxalign.eval.datasets.readers.class_lists:read_places",
        splits={"val": 36_500},
        tasks=("label",),
        licence="for non-commercial research and education",
        source="http://places2.csail.mit.edu/download-private.html",
        description="Places365: 365 kinds of scenes, the large validation images",
        protocol="All images are queries and gallery, the query itself left out.",
        query="val",
        gallery="val",
        test="val",
        sources=(
            Source("Places365_val/val_large", "the validation images", f"{PLACES}/val_large.tar"),
            *(
                Source(f"Places365_val/{file}", what, f"{PLACES}/filelist_places365-standard.tar")
                for file, what in (
                    ("places365_val.txt", "the labels"),
                    ("categories_places365.txt", "the class names"),
                )
            ),
        ),
    ),
    DatasetRecord(
        name="inat2021-mini",
        printed="iNat",
        builder="jaxalign.eval.datasets.readers.annotations:read_inaturalist",
        splits={"train": 500_000},
        tasks=("label",),
        licence="for non-commercial research and education; each image has a licence of its own",
        source="https://github.com/visipedia/inat_comp/tree/master/2021",
        description="iNaturalist 2021 mini: 10,000 species, 50 images of each",
        protocol="All images are queries and gallery, the query itself left out.",
        query="train",
        gallery="train",
        train="train",
        sources=tuple(
            Source(
                f"iNaturalist2021_train/{path}",
                what,
                f"https://ml-inat-competition-datasets.s3.amazonaws.com/2021/{archive}",
            )
            for path, what, archive in (
                ("train_mini", "the images, in the folders of their species", "train_mini.tar.gz"),
                ("annotations/train_mini.json", "the annotations", "train_mini.json.tar.gz"),
            )
        ),
    ),
    *captioned(
        "coco",
        "COCO",
        "test",
        "",
        Source("COCO2014/dataset_coco.json", "Karpathy's captions and splits", KARPATHY),
        (
            Source("COCO2014/train2014", "the training images", f"{COCO}/train2014.zip"),
            Source("COCO2014/val2014", "the validation images", f"{COCO}/val2014.zip"),
        ),
        builder="jaxalign.eval.datasets.readers.annotations:read_karpathy",
        options={"file": "COCO2014/dataset_coco.json", "images": "COCO2014"},
        splits={"train": 82_783, "restval": 30_504, "val": 5_000, "test": 5_000},
        captions="about five by different people",
        licence="captions CC-BY-4.0; images of Flickr, of their photographers",
        source="https://cocodataset.org",
        description="COCO 2014 in Karpathy's splits",
    ),
    *captioned(
        "flickr30k",
        "Flickr30k",
        "test",
        "; its code uses `val` unless told otherwise",
        Source("Flickr30K/dataset_flickr30k.json", "Karpathy's captions and splits", KARPATHY),
        (Source("Flickr30K/flickr30k-images", "the images, all in this folder", FLICKR30K),),
        builder="jaxalign.eval.datasets.readers.annotations:read_karpathy",
        options={"file": "Flickr30K/dataset_flickr30k.json", "images": "Flickr30K/flickr30k-images"},
        reference_splits={"captions": "val"},
        splits={"train": 29_000, "val": 1_014, "test": 1_000},
        captions="five by different people",
        licence="for non-commercial research and education",
        source=FLICKR30K,
        description="Flickr30k in Karpathy's splits",
    ),
    *captioned(
        "nocaps",
        "nocaps",
        "val",
        "",
        Source(
            "nocaps/nocaps_val_4500_captions.json",
            "the captions of the validation set",
            "https://s3.amazonaws.com/nocaps/nocaps_val_4500_captions.json",
        ),
        (
            Source(
                "nocaps/images",
                "the images, all in this folder, under the names of the file's `file_name`",
                "the `coco_url` of each image in nocaps_val_4500_captions.json",
            ),
        ),
        builder="jaxalign.eval.datasets.readers.annotations:read_nocaps",
        options={"file": "nocaps/nocaps_val_4500_captions.json", "images": "nocaps/images"},
        splits={"val": 4_500},
        captions="ten by different people",
        licence="CC-BY-2.0",
        source="https://nocaps.org",
        description="nocaps: novel objects, validation set",
    ),
)
