"""Train Tiny, the embedded model, from nothing but its generator. Run, one after the other:

    python tools/train_tiny.py
    python tools/train_tiny.py --go-on --seed 8 --steps 750 --learning-rate 2e-3

Writes tokenizer, BF16 weights, config, held-out text, the two tasks and card.json (seed, steps, final loss, hashes)
into pytest_quantbench/tiny/model/. The second run goes on with the weights of the first, on fresh text: after the first
alone Tiny answers only two thirds of the fact questions. Needs the `dev` extra (PyTorch, Transformers); takes about 25
and 15 minutes on two cores.
"""

import argparse
import json
import math
import sys
import time
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from pytest_quantbench.storage.files import file_sha256
from pytest_quantbench.tiny.questions import ending_questions, fact_questions
from pytest_quantbench.tiny.text import text
from pytest_quantbench.tiny.world import Draws, World, make_world

TARGET = Path(__file__).parent.parent / "pytest_quantbench" / "tiny" / "model"
VOCABULARY, CONTEXT, BATCH = 2048, 512, 8
HELD_OUT_CHARACTERS = 130_000
QUESTIONS = 600


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seed", type=int, default=7)
    options.add_argument("--steps", type=int, default=1400)
    options.add_argument("--learning-rate", type=float, default=3e-3)
    options.add_argument("--target", type=Path, default=TARGET)
    options.add_argument("--go-on", action="store_true", help="start from the weights and tokenizer in the target")
    chosen = options.parse_args()
    chosen.target.mkdir(parents=True, exist_ok=True)
    world = make_world()
    command = " ".join(["python tools/train_tiny.py", *sys.argv[1:]])
    before = json.loads((chosen.target / "card.json").read_text()) if chosen.go_on else None
    card = {"command": command, "seed": chosen.seed, "steps": chosen.steps}
    corpus = text(world, Draws(f"train-{chosen.seed}"), 4 * BATCH * CONTEXT * chosen.steps)
    if before is None:
        tokenizer = train_tokenizer(corpus[:4_000_000])
        tokenizer.save_pretrained(chosen.target)
    else:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(chosen.target)
        card["before"] = {key: before[key] for key in ("command", "seed", "steps", "final_loss_nats_per_token")}
    card |= write_tests(world, tokenizer, chosen.target)
    tokens = np.array(tokenizer.encode(corpus, add_special_tokens=False), dtype=np.int64)
    card |= train(tokens, tokenizer, chosen)
    for name in ("model.safetensors", "tokenizer.json", "heldout.txt", "facts.jsonl", "endings.jsonl"):
        card[f"{name}_sha256"] = file_sha256(chosen.target / name)
    (chosen.target / "card.json").write_text(json.dumps(card, indent=2) + "\n")
    print(json.dumps(card, indent=2))


def train_tokenizer(corpus: str) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer that puts <s> in front."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([corpus], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", clean_up_tokenization_spaces=False
    )


def write_tests(world: World, tokenizer: PreTrainedTokenizerFast, target: Path) -> dict[str, float]:
    """The held-out text and the two tasks; returns the text's size and its entropy per token."""
    draws = Draws("held out")
    held_out = text(world, draws, HELD_OUT_CHARACTERS)
    (target / "heldout.txt").write_text(held_out)
    for name, questions in (
        ("facts", fact_questions(world, QUESTIONS)),
        ("endings", ending_questions(world, QUESTIONS)),
    ):
        (target / f"{name}.jsonl").write_text("".join(json.dumps(question) + "\n" for question in questions))
    count = len(tokenizer.encode(held_out, add_special_tokens=False))
    entropy = draws.nats / count
    return {"heldout_tokens": count, "entropy_nats_per_token": entropy, "entropy_perplexity": math.exp(entropy)}


def train(tokens: np.ndarray, tokenizer: PreTrainedTokenizerFast, chosen: argparse.Namespace) -> dict[str, float]:
    """One pass over the stream in windows, <s> in front; Muon and AdamW, warm-up, cosine decay to zero."""
    torch.manual_seed(chosen.seed)
    fresh = LlamaForCausalLM(architecture(tokenizer))
    model = LlamaForCausalLM.from_pretrained(chosen.target, dtype=torch.float32) if chosen.go_on else fresh
    starts = np.random.default_rng(chosen.seed).permutation(len(tokens) // CONTEXT - 1) * CONTEXT
    steps = min(chosen.steps, len(starts) // BATCH)
    optimizers = make_optimizers(model, chosen.learning_rate)
    schedules = [torch.optim.lr_scheduler.LambdaLR(o, lambda step: learning_share(step, steps)) for o in optimizers]
    losses: list[float] = []
    began = time.perf_counter()
    for step in range(steps):
        windows = np.stack([tokens[s : s + CONTEXT - 1] for s in starts[step * BATCH : (step + 1) * BATCH]])
        batch = torch.from_numpy(np.pad(windows, ((0, 0), (1, 0)), constant_values=tokenizer.bos_token_id))
        loss = model(input_ids=batch, labels=batch).loss
        model.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        for schedule in schedules:
            schedule.step()
        losses.append(loss.item())
        if step % 20 == 0:
            seconds = time.perf_counter() - began
            left = seconds / (step + 1) * (steps - step - 1)
            print(f"step {step}/{steps}  loss {np.mean(losses[-20:]):.4f}  {left / 60:.1f} min left", flush=True)
    model.bfloat16().save_pretrained(chosen.target)
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "training_tokens": steps * BATCH * CONTEXT,
        "training_seconds": round(time.perf_counter() - began),
        "final_loss_nats_per_token": float(np.mean(losses[-50:])),
    }


def make_optimizers(model: LlamaForCausalLM, learning_rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices, which learns rare facts far sooner than AdamW does; AdamW for the rest."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "layers" in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "layers" not in name]
    return [
        Muon(matrices, {"lr": learning_rate}),
        torch.optim.AdamW(others, lr=learning_rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]


class Muon(torch.optim.Optimizer):
    """Momentum whose matrix update is orthogonalised (Jordan et al. 2024), in float32: PyTorch's own runs in
    bfloat16, which on a CPU without such instructions is a hundred times slower. Scaled to AdamW's usual step."""

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]  # PyTorch's own may take a closure
        for group in self.param_groups:
            for p in group["params"]:
                momentum = self.state[p].setdefault("momentum", torch.zeros_like(p))
                momentum.lerp_(p.grad, 0.05)
                update = orthogonal(p.grad.lerp(momentum, 0.95))
                p.mul_(1 - 0.1 * group["lr"]).add_(update, alpha=-0.2 * max(p.shape) ** 0.5 * group["lr"])


def orthogonal(matrix: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """Roughly the nearest matrix with orthonormal rows or columns, by the quintic Newton-Schulz iteration."""
    x = matrix / (matrix.norm() + 1e-7)
    x = x.T if x.shape[0] > x.shape[1] else x
    for _ in range(steps):
        gram = x @ x.T
        x = 3.4445 * x + (2.0315 * gram @ gram - 4.7750 * gram) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x


def architecture(tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    """Llama with grouped-query attention, every matrix side a multiple of 128."""
    return LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=CONTEXT,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )


def learning_share(step: int, steps: int, warm_up: int = 50) -> float:
    """The share of the peak learning rate at a step."""
    return min(1.0, (step + 1) / warm_up) * 0.5 * (1 + math.cos(math.pi * step / steps))


if __name__ == "__main__":
    main()
