"""What machines keep: documents in S3, written by one release and read by later ones."""
