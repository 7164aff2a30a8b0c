"""``python -m reference_models.golden`` rewrites the golden digests."""

from reference_models.golden import write

for file in write():
    print(file)
