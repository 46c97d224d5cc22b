"""Small suites run by pytester in this process, on Tiny and on small random models."""

import importlib

import pytest

# pytester forgets modules that a run imports, and MLX, SciPy and vl-convert bear being imported only once.
for module in (
    "bench.subject",
    "measures.accuracy.score",
    "plan.disk",
    "plugin.parametrize",
    "report.charts.sheet",
    "report.publish",
):
    importlib.import_module(f"pytest_quantbench.{module}")
for module in (
    "altair",
    "mlx_lm.models.llama",
    "mlx_lm.generate",
    "scipy.stats",
    "transformers.models.llama",
    "vl_convert",
):
    importlib.import_module(module)


@pytest.fixture
def suite(pytester):
    """A folder with the given test file, run in process."""

    def run(source, *arguments, plugins=()):
        pytester.makepyfile(test_gate=source)
        quick = ("-p", "no:cacheprovider", "--qb-calibration", "none")
        return pytester.runpytest_inprocess(*quick, *arguments, plugins=plugins)

    return run
