//! Everything that outlives a build: blobs, trees, step records, volumes, collection.
