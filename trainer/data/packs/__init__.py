"""Packs: a data set decoded once into uint8 records; building, verification, reading, and the format of prepared sets.

    <pack>/shard-00000.bin   raw 8-bit gray records of side x side bytes, no header, about 64 MiB per file
    <pack>/names.txt         one image name per record
    <pack>/sizes.bin         original width and height of each image, little-endian int32; 0 and 0 for unreadable ones
    <pack>/manifest.json     the pack index, written last: side, filter, fit, gray range, counts, bytes and sha256 of every
    file, unreadable images
    <pack>/checksums.bin     checksum of each record, little-endian uint32; rewritten from verified shards when missing

Images are resized as the recipe does, so a crop of a pack equals a crop of the image. Does not import torch, so that worker
processes start fast.

Disks lose or change data silently. Each attempt verifies the whole pack against its index, and the index against the
request; each record is compared with its checksum whenever it is read.
"""
