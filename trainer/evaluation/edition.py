"""Editions of the labels of ChestX-ray14: of 2017, and of 2020, which has other labels in 181 rows.

An edition is recognised by these rows. The lists of the published 70/10/20 split have the labels of 2017.
"""

import hashlib
from typing import Final

import numpy as np

from trainer.data.labels import FINDINGS, LabelTable

_BYTES: Final = 4
"""Length of a digest: no other row of either edition has one of these digests."""


def edition(table: LabelTable, file_name: str) -> str | None:
    """Name of the edition of these labels; None for other labels than the 14 findings.

    Where no row tells, the name of the file does, and the text says so.
    """
    if table.findings != FINDINGS:
        return None
    old, new = _rows_of_each(table)
    if old and new:
        return f"mixed: of the rows that changed in 2020, {old:,} are as in 2017 and {new:,} as in v2020"
    if old or new:
        return "v2020" if new else "2017"
    for mark, name in (("v2020", "v2020"), ("Data_Entry_2017", "2017")):
        if mark in file_name:
            return f"{name} by the name of its file"
    return "unknown"


def is_known_by_rows(table: LabelTable) -> bool:
    """Whether one of these rows is of the 181 that differ between the editions: images and labels are ChestX-ray14's."""
    return table.findings == FINDINGS and any(_rows_of_each(table))


def _rows_of_each(table: LabelTable) -> tuple[int, int]:
    """How many rows are as only in 2017, and as only in 2020."""
    whole_N = np.flatnonzero(np.isin(table.labels_NK, (0, 1)).all(axis=1))  # the editions have no other labels
    labels_NK = table.labels_NK[whole_N].astype(np.uint8)
    digests = [_digest(table.images[row], labels_NK[n].tobytes()) for n, row in enumerate(whole_N.tolist())]
    return sum(digest in _AS_IN_2017 for digest in digests), sum(digest in _AS_IN_2020 for digest in digests)


def _digest(image: str, labels: bytes) -> bytes:
    stem = image.rpartition("/")[2].rpartition(".")[0]
    return hashlib.sha256(stem.encode() + b"\0" + labels).digest()[:_BYTES]


def _digests(text: str) -> frozenset[bytes]:
    content = bytes.fromhex(text)
    return frozenset(content[start : start + _BYTES] for start in range(0, len(content), _BYTES))


_AS_IN_2017: Final = _digests("""
00c0c9f802c7b8dd04d2cf5d061dd0f6075cb81809049276094ea27a0b3bb35c0b3ef9200c67625c0dfe8ee40f43277310cb6c6b13346e07
135ccbec13a0013f141287e1156531ec15b507291972ae721a1ccc781b5a143d1d7d4a081dd13e4020c2ca8726a968462973108529bc6874
2a70d3112bd0a8ba2d6f63ff2ec8504e2f80611a315c4ddf32b0f00a33d5df823830e3063914ad733af5d1c93bbac4373bdce29742ef1f04
44002a4944a0f16d46d9a1204876354c49a7d3ec4bc48da84bd648914c78f9ca4e0eaaa353969bd05456a0db546e53c255a1d67456f55b02
572318a85aac07a95c9f33a35eff872d5f4f42366309c46e6494a16c68164ceb6b0cc0496b1ff0b46e9bbab86f8a5dd56fa1d1b2712382e8
7391d5c273f767b5754d3f7676473609769cea6776b251207b8ff5e17f71935a7fc4650c804b96bf80954e4183e32bd0860733b888a29ba7
899909508c4fbdb88ca8d39a8f6c9a038fd621698fe0f708922dd4b9926068ec964888f796e734ab97e2e7569aea9e6e9cbf46499cdaffef
9d078fe79dc8d11c9f9a5096a275247da36cad82a3a85b41a42b0734a4771464a5bd5e2fa6303f78a69dbdf8a6ed1ac6a7b8ec9ca9733f22
a9e107f0aaf18df1ab1ebf91abc137a5ac60f346ad115f84ad54a5d5ae576f09af30a5e2b0d4b313b7fa0923b8a95821ba949e59bb893491
bcebf162be5c2488bfbf1de9bfe69bcec24476e3c3100c04c4d907ddc4e5aa10c727837dc765a076ca8688cdcb2dfca0cbd43187cd03f9fe
cd265b5acebaacfbcf41733ed16c80e6d304f237d31b750dd33ca978d35fd56ed4ac3a98d66351b8d748d466d75d7b86d7bea981da37e676
db6fa472dc32b98ddd4d4118decc0a4fdee94902df8d3a83e18beea3e20bd8bde442e87ae472ddbfe5c8b416e61096afe7554e9be90a02bf
e9a90af5ef64a643f21194f5f371802ef4bdaeb2f552e9bdf86a1549f880ec1cf954b8e3fbd8ccf8fce16150fe000cf4ff844f8a
""")

_AS_IN_2020: Final = _digests("""
01a019b5033fd3280510f4a805a3057a0626279107658a190b04b2b10c12ad560d71bd870e57a1820e5824b40eafa1b9104e1ac1105e5d6c
1292d89912f1cee413b734f21528283215b2411f18ee189218f0ae1f1a1fe9b51a5d0c8b1a91e92f1bd33a5e1c86fa191c97bbba1d1b0628
2124c99d21da8cf126adf5df2714c1fa27ff902228694fc728b5611c2a649c352a80e8302cfefc572e4288c12fca59cf300d64c0306f4a95
311f8930318c85d333ac244f344e805e34eef991385f8f713922e07739e0c9573b4175943b4334313c11a9cb3e039c7b428e9ec5429a3164
42cd89d9437ca7294656efd248059e1349816e634c39adc64c4b682b4d5034144f358e5e5033030750683d9d53df60845415bcfc5bfbcb28
5dd15b535e3013f45eb1498a5ecac2d16175ef2c61d90847634e7fef638931a5663de74d6a08e6a16b98cbc86bf4f4da6ea2354e6eddc88a
6f9ddc4e70d28c1071c6f4d873b5b83575bdd04c75d1f34875e4a5e3762656b07685e2e07800fe047839680e7a4941387b78d85d7cf2a88d
7d7727c77e173d2a8074c32684d2305e85044b9f865799a18693a18986f5f8eb8760f3c38a3766398cb0c36f8e5357538f9a3b128fa00ad8
905cbad490f47a8290fc964e91c7f7d3951d682496834bab9a86c3b59b1638c99bcc4fcd9dcf46849dd38058a2498f53a39d54bda856b861
a992f1f3a9a44155aa79e59eb0b60172b1cd67cbb2a438dcb2cd7d63b6b17a7ab8864697bbac260dbbb929c3bc38ec0ebd6fbbe5bfbb9139
c0909183c231c3a9c3a3a147c5b62f03c757d226c9faf307ca78864fcf8cf189d0267310d119bf9bd13dbaa3d2596a99d4c7c846d74ea765
d9222e20d95f0b06dab30701dad355eadfbf1341e1367912e15f2423e16cb900e32635aae3634ebce3ecd14fe6f31c28e7d25018e8913cd9
e913ac57eb68a16eee3528bdf1f52dc8f24874f4f3aa0a2ef5f485fff627fe20f71ebec7f82d02a6fc24997afcb0c756feb17b7b
""")
"""Digests of image and labels of the rows that differ. Source: Data_Entry_2017_v2020.csv; the lists of arnoweng/CheXNet."""
