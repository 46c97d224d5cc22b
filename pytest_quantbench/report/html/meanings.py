"""What the page's words and names mean, each in a sentence, in the order in which a reader meets them."""

from collections.abc import Mapping

MEANINGS: Mapping[str, str] = {
    "cell": "A model under a recipe, such as Llama-3.2-3B-Instruct under int4; its figures are a row of the table.",
    "recipe, level": "How the weights are quantized. The level says how wide: int4 has about four bits per weight. "
    "Behind the level may stand the method: int4-gptq.",
    "BF16, reference": "The model as it was published, 16 bits per weight (bfloat16). All others are compared with it.",
    "interval": "Where the true figure lies, as far as the tokens, questions or runs tell: [0.2, 0.6].",
    "T1, T2, T3": "The three tests: speed and memory; perplexity on a text; accuracy on multiple-choice tasks.",
    "perplexity": "How much a text surprises the model: e to the power of the mean loss per token. Lower is better. Δ "
    "is the difference from the reference on the same tokens.",
    "KL": "Kullback–Leibler divergence: how far the probabilities of the next token are from the reference's, in nats "
    "per token, averaged. 0 means the same.",
    "nats": "The unit of losses and divergences, with the natural logarithm. A loss of 0.69 nats is a coin's toss.",
    "SNR": "Signal-to-noise ratio of a matrix: how much larger its weights are than their errors, in dB. 6 dB more "
    "halve the error.",
    "looks": "Data are looked at while they grow, and a check ends as soon as they decide. The more looks, the wider "
    "each interval, so that all of them together keep to the 5 % (the error spent). Of the plan: how much of the most "
    "data that the check would take was there.",
    "Holm's correction": "Of many verdicts some are wrong by chance. The correction asks more of each, so that all "
    "verdicts on a recipe are right at once with 95 %. Without it each is wrong with at most 5 %, by itself.",
    "front, dominated": "On the front is a cell that no other of its model beats in both size and perplexity. "
    "Dominated: another is smaller and loses less.",
    "noise floor": "How far the reference's figures move when nothing but the rounding of activations changes.",
    "clusters, flip correlation, design effect": "Questions about one text are a cluster: they are lost and won "
    "together (the flip correlation), so that they tell less than as many separate ones. The design effect says by "
    "what factor the variance grows.",
    "log-likelihood": "The logarithm of the probability that the model gives an option's text, in nats. The option "
    "that is likeliest per character counts as the answer.",
    "nibble, rtn, int8": "Methods that round each weight to the nearest of a few values; groups share a scale.",
    "gptq, awq, milo, hqq": "Methods that choose roundings or scales so that the layers' outputs, or the weights, "
    "change least; milo adds small matrices of low rank that make up for errors.",
    "aqlm, vptq, quip": "Methods that replace groups of weights by entries of code books.",
}
