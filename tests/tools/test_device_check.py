"""The check of a device, proven on the CPU with small shapes; what hangs, fails or is missing loses nothing."""

import os
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

from gates import run_python

from tools import device_check
from tools.device import levels, random_weights, report

ROOT = Path(__file__).parent.parent.parent
GIVEN = device_check.Given(device="cpu", small=True)
# Such a machine has neither these nor this package's metadata: importing them fails there.
ABSENT = """
import sys
class Without:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        absent = "msgspec gguf mlx mlx_lm lm_eval pytest _pytest datasets scipy sklearn pandas pyarrow".split()
        return None if name.split(".")[0] in absent else self.finder.find_spec(name, path, target)
    def __getattr__(self, name):
        return getattr(self.finder, name)
sys.meta_path[:] = [Without(each) for each in sys.meta_path]
"""


@pytest.mark.slow
def test_the_whole_check_runs_on_a_cpu_without_what_a_cuda_machine_lacks(tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text(ABSENT)
    monkeypatch.setattr(device_check, "ROOT", f"{tmp_path}{os.pathsep}{ROOT}")
    monkeypatch.setattr(device_check, "FOLDER", ROOT)
    found = {name: device_check.run_apart(name, GIVEN) for name in device_check.PARTS}
    assert {name: part["ended"] for name, part in found.items()} == dict.fromkeys(found, "well"), found
    assert device_check.is_right(found)
    assert [row["level"] for row in found["levels"]["rows"]] == list(random_weights.LEVELS[:5])
    assert [row.get("not_judged") for row in found["levels"]["rows"]] == [None] + [levels.NO_SCIPY] * 4
    assert all(row["ratio"] > 0 for row in found["levels"]["rows"][1:])
    assert {row["step"] for row in found["sweep"]["rows"]} == {"captured", "module by module"}
    assert len(found["sweep"]["rows"]) == 2 * 4
    interpreted = [row for row in found["kernels"]["rows"] if "interpreted" in row["kernel"]]
    assert len(interpreted) == 4
    assert all("Triton" in row["kernel"] for row in interpreted)
    assert len(found["kernels"]["rows"]) == len(interpreted) + 5 * (1 + len(random_weights.FORMS)) - 8
    text = report.text({"about": device_check.about(), "shape": "small", "parts": found})
    assert all(title.split(",")[0].split("{")[0] in text for title in report.TITLES.values())


def speaking(text):
    """A part that writes this."""
    return lambda name, given: [sys.executable, "-c", text, str(given.seconds)]


@pytest.mark.parametrize(
    ("end", "how"),
    [("import time; time.sleep(60)", "beyond its 1 seconds"), ("raise SystemExit(3)", "with exit code 3")],
)
def test_a_part_that_hangs_or_fails_keeps_its_rows_and_says_how_it_ended(monkeypatch, end, how):
    monkeypatch.setattr(device_check, "command_of", speaking(f"print('{{\"right\": true}}', flush=True); {end}"))
    parts = {"walk": device_check.Part(seconds=1, rows=lambda given: iter(()))}
    monkeypatch.setattr(device_check, "PARTS", parts)
    found = device_check.run_apart("walk", GIVEN)
    assert (found["ended"], found["rows"]) == (how, [{"right": True}])
    assert not device_check.is_right({"walk": found})


@pytest.mark.parametrize(("least", "left", "told"), [(250, 400, 250), (450, 130, 130)])
def test_a_part_is_told_how_long_it_may_take(monkeypatch, least, left, told):
    spoken = "import sys; print('{\"told\": ' + sys.argv[1] + '}')"
    monkeypatch.setattr(device_check, "command_of", speaking(spoken))
    monkeypatch.setattr(device_check, "PARTS", {"walk": device_check.Part(seconds=least, rows=lambda given: iter(()))})
    assert device_check.run_apart("walk", GIVEN, left)["rows"] == [{"told": told}]


def test_a_part_gets_all_that_was_asked_for(monkeypatch):
    given = device_check.Given(device="cpu", small=True, seconds=41.5)
    got = []
    parts = {"walk": device_check.Part(seconds=1, rows=lambda given: iter(got.append(given) or ()))}
    monkeypatch.setattr(device_check, "PARTS", parts)
    monkeypatch.setattr(sys, "argv", device_check.command_of("walk", given)[1:])
    device_check.main()
    assert got == [given]


def test_a_wrong_figure_is_no_success():
    part = {"ended": "well", "rows": [{"right": True}, {"right": False}]}
    assert not device_check.is_right({"kernels": part})
    assert device_check.is_right({"kernels": part | {"rows": [{"right": True}, {}]}})


def test_missing_wheels_are_named(monkeypatch):
    assert device_check.missing("cpu") == []
    monkeypatch.setattr(device_check, "NEEDED", {"package_of_nobody": "wheel-of-nobody"})
    monkeypatch.setattr(device_check, "COMPILERS", {"cuda": "compiler_of_nobody"})
    assert device_check.missing("cpu") == ["wheel-of-nobody"]
    assert device_check.missing("cuda:1") == ["wheel-of-nobody", "compiler_of_nobody"]


def test_all_parts_together_stay_within_the_scripts_limit():
    *first, last = device_check.PARTS.values()
    assert sum(part.seconds for part in first) + 60 < last.seconds == device_check.TOTAL < 480 - 20
    assert "timeout 480" in (ROOT / "tools" / "device_check.sh").read_text()


def test_goals_are_told_with_what_was_reached():
    rows = [
        {"level": "bf16", "share_of_bandwidth": 0.71},
        {"level": "int4", "ratio": 2.4},
        {"level": "int8", "ratio": 9},
    ]
    assert report._goals(rows) == [
        "- bf16: share of bandwidth 0.71, goal 0.7: reached",
        "- int4: ratio 2.40, goal 2.5: missed",
    ]


def test_the_script_says_what_it_takes():
    found = run_python("import sys; sys.argv = ['x', '--help']; from tools import device_check as d; d.main()", ROOT)
    assert "--small" in found.stdout
