"""``python -m reference_models.golden``: writes the golden digests anew."""

from reference_models.golden import write

for file in write():
    print(file)
