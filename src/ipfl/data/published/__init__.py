"""Published data sets, read from their own files as they are published. Nothing is unpickled that is not plain data."""
