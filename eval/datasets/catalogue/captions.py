"""Data sets of captions, each with its images and without: text retrieval needs the captions alone."""

from dataclasses import replace

from ..records import DatasetRecord, Source

PROTOCOL = (
    "Text-to-text: queries are the first caption of each image, the gallery is all captions, the "
    "query itself left out; relevant are the other captions of the image. The paper uses `{test}`{note}. "
    "In the published code no query is in the gallery."
)
KARPATHY = "https://cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip"


def captioned(
    name: str, printed: str, test: str, note: str, file: Source, images: tuple[Source, ...], **facts
) -> tuple[DatasetRecord, DatasetRecord]:
    """The record with images, and the one of the captions alone."""
    whole = DatasetRecord(
        name=name,
        protocol=PROTOCOL.format(test=test, note=note),
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
    *captioned(
        "coco",
        "COCO",
        "test",
        "",
        Source("COCO2014/dataset_coco.json", "Karpathy's captions and splits", KARPATHY),
        (
            Source(
                "COCO2014/train2014",
                "the training images",
                "http://images.cocodataset.org/zips/train2014.zip",
            ),
            Source(
                "COCO2014/val2014",
                "the validation images",
                "http://images.cocodataset.org/zips/val2014.zip",
            ),
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
        (
            Source(
                "Flickr30K/flickr30k-images",
                "the images, all in this folder",
                "https://shannon.cs.illinois.edu/DenotationGraph/",
            ),
        ),
        builder="jaxalign.eval.datasets.readers.annotations:read_karpathy",
        options={"file": "Flickr30K/dataset_flickr30k.json", "images": "Flickr30K/flickr30k-images"},
        reference_splits={"captions": "val"},
        splits={"train": 29_000, "val": 1_014, "test": 1_000},
        captions="five by different people",
        licence="for non-commercial research and education",
        source="https://shannon.cs.illinois.edu/DenotationGraph/",
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
