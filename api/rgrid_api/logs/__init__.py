"""What scripts wrote: appended by runners, read by cursor, archived to the object store."""
