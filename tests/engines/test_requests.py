from pytest_quantbench.engines import requests
from pytest_quantbench.engines.answers import Said


class Batch:
    """Says the number of a sequence and how many tokens it has, one of each that runs with every call."""

    def __init__(self):
        self.running, self.most, self.together = {}, [], 0

    def insert(self, prompt, most):
        number = len(self.most) + 10
        self.most.append(most)
        self.running[number] = 0
        self.together = max(self.together, len(self.running))
        return number

    def next(self):
        for number in list(self.running):
            self.running[number] += 1
            yield Said(sequence=number, token=100 * number + self.running[number], usable=lambda: True)

    def remove(self, sequences):
        for number in sequences:
            del self.running[number]


def test_requests_get_their_tokens_and_moments_in_their_own_order():
    batch = Batch()
    found = requests.timed(batch, [[1], [1, 2], [1, 2, 3]], 4)
    assert [each.tokens for each in found] == [tuple(100 * n + place for place in range(1, 5)) for n in (10, 11, 12)]
    assert all(list(each.seconds) == sorted(each.seconds) and each.seconds[0] > 0 for each in found)
    assert batch.running == {}
    assert batch.together == 3


def test_those_beyond_what_shares_a_batch_wait():
    batch = Batch()
    found = requests.timed(batch, [[1]] * 5, 2, at_once=2)
    assert batch.together == 2
    assert found[4].seconds[0] > found[0].seconds[-1]
    assert all(len(each.tokens) == 2 for each in found)
