"""What a question says to a reader: its own text at the end of the prompt, and its options. No example in front."""

from collections.abc import Sequence
from itertools import takewhile
from typing import Any


def question_and_options(task: Any, doc: Any, instances: Sequence[Any]) -> tuple[str, tuple[str, ...]]:
    """A question's own text and its options, from lm-eval's requests for it; no option where answers are written.

    Where the options stand in the contexts, which all go on alike (as in Winogrande), the question is what the contexts
    have in common at their beginning, up to a whole word, and each option is the rest of its text.
    """
    if task.OUTPUT_TYPE == "generate_until":
        return _own(instances[0].args[0], task.doc_to_text(doc)), ()
    asked = [each.args for each in instances if each.args[0]] or [each.args for each in instances]
    own = task.doc_to_choice(doc) if task.multiple_input else [task.doc_to_text(doc)] * len(asked)
    contexts = [_own(context, text) for (context, *_), text in zip(asked, own, strict=True)]
    if len(set(contexts)) == 1:
        return contexts[0], tuple(continuation.strip() for _, continuation, *_ in asked)
    shared = _shared_words([context.split(" ") for context in contexts])
    options = [context[len(shared) :] + args[1] for context, args in zip(contexts, asked, strict=True)]
    return shared.strip(), tuple(option.strip() for option in options)


def _shared_words(contexts: Sequence[Sequence[str]]) -> str:
    """The words that all begin with, each with the space behind it."""
    alike = takewhile(lambda words: len(set(words)) == 1, zip(*contexts, strict=False))
    return "".join(f"{words[0]} " for words in alike)


def _own(context: str, text: Any) -> str:
    """The end of a prompt from where a question's own text begins; all of it where the text is not found there."""
    place = context.rfind(text.strip()) if isinstance(text, str) and text.strip() else 0
    return context[max(place, 0) :].strip()
