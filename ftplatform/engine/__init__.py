"""Near-deduplication beyond one memory and one machine: executors, sketches in files, and the pipeline over them."""
