"""Preparation of data sets: from archives or image files, in a directory or a bucket, to a prepared set."""
