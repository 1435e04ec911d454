"""Files of ChestX-ray14: names, links and SHA-256."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class PublishedFile:
    """A file of a data set."""

    name: str
    sha256: str
    """Of the content; of a label file after gzip is undone."""
    url: str


ARCHIVES: Final = (
    PublishedFile(
        "images_01.tar.gz",
        "fd8e3542db6351ae9377779033f5d5c5f32fe50eb0830b519fbf1a7e791354b1",
        "https://nihcc.box.com/shared/static/vfk49d74nhbxq3nqjg0900w5nvkorp5c.gz",
    ),
    PublishedFile(
        "images_02.tar.gz",
        "c849cfa5504b8cffb301952bf93d53d3d39d7d931bc88bb70427b4a67de0740a",
        "https://nihcc.box.com/shared/static/i28rlmbvmfjbl8p2n3ril0pptcmcu9d1.gz",
    ),
    PublishedFile(
        "images_03.tar.gz",
        "6a90a979850545e30ed3e9ba96de2f063db13aa2a3c22363820d3f70d8c882c8",
        "https://nihcc.box.com/shared/static/f1t00wrtdk94satdfb9olcolqx20z2jp.gz",
    ),
    PublishedFile(
        "images_04.tar.gz",
        "1ca953ec37fe9c132ec49743f9651b707884c6c76e6e3a33853940c13372a385",
        "https://nihcc.box.com/shared/static/0aowwzs5lhjrceb3qp67ahp0rd1l1etg.gz",
    ),
    PublishedFile(
        "images_05.tar.gz",
        "a058c365478454dc7395ee2897c2b63a3bf108739b857046838859227e42e743",
        "https://nihcc.box.com/shared/static/v5e3goj22zr6h8tzualxfsqlqaygfbsn.gz",
    ),
    PublishedFile(
        "images_06.tar.gz",
        "9b00987d39e4c9e4ab18b7426db82197c043dacec5a827141446c3900d39d5dd",
        "https://nihcc.box.com/shared/static/asi7ikud9jwnkrnkj99jnpfkjdes7l6l.gz",
    ),
    PublishedFile(
        "images_07.tar.gz",
        "7868b43798cf1bc9ae98d142644864b056e64edda3be12f7504f16485ac382ff",
        "https://nihcc.box.com/shared/static/jn1b4mw4n6lnh74ovmcjb8y48h8xj07n.gz",
    ),
    PublishedFile(
        "images_08.tar.gz",
        "823088934d0ea57b4a7384446560bcdb825e712932b69e8541a84acee10af447",
        "https://nihcc.box.com/shared/static/tvpxmn7qyrgl0w8wfh9kqfjskv6nmm1j.gz",
    ),
    PublishedFile(
        "images_09.tar.gz",
        "bdd5bfe76323b630f5f83a013a0f2f100d1b03fdaea25240844e8763c1e40a51",
        "https://nihcc.box.com/shared/static/upyy3ml7qdumlgk2rfcvlb9k6gvqq2pj.gz",
    ),
    PublishedFile(
        "images_10.tar.gz",
        "8f18699d3baad03cdf8946220a95e8d2bab555dc8e4be99e13bc0366a72aba1c",
        "https://nihcc.box.com/shared/static/l6nilvfa9cg3s28tqv1qc1olm3gnz54p.gz",
    ),
    PublishedFile(
        "images_11.tar.gz",
        "7e7d190f71b5b792c495acb2eebbbf0563a8c528adb23e9335ec3b79cb5b486f",
        "https://nihcc.box.com/shared/static/hhq8fkdgvcari67vfhs7ppg2w6ni4jze.gz",
    ),
    PublishedFile(
        "images_12.tar.gz",
        "7316ce5f4d5e0154730e592cc2b45b48a2bee8457f6339d36c2ca55ed6e60b26",
        "https://nihcc.box.com/shared/static/ioqwiy20ihqwyr8pf4c24eazhh281pbu.gz",
    ),
)
"""Images as PNG files.

Source: links as in NIH's batch_download_zips.py; SHA-256 as in taneishi/CheXNet_ddp.
"""

_XRAYVISION: Final = "https://raw.githubusercontent.com/mlmed/torchxrayvision/f4087a0b0d0cdc6a5877fb5456965b6d29adb1e5/torchxrayvision/data"
_LISTS: Final = (
    "https://raw.githubusercontent.com/lulucikyo/CheXNet/b46cdd5e8a70bd51074cb44bd3bb02383138f50d/preprocess"
)

LABEL_FILES: Final = (
    PublishedFile(
        "Data_Entry_2017_v2020.csv",
        "dc1d2df67fdc1c5a7601d48699cda2b13dc2c4841488b4183dcf04884dbaca11",
        f"{_XRAYVISION}/Data_Entry_2017_v2020.csv.gz",
    ),
    PublishedFile(
        "BBox_List_2017.csv",
        "0bbfea9d4c4e9771481b3023b1bc9f0df9dea924453b12986beb29b0c4d0c95b",
        f"{_XRAYVISION}/BBox_List_2017.csv.gz",
    ),
    PublishedFile(
        "train_val_list.txt",
        "61fbe896321c1c1c8b75f3e4f3a08e4fef6486d95ef8a667c31d4d60dca6cb81",
        f"{_LISTS}/train_val_list.txt",
    ),
    PublishedFile(
        "test_list.txt",
        "38ca5ef7f756092946f57c1a59faca882ed589a1ab1f72590b45dc06c6d5e1cc",
        f"{_LISTS}/test_list.txt",
    ),
)
"""Labels, boxes and NIH's own split.

NIH publishes them in a folder for browsers (`HOME`) without direct links. These are copies at fixed commits.
Source: mlmed/torchxrayvision and lulucikyo/CheXNet; their content equals NIH's files.
"""

HOME: Final = "https://nihcc.app.box.com/v/ChestXray-NIHCC"

TERMS: Final = (
    f"ChestX-ray14 is provided by the NIH Clinical Center, which asks users to link {HOME}, to cite Wang et al., "
    "ChestX-ray8, CVPR 2017, and to acknowledge the NIH Clinical Center"
)
"""Source: README of the release."""
