"""Files of made-up participants, written in every format that is read."""

import csv

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest


@pytest.fixture
def table():
    """Ten rows, two features, two classes."""
    rng = np.random.default_rng(0)
    return {
        "age": rng.integers(20, 90, 10).tolist(),
        "dose": rng.normal(size=10).round(3).tolist(),
        "label": ["sick", "well"] * 5,
    }


@pytest.fixture
def write(tmp_path):
    """write(file name, columns) -> path; the ending decides the format."""

    def write_file(name, columns, **csv_options):
        path = tmp_path / name
        if name.endswith(".npz"):
            np.savez(path, **columns)
        elif name.endswith(".parquet"):
            pa.parquet.write_table(pa.table(columns), path)
        else:
            with path.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, **csv_options)
                writer.writerow(columns)
                writer.writerows(zip(*columns.values(), strict=True))
        return path

    return write_file
