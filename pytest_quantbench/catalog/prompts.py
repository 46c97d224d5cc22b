"""What T1 lets a model go on from, and which of T3's tasks forgive a quantized model a lot. This is a file you edit."""

# Tasks by what quantization does to them, as published comparisons found it: choosing among given answers forgives a
# lot, writing an answer token by token does not.
INSENSITIVE_TASKS = ("arc_easy", "arc_challenge", "hellaswag", "piqa", "winogrande", "boolq", "openbookqa", "mmlu")


SENSITIVE_TASKS = ("gsm8k", "humaneval", "mbpp", "ifeval", "minerva_math")


PROMPTS = (
    "Explain the theory of relativity in simple terms.",
    "Write a Python function to compute Fibonacci numbers.",
    "What are the pros and cons of electric vehicles?",
    "Summarise the French Revolution in 3 sentences.",
    "What is the difference between supervised and unsupervised learning?",
)


NEW_TOKENS = 256
