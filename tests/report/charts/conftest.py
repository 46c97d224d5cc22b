"""Cells that charts are drawn of, and what a specification holds."""

import pytest
from generated_suite import cells as generated

from pytest_quantbench.catalog.prices import Price
from pytest_quantbench.record.cost import priced
from pytest_quantbench.report.charts import Charted


@pytest.fixture(scope="package")
def one_model():
    return charted(1)


@pytest.fixture(scope="package")
def three_models():
    return charted(3)


def charted(models, **sizes):
    """All cells of so many models, at a price."""
    price = Price(per_hour=3.6, currency="EUR", volume_tokens=None)
    return [
        Charted(record=priced(record, arrays, price), arrays=arrays) for record, arrays in generated(models, **sizes)
    ]


@pytest.fixture(scope="package")
def twelve_models():
    return charted(12, tokens=512, questions=50)


@pytest.fixture(scope="session")
def rows_with():
    """All rows of a specification's data that have these fields."""

    def rows(specification, *names):
        every = [row for rows in specification["datasets"].values() for row in rows]
        return [row for row in every if all(name in row for name in names)]

    return rows
