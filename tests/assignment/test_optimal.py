"""The optimal plan against every subset, tried one by one."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reference_models
from mpsim.assignment import Plan, demote, optimal
from mpsim.assignment.schemes.optimal import RESOLUTION, _cheapest, least_elements
from mpsim.trace import trace


def by_trying(sizes, costs, need):
    """The cheapest subset; of equal ones the one whose ids from the highest down are least."""
    every = (set(part) for size in range(len(sizes) + 1) for part in combinations(range(len(sizes)), size))
    enough = [part for part in every if sum(sizes[group] for group in part) >= need]
    return sorted(min(enough, key=lambda part: (sum(costs[g] for g in part), sorted(part, reverse=True))))


groups = st.integers(1, 8).flatmap(
    lambda count: st.tuples(
        st.lists(st.one_of(st.integers(1, 4), st.integers(1, 10**9)), min_size=count, max_size=count),
        st.lists(st.one_of(st.integers(0, 3), st.integers(0, RESOLUTION)), min_size=count, max_size=count),
    )
)


@settings(max_examples=40)
@given(groups, st.floats(0, 1))
def test_no_subset_is_cheaper_and_ties_are_settled(sizes_costs, ratio):
    sizes, costs = sizes_costs
    need = least_elements(sum(sizes), ratio)
    assert _cheapest(sizes, costs, need) == by_trying(sizes, costs, need)


def test_one_element_too_few_is_too_few():
    sizes = [10**9, 10**9 - 1, 1]
    assert _cheapest(sizes, [10, 1, 5], 10**9) == [1, 2]
    assert _cheapest(sizes, [10, 1, 5], 10**9 - 1) == [1]
    assert _cheapest(sizes, [6, 1, 5], 10**9) == [0], "a tie: without the highest id"


@given(st.integers(1, 10**9), st.floats(0, 1))
def test_least_elements_is_where_the_share_turns(total, ratio):
    count = least_elements(total, ratio)
    assert count / total >= ratio and (count == 0 or (count - 1) / total < ratio)


@pytest.mark.parametrize("name", ["squeezenet", "shufflenet_v2", "mobilenet_v2", "resnet18"])
@pytest.mark.parametrize("ratio", [0, 0.3, 0.75, 1])
def test_no_group_can_be_left_out_and_no_larger_one_costs_less(name, ratio):
    traced = trace(reference_models.build(name, 0.1, seed=None))
    random = np.random.default_rng(3).random(len(traced.groups))
    best = optimal(traced, ratio=ratio, sensitivity=random)
    assert (best.scheme, best.ratio) == ("optimal", ratio) and best.reached >= ratio
    chosen = best.chosen_groups
    sizes, total = traced.groups, traced.total_elements
    taken = sum(sizes[group] for group in chosen)
    assert all((taken - sizes[group]) / total < ratio for group in chosen)
    for out in chosen:
        for other in set(range(len(sizes))) - set(chosen):
            assert random[other] > random[out] or (taken - sizes[out] + sizes[other]) / total < ratio
    assert random[list(chosen)].sum() <= random[list(demote(traced, ratio).chosen_groups)].sum()
    assert Plan.from_json(best.to_json()) == best


def test_what_does_not_fit_is_told():
    traced = trace(reference_models.build("small_cnn"), batch=4)
    with pytest.raises(ValueError, match="each of the 5 groups"):
        optimal(traced, ratio=0.5, sensitivity=[1, 2])
    with pytest.raises(ValueError, match=">= 0"):
        optimal(traced, ratio=0.5, sensitivity=[1, 2, 3, 4, float("nan")])
    with pytest.raises(ValueError, match="ratio must be a share from 0 to 1"):
        optimal(traced, ratio=1.5, sensitivity=[1] * 5)
