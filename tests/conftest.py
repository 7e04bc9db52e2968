import os

# As the command line does, before torch is imported: threads that wait must not spin for long.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
