"""`quantbench judge`: quantized models that others made, against the original."""

import argparse
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import Any

from pytest_quantbench.plugin.option_form import Option
from pytest_quantbench.plugin.options import OPTIONS

HELP = "judge quantized models that others made: `quantbench judge q4.gguf --reference owner/name`"
DESCRIPTION = (
    "Is a GGUF file, an MLX, GPTQ or AWQ directory, … still good enough? It is compared with the original on the same "
    "texts and questions, and judged by the criteria of the width that is nearest to its own. This is the suite, as "
    "`quantbench run` runs it: 0 is returned if nothing failed, 1 if a criterion failed, 2 or 4 where nothing could be "
    "run. Results go to the folder `results` here."
)
USAGE = (
    "quantbench judge CANDIDATE [CANDIDATE ...] --reference MODEL [--max-ppl-delta [TEXT=]X]\n"
    "                        [--max-accuracy-drop [TASK=]POINTS] [--corpus FILE] [--task NAME] [more of the suite]\n"
    "                        [pytest's]"
)
ENDING = "pytest's other options, such as -x or -v, stand behind the candidates."
FIRST = ("max-ppl-delta", "max-accuracy-drop", "corpus", "task")  # what most people ask for
REPLACED = ("candidate", "model")  # by the arguments of this verb


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Candidates, the original, and every option of the suite; what else there is goes to pytest."""
    parser.usage, parser.epilog = USAGE, ENDING
    parser.set_defaults(passes_on=True, told=())
    parser.add_argument(
        "candidate",
        nargs="+",
        metavar="CANDIDATE",
        help="a file, a directory, or of the Hub owner/name[@revision][:file]; NAME=CANDIDATE gives it a name",
    )
    parser.add_argument(
        "--reference",
        metavar="MODEL",
        help="the original: a directory, a Hub id, or a name of the catalogue; without it the one is proposed that the "
        "candidates' files name",
    )
    _add(parser, FIRST)
    group = parser.add_argument_group("more of the suite")
    group.add_argument("-k", metavar="EXPRESSION", action=_PassOn, help="which tests, by their names: pytest's")
    group.add_argument("-m", metavar="MARKERS", action=_PassOn, help="which tests, such as t2 or 'not t1': pytest's")
    _add(group, [name for name in OPTIONS if name not in (*FIRST, *REPLACED)])


def _add(group: Any, names: Iterable[str]) -> None:
    for name in names:
        option: Option = OPTIONS[name]
        more = " (repeatable)" if option.repeatable else ""
        takes = {"nargs": 0} if option.switch is not None else {"metavar": option.metavar or "VALUE"}
        group.add_argument(f"--{name}", action=_PassOn, help=f"{option.help}{more}", **takes)


class _PassOn(argparse.Action):
    """Keeps an option as it was typed: the suite reads it."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option_string: Any = None
    ) -> None:
        """argparse's."""
        value = [] if self.nargs == 0 else [values]
        joined = [f"{option_string}={values}"] if value and option_string.startswith("--") else [option_string, *value]
        namespace.told = [*namespace.told, *joined]


def run(chosen: argparse.Namespace) -> int:
    """Run the suite on the candidates. Returns pytest's exit code. Raises QuantbenchError where the original is not
    given or is none.
    """
    from pytest_quantbench.catalog.models import original
    from pytest_quantbench.plugin import suite

    if chosen.reference is None:
        _ask_for_reference(chosen.candidate, "--offline" in chosen.told)
    original(chosen.reference, "--reference")
    return suite.run(arguments(chosen))


def arguments(chosen: argparse.Namespace) -> list[str]:
    """The same for pytest."""
    candidates = [word for each in chosen.candidate for word in ("--candidate", each)]
    return [*candidates, "--model", chosen.reference, *chosen.told, *chosen.rest]


def _ask_for_reference(sources: Sequence[str], offline: bool) -> None:
    """Raise QuantbenchError with the original that the candidates' files name."""
    from pytest_quantbench.catalog.candidates import name_and_source
    from pytest_quantbench.plugin import candidates

    with ExitStack() as working:
        found = candidates.open_all([name_and_source(source) for source in sources], offline, working)
        candidates.reference_of(found, (), "--reference")
