"""Class and joint names, from the common training data sets or from label files."""

from pathlib import Path

from centernetd.config import regular
from centernetd.errors import ModelError

_MAX_FILE_SIZE = 2**20  # bytes

# Microsoft COCO, 2014 and 2017: the 80 classes with boxes, in the order of their category ids.
COCO = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat",
    "traffic light", "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog",
    "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella",
    "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball", "kite",
    "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange",
    "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant",
    "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone",
    "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors",
    "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip

# PASCAL VOC, 2007 to 2012, in alphabetical order, as CenterNet and most others number them.
VOC = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip

# The keypoints of Microsoft COCO's person class, in their order.
COCO_JOINTS = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder",
    "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee",
    "right_knee", "left_ankle", "right_ankle",
)  # fmt: skip

NAMED = {"coco": COCO, "voc": VOC}


def of_classes(count: int) -> tuple[str, ...]:
    """Return the default labels for `count` classes: 80 are COCO's, 20 are VOC's."""
    usual = {len(labels): labels for labels in NAMED.values()}
    return usual.get(count) or tuple(f"class_{index}" for index in range(count))


def of_joints(count: int) -> tuple[str, ...]:
    """Return the default joint names for `count` joints: 17 are COCO's."""
    if count == len(COCO_JOINTS):
        return COCO_JOINTS
    return tuple(f"joint_{index}" for index in range(count))


def find(name: str) -> tuple[str, ...]:
    """Return the labels for a data set name or a label file.

    Raises
    ------
    ModelError
        It is neither, or as for `read`.
    """
    return NAMED.get(name) or read(Path(name))


def read(path: Path) -> tuple[str, ...]:
    """Return the labels in a text file: one per line, blank lines skipped.

    Raises
    ------
    ModelError
        The file can't be read or contains no labels.
    """
    try:
        lines = regular.read(path, _MAX_FILE_SIZE).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ModelError(f"{path}: the labels are not UTF-8 text") from None
    except OSError as error:
        raise ModelError(f"{path}: the labels can't be read: {error.strerror}") from None
    labels = tuple(line.strip() for line in lines if line.strip())
    if not labels:
        raise ModelError(f"{path}: contains no labels")
    return labels
