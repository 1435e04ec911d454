"""Downloads of public data sets from their publishers' servers, verified by SHA-256, into a directory or a bucket."""
