"""The options of the plugin, each declared once: what it is called, which setting it fills, how it is read.

An option that is not given leaves its setting at the default of `catalog.settings.Settings`. Loaded in every pytest run
of an environment, so with the standard library and pytest only.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from pytest_quantbench.plugin import option_values as values
from pytest_quantbench.plugin.option_form import Option


def _count(setting: str, told: str, least: int | None = None) -> Option:
    """A whole number."""
    return Option(setting=setting, read=values.whole(least), metavar="N", help=told)


OPTIONS: Mapping[str, Option] = MappingProxyType(
    {
        "model": Option(help="also run this model", metavar="PATH_OR_HUB_ID", repeatable=True),
        "candidate": Option(
            read=values.named_source,
            metavar="[NAME=]SOURCE",
            repeatable=True,
            help="judge this quantized model (a file, a directory, or of the Hub owner/name[@revision][:file]) against "
            "the one original that --model names",
        ),
        "candidate-config": Option(
            read=values.whose_config,
            metavar="reference|own",
            help="whose rotary positions, epsilon and windows candidates are run with: the original's, or their own "
            "(default reference)",
        ),
        "max-ppl-delta": Option(
            read=values.limit_of,
            metavar="[TEXT=]X",
            repeatable=True,
            help="T2: how far above the original's a perplexity may be, in every cell; on the judged text, or on one "
            "of --corpus by its name",
        ),
        "max-accuracy-drop": Option(
            read=values.limit_of,
            metavar="[TASK=]POINTS",
            repeatable=True,
            help="T3: how many percentage points below the original's an accuracy may be, in every cell; on the judged "
            "task, or on another by its name",
        ),
        "max-retrieval-drop": Option(
            read=values.limit,
            metavar="POINTS",
            help="retrieval: how many percentage points below the original's it may be, in every stratum of every cell",
        ),
        "min-reduction": Option(
            read=values.limit, metavar="PERCENT", help="size: how much smaller than BF16 it has to be, in every cell"
        ),
        "min-speedup": Option(
            read=values.limit, metavar="X", help="T1: how many times as fast as BF16 it has to be, in every cell"
        ),
        "recipe": Option(help="such as int4-rtn, instead of the levels' defaults", metavar="ID", repeatable=True),
        "engine": Option(
            setting="engine",
            read=values.engine,
            metavar="auto|mlx|torch|NAME",
            help="what runs the model: auto is mlx on Metal, else torch where it is installed; torch:cpu, torch:cuda "
            "and torch:mps say on what (default auto)",
        ),
        "activations": Option(
            setting="activations",
            read=values.one_of("float32", "bfloat16"),
            metavar="float32|bfloat16",
            help="in what T2, T3 and calibration compute (default float32)",
        ),
        "runs": _count("runs", "T1: runs of each prompt (default 3)", least=1),
        "new-tokens": _count("new_tokens", "T1: tokens that every run writes (default 256)", least=2),
        "prompts": Option(
            setting="prompts",
            read=values.prompts,
            metavar="FILE",
            help="T1: go on from these prompts instead of five of its own: one in each line, or JSONL",
        ),
        "sweep": Option(
            setting="sweep",
            switch=True,
            help="T1 in full: decoding by batch and depth, prefill by length, sampled answers, requests at once",
        ),
        "temperature": Option(
            setting="temperature",
            read=values.above_zero,
            metavar="X",
            help="--sweep: at which its answers to the prompts are drawn (default 0.7)",
        ),
        "tokens": Option(
            setting="tokens",
            read=values.token_count,
            metavar="N",
            help="T2: how many tokens of the corpus, or 'all' (default 512)",
        ),
        "max-tokens": Option(
            setting="most_tokens",
            read=values.token_count,
            metavar="N",
            help="T2: how far an undecided check goes on, or 'all' (default 16384)",
        ),
        "sampling": Option(
            setting="sampling",
            read=values.one_of("windows", "head"),
            metavar="windows|head",
            help="T2: windows drawn from all of the corpus, or its first tokens (default windows)",
        ),
        "context": _count("context", "T2: tokens in a window (default 256; 2048 with --sampling head)", least=2),
        "stride": _count("stride", "T2: tokens scored in each (default 64; the context with head)"),
        "memory": Option(
            setting="memory_bytes",
            read=values.gigabytes,
            metavar="GB",
            help="T2, T3: hidden states beyond this go to temporary files (default 4)",
        ),
        "corpus": Option(
            read=values.corpus,
            metavar="FILE",
            repeatable=True,
            help="T2: a UTF-8 text or JSONL file, or a corpus by name, instead of the model's; the first is judged",
        ),
        "calibration": Option(
            setting="calibration",
            read=values.calibration,
            metavar="FILE",
            help="calibration text instead of the model's: a file, a corpus by name, self or none",
        ),
        "calibration-sequences": _count(
            "calibration_sequences", "calibration sequences (default 128; Tiny 32)", least=1
        ),
        "limit": _count("limit", "T3: questions per task, a seeded sample (default 200)", least=1),
        "task": Option(setting="tasks", metavar="NAME", repeatable=True, help="T3: an lm-eval task or its YAML file"),
        "task-data": Option(
            read=values.name_and_file, metavar="NAME=FILE.jsonl", repeatable=True, help="T3: a task's questions"
        ),
        "retrieval-questions": _count(
            "retrieval_questions", "retrieval: questions of each depth and number of hops (default 40)", least=1
        ),
        "retrieval-context": _count(
            "retrieval_context",
            "retrieval: tokens of a context with its question, 8192 at most (default 2048, or as many as the model "
            "takes)",
            least=1,
        ),
        "run-code": Option(
            setting="run_code",
            switch=True,
            help="T3: run the programs that a model writes (humaneval, mbpp), with limits",
        ),
        "sample-seed": Option(
            setting="seed", read=values.seed, metavar="N", help="seed of sampled questions and windows (default 0)"
        ),
        "loads": _count("loads", "load: warm ones (default 5)", least=1),
        "cold-loads": _count("cold_loads", "load: ones whose files are not in memory (default 3)", least=0),
        "drop-caches": Option(
            setting="drop_caches",
            switch=True,
            help="load: before a cold one, give back every file's pages (takes root)",
        ),
        "fixed": Option(
            setting="fixed", switch=True, help="one look: an undecided check does not go on with more samples"
        ),
        "time-budget": Option(
            setting="time_budget_seconds",
            read=values.minutes,
            metavar="MINUTES",
            help="after so long no check of a cell goes on (default: none)",
        ),
        "results": Option(setting="results", read=Path, metavar="DIR", help="where records go (default results)"),
        "track": Option(
            read=values.one_of("trackio", "mlflow"),
            metavar="trackio|mlflow",
            repeatable=True,
            help="make each cell a run of this tracker of experiments",
        ),
        "baseline": Option(
            setting="baseline",
            read=Path,
            metavar="DIR",
            help="results of an earlier run: a cell that is worse than its record there, beyond the noise, fails",
        ),
        "undecided": Option(
            read=values.one_of("report", "fail"),
            metavar="report|fail",
            help="what a verdict does to the run that is undecided, or anomalous: of a candidate better than its "
            "reference (default report)",
        ),
        "fresh": Option(setting="fresh", switch=True, help="measure again what earlier sessions have measured"),
        "resume": Option(setting="fresh", switch=False, help="take what earlier sessions have measured (default)"),
        "disk-plan": Option(
            setting="disk_plan",
            read=values.named_disk_plan,
            metavar="A|B|C|D|S",
            help="what stays on disk, see `quantbench plan` (default A)",
        ),
        "keep-compressed": Option(
            setting="keep_compressed", switch=True, help="with --disk-plan S: write compressed models all the same"
        ),
        "price-per-hour": Option(
            read=values.price,
            metavar="PRICE",
            help="what an hour of this machine costs, such as 2.49 or 2.49USD: records tell what a million tokens do",
        ),
        "cost-volume": Option(
            read=values.whole(least=1),
            metavar="TOKENS",
            help="with a price: spread the cost of compressing over so many output tokens",
        ),
        "offline": Option(setting="offline", switch=True, help="fetch nothing"),
    }
)
