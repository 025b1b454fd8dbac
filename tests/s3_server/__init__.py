"""A stand-in for an object store that speaks S3, on loopback: as published, with signatures that are really checked."""
