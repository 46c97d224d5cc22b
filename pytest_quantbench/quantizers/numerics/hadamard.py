"""Orthonormal Hadamard transforms of any length, as matrix products.

A Hadamard matrix has entries ±1 and orthogonal rows; divided by the root of its order it is a rotation that spreads
every coordinate evenly over all the others. For a length n ours is block-diagonal: n / size equal blocks of order
size = m · 2^k, each the Kronecker product of a matrix of order m with Sylvester's of order 2^k. The orders m are 1 and
those of Paley's two constructions (1933) over the field of q elements, q = p, p² or p³ with p an odd prime:
m = q + 1 where q ≡ 3 (mod 4) and m = 2 (q + 1) where q ≡ 1 (mod 4).

The rule for blocks: `size` is the largest divisor of n that can be had with m ≤ LARGEST, and m the smallest that gives
it. That is one block for every width of the catalogue's models. Where Paley has no order there are several blocks,
which mix less: 172 = 43 blocks of 4. An odd n has n blocks of 1 and is left as it is.

A block is applied as two factors of about equal order, so a vector costs about 2 n √size multiplications.
`mx.hadamard_transform` is not used: MLX 0.32.4 corrupts memory for lengths such as 8,960 and 13,824.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]
Signs = NDArray[np.int8]
LARGEST = 512
CHUNK = 512  # columns that are transformed together: their intermediate values stay in the cache


def _prime_power(q: int) -> tuple[int, int] | None:
    """(p, e) with q = p^e, p an odd prime and e at most 3; None for every other q."""
    prime = next((p for p in range(2, q + 1) if q % p == 0), 2)
    exponent = next((e for e in (1, 2, 3) if prime**e == q), 0)
    return (prime, exponent) if prime > 2 and exponent else None


def _field(m: int) -> int | None:
    """The size q of the field from which Paley makes a matrix of order m; None where he does not."""
    if m % 4 == 0 and _prime_power(m - 1):
        return m - 1
    return m // 2 - 1 if m % 8 == 4 and _prime_power(m // 2 - 1) else None


@cache
def blocks(n: int) -> tuple[int, int, int]:
    """How a length is divided, as (blocks, m, k): `blocks` blocks of order m · 2^k; n is the product of the three."""
    orders = [1] + [m for m in range(4, min(n, LARGEST) + 1, 4) if n % m == 0 and _field(m)]
    powers = [((n // m) & -(n // m)).bit_length() - 1 for m in orders]  # of 2 in what is left
    m, k = max(zip(orders, powers, strict=True), key=lambda order: (order[0] << order[1], -order[0]))
    return n // (m << k), m, k


def _squares(digits: NDArray[np.int64], p: int) -> NDArray[np.int64]:
    """Elements of the field, (p^e, e) coefficients of polynomials mod p with the lowest first → their squares."""
    q, e = digits.shape
    product = np.zeros((q, 2 * e - 1), np.int64)
    for low in range(e):
        product[:, low : low + e] += digits[:, low : low + 1] * digits
    if e > 1:  # reduce by x^e = tail(x), where x^e − tail(x) has no root and so, up to degree 3, no factor
        x = np.arange(p)[:, None]
        tail = next(tail for tail in digits if ((x**e - (tail * x ** np.arange(e)).sum(1, keepdims=True)) % p).all())
        for top in range(2 * e - 2, e - 1, -1):
            product[:, top - e : top] += product[:, top : top + 1] * tail
    return product[:, :e] % p


def _characters(q: int) -> Signs:
    """(q, q): χ(a − b), which is 0 for a = b, 1 where the difference is a square of the field and −1 elsewhere."""
    p, e = _prime_power(q) or (q, 1)
    places = p ** np.arange(e)
    digits = np.arange(q)[:, None] // places % p  # (q, e)
    character = np.full(q, -1, np.int8)
    character[_squares(digits, p) @ places] = 1
    character[0] = 0
    table: Signs = character[(digits[:, None] - digits) % p @ places]
    return table


def paley(m: int) -> Signs:
    """(m, m) of ±1 with orthogonal rows, for m = 1 and the orders that `blocks` may name."""
    q = _field(m)
    if q is None:
        return np.ones((1, 1), np.int8)
    bordered = np.ones((q + 1, q + 1), np.int8)
    bordered[1:, 1:], bordered[0, 0] = _characters(q), 0
    one = np.eye(q + 1, dtype=np.int8)
    if q % 4 == 3:
        bordered[1:, 0] = -1
        return bordered + one
    wide = np.kron(bordered, np.array([[1, 1], [1, -1]], np.int8))
    return wide + np.kron(one, np.array([[1, -1], [-1, -1]], np.int8))


def sylvester(k: int) -> Signs:
    """(2^k, 2^k) of ±1: entry (a, b) is the parity of the bits that a and b share."""
    shared = np.arange(1 << k)[:, None] & np.arange(1 << k)
    signs: Signs = (1 - 2 * (np.bitwise_count(shared) & 1).astype(np.int8)).astype(np.int8)
    return signs


@cache
def factors(n: int) -> tuple[Matrix, Matrix]:
    """The two orthonormal factors whose Kronecker product is one block of length n: of about equal order."""
    _, m, k = blocks(n)
    inner = min(range(k + 1), key=lambda j: (m << j) + (1 << (k - j)))
    pair = np.kron(paley(m), sylvester(inner)), sylvester(k - inner)
    left, right = ((signs / np.sqrt(len(signs))).astype(np.float32) for signs in pair)
    return left, right


def transform(columns: NDArray[np.floating], inverse: bool = False) -> Matrix:
    """(n, c) → H · columns, or Hᵀ · columns for the inverse, in float32. Hᵀ H is the identity."""
    n, count = columns.shape
    left, right = ((factor.T if inverse else factor) for factor in factors(n))
    grid = (-1, len(left), len(right))  # blocks, then the coordinate that each factor works on
    result = np.empty((n, count), np.float32)
    for start in range(0, count, CHUNK):
        stop = min(start + CHUNK, count)
        part = columns[:, start:stop].reshape(*grid, stop - start).transpose(2, 0, 1, 3)  # (right, blocks, left, c)
        part = _product(right, part).transpose(2, 1, 0, 3)  # (left, blocks, right, c)
        result[:, start:stop] = _product(left, part).swapaxes(0, 1).reshape(n, -1)
    return result


def _product(factor: Matrix, part: Matrix) -> Matrix:
    """The factor times the first axis, in one large product: many small ones would wait for BLAS threads."""
    flat = part.reshape(len(factor), -1).astype(np.float32, copy=False)
    return (factor @ flat).reshape(part.shape)
