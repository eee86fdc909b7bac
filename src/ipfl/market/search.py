"""The exact optimum of a buyer's problem, with the bound that proves it.

    max over S of  amplitude * curve.gain(own, sum of N_j over S) - sum of q_j over S

is a concave function of a sum minus an additive price. Letting sellers be bought in part gives a tight upper
bound: it fills up in the order of price per example. So the optimum is that filled set but for a few flips
near the point where filling stops, the core (Balas and Zemel 1980; Pisinger 1997 for the knapsack). The
search starts from the filled set and goes outwards, deciding one seller at a time: the next one above may be
added, the next one below removed. It keeps all partial decisions ("states") that could still win:

- a state with no more examples at no lower cost than another is dropped (Nemhauser and Ullmann 1969);
- a state whose bound is no better than the best set found is dropped. If all undecided sellers above cost at
  least `rate` per example, no completion is worth more than max over totals n of gain(n) - rate * n, plus
  what the state itself saves. Totals are whole numbers on a lattice (own + multiples of the sizes' greatest
  common divisor), so the maximum is taken over those only: among sellers of nearly equal price per example,
  where the fractional bound alone cannot tell sets apart, this one still can.

The functions here are plain Python on NumPy arrays and run as such for small markets and for gain curves of
one's own; `ipfl.market.compiled` compiles the same functions for all else. They are exempt from run-time type
checks for that reason, and stand in one file because Numba's cache notices changes of that file only.
"""

import math
from typing import Any, no_type_check

import numpy as np

Array = np.ndarray

SQUARE_ROOT_CODE, POWER_CODE, LOGARITHMIC_CODE = 0.0, 1.0, 2.0


@no_type_check
def added_gain(curve: Any, before: float, more: float) -> float:
    """Gain of `more` examples on top of `before`, per unit of amplitude; compiled: `coded_gain`."""
    if isinstance(curve, tuple):
        return coded_gain(curve, float(before), float(more))
    return float(curve.gain(before, more))


@no_type_check
def likely_peak(curve: Any, rate: float, fallback: float) -> float:
    """A guess at the total where one more example adds `rate`; compiled: `coded_peak`."""
    if isinstance(curve, tuple):
        return coded_peak(curve, float(rate), fallback)
    return fallback


@no_type_check
def coded_gain(curve: Any, before: float, more: float) -> float:
    """`added_gain` of a curve given as (code, parameter, parameter): compiled code knows no other."""
    if curve[0] == SQUARE_ROOT_CODE:
        low, high = math.sqrt(before), math.sqrt(before + more)
        return more / (low * high * (low + high))
    if curve[0] == POWER_CODE:
        return -curve[2] * before ** -curve[1] * math.expm1(-curve[1] * math.log1p(more / before))
    return curve[1] * math.log1p(more / (before + curve[2]))


@no_type_check
def coded_peak(curve: Any, rate: float, fallback: float) -> float:
    """`likely_peak` in closed form: where the derivative of the gain equals `rate`."""
    if rate <= 0.0:
        return fallback
    if curve[0] == SQUARE_ROOT_CODE:
        return (0.5 / rate) ** (2.0 / 3.0)
    if curve[0] == POWER_CODE:
        return (curve[1] * curve[2] / rate) ** (1.0 / (curve[1] + 1.0))
    return curve[1] / rate - curve[2]


@no_type_check
def peak_total(
    curve: Any, amplitude: float, rate: float, own: float, step: float, top: float, guess: float
) -> float:
    """The total n among own, own + step, ..., top with the largest amplitude * gain - rate * n.

    As the gain is concave, that is the first total from which one more step is not worth rate * step.
    Doubling steps from the guess bracket it, halving finds it.
    """
    last = math.floor((top - own) / step)
    place = math.floor((guess - own) / step) if guess < top else last
    place = min(max(place, 0), last)
    width = 1
    if amplitude * added_gain(curve, own + place * step, step) > rate * step:
        low, high = place, place + 1
        while high < last and amplitude * added_gain(curve, own + high * step, step) > rate * step:
            low = high
            width *= 2
            high = low + width
        high = min(high, last)
    else:
        low, high = place - 1, place
        while low >= 0 and amplitude * added_gain(curve, own + low * step, step) <= rate * step:
            high = low
            width *= 2
            low = high - width
        low = max(low, -1)
    # One more step is worth it from `low` (or low is -1), and not from `high` (or high is the last).
    while high - low > 1:
        middle = low + (high - low) // 2
        if amplitude * added_gain(curve, own + middle * step, step) > rate * step:
            low = middle
        else:
            high = middle
    return own + high * step


@no_type_check
def fill(
    curve: Any,
    amplitude: float,
    sizes: Array,
    prices: Array,
    skip: int,
    start: int,
    total: float,
    cost: float,
) -> tuple:
    """Go on taking sellers in order of price per example while each adds more than its price.

    Returns:
      The place of the first not taken, the total and the cost.
    """
    place = start
    while place < len(sizes):
        if place != skip:
            if amplitude * added_gain(curve, total, sizes[place]) <= prices[place]:
                break
            total += sizes[place]
            cost += prices[place]
        place += 1
    return place, total, cost


@no_type_check
def merge_flips(
    totals: Array,
    costs: Array,
    nodes: Array,
    count: int,
    size: float,
    price: float,
    item: int,
    made: int,
    parents: Array,
    items: Array,
    out_totals: Array,
    out_costs: Array,
    out_nodes: Array,
) -> tuple:
    """All states and all states with one more flip, largest total first, without the dominated ones.

    `size` and `price` are negative for a removal. Both lists fall in total, so a merge keeps the order, and a
    state survives if it is cheaper than all that have as many examples or more.

    Returns:
      The number of states written and the number of nodes made so far.
    """
    kept, flipped, written = 0, 0, 0
    cheapest = np.inf
    while kept < count or flipped < count:
        keep_total = totals[kept] if kept < count else -np.inf
        flip_total = totals[flipped] + size if flipped < count else -np.inf
        keep_cost = costs[kept] if kept < count else np.inf
        flip_cost = costs[flipped] + price if flipped < count else np.inf
        if keep_total > flip_total or (keep_total == flip_total and keep_cost <= flip_cost):
            if keep_cost < cheapest:
                cheapest = keep_cost
                out_totals[written] = keep_total
                out_costs[written] = keep_cost
                out_nodes[written] = nodes[kept]
                written += 1
            kept += 1
        else:
            if flip_cost < cheapest:
                cheapest = flip_cost
                parents[made] = nodes[flipped]
                items[made] = item
                out_totals[written] = flip_total
                out_costs[written] = flip_cost
                out_nodes[written] = made
                made += 1
                written += 1
            flipped += 1
    return written, made


@no_type_check
def optimise(
    curve: Any,
    amplitude: float,
    own: float,
    sizes: Array,
    prices: Array,
    step: float,
    skip: int,
    split: int,
    total: float,
    cost: float,
    incumbent: float,
    tolerance: float,
    node_limit: int,
    work: tuple,
) -> tuple:
    """Search outwards from a filled set (its split, total and cost) for the best set without seller `skip`.

    Returns:
      value: of the best set found, or the incumbent if nothing found beats it.
      bound: no set is worth more.
      node: where the best set's flips are in the tables of parents and items; -1 for the incumbent.
    """
    totals, costs, nodes, new_totals, new_costs, new_nodes, parents, items = work
    count = len(sizes)
    value, node = amplitude * added_gain(curve, own, total - own) - cost, 0
    if value < incumbent:
        value, node = incumbent, -1
    if step == sizes[0] and step == sizes[count - 1] and np.all(sizes == step):
        return value, value, node  # equal sizes: the cheapest few are the best few
    totals[0], costs[0], nodes[0] = total, cost, 0
    states, made, visited = 1, 1, 1
    top = own + np.sum(sizes)
    bound = value
    above, below = split, split - 1
    add_peak = drop_peak = total
    turn = True
    while True:
        if above == skip:
            above += 1
        if below == skip:
            below -= 1
        # What no completion of a state can exceed, given the rates of the next sellers above and below.
        add_rate, add_best, drop_rate, drop_best = 0.0, -np.inf, 0.0, -np.inf
        add_peak_now, drop_peak_now = -np.inf, np.inf
        if above < count:
            add_rate = prices[above] / sizes[above]
            guess = likely_peak(curve, add_rate / amplitude, add_peak)
            add_peak = add_peak_now = peak_total(curve, amplitude, add_rate, own, step, top, guess)
            add_best = amplitude * added_gain(curve, own, add_peak - own) - add_rate * add_peak
        if below >= 0:
            drop_rate = prices[below] / sizes[below]
            guess = likely_peak(curve, drop_rate / amplitude, drop_peak)
            drop_peak = drop_peak_now = peak_total(curve, amplitude, drop_rate, own, step, top, guess)
            drop_best = amplitude * added_gain(curve, own, drop_peak - own) - drop_rate * drop_peak
        left, open_bound = 0, -np.inf
        for state in range(states):
            n, paid = totals[state], costs[state]
            if n < add_peak_now:
                limit = add_best + add_rate * n - paid
            elif n > drop_peak_now:
                limit = drop_best + drop_rate * n - paid
            else:
                continue  # no completion beats the state itself, which is counted already
            if limit > value + tolerance:
                totals[left], costs[left], nodes[left] = n, paid, nodes[state]
                left += 1
                open_bound = max(open_bound, limit)
            else:
                bound = max(bound, limit)
        if left == 0:
            return value, max(bound, value), node
        visited += 2 * left
        if visited > node_limit:
            return value, max(bound, open_bound), node
        adding = above < count and (turn or below < 0)
        turn = not adding
        place = above if adding else below
        size = sizes[place] if adding else -sizes[place]
        price = prices[place] if adding else -prices[place]
        states, now = merge_flips(
            totals, costs, nodes, left, size, price, place, made, parents, items,
            new_totals, new_costs, new_nodes,
        )  # fmt: skip
        for state in range(states):
            if new_nodes[state] >= made:
                worth = amplitude * added_gain(curve, own, new_totals[state] - own) - new_costs[state]
                if worth > value:
                    value, node = worth, new_nodes[state]
        made = now
        totals, costs, nodes, new_totals, new_costs, new_nodes = (
            new_totals, new_costs, new_nodes, totals, costs, nodes,
        )  # fmt: skip
        if adding:
            above += 1
        else:
            below -= 1


@no_type_check
def write_set(
    chosen: Array, count: int, split: int, skip: int, node: int, parents: Array, items: Array
) -> None:
    """The filled set up to `split`, without `skip`, with the flips that lead to `node`."""
    for place in range(count):
        chosen[place] = place < split and place != skip
    while node > 0:
        chosen[items[node]] = not chosen[items[node]]
        node = parents[node]


@no_type_check
def drop_losers(
    curve: Any, amplitude: float, own: float, sizes: Array, prices: Array, value: float, chosen: Array
) -> tuple:
    """Leave out every seller that adds less than its price: only a search cut short can have kept one.

    Once is enough, as each one left out raises what the others add.

    Returns:
      The examples the buyer then has, and what its set is worth.
    """
    total = own
    for place in range(len(sizes)):
        if chosen[place]:
            total += sizes[place]
    for place in range(len(sizes)):
        if chosen[place]:
            added = amplitude * added_gain(curve, total - sizes[place], sizes[place])
            if added < prices[place]:
                chosen[place] = False
                total -= sizes[place]
                value += prices[place] - added
    return total, value


@no_type_check
def common_divisor(sizes: Array) -> float:
    """The greatest common divisor of whole numbers."""
    step = 0.0
    for size in sizes:
        rest = size
        while rest > 0.0:
            step, rest = rest, step % rest
        if step == 1.0:
            break
    return step


@no_type_check
def best_set(
    curve: Any,
    amplitude: float,
    own: float,
    sizes: Array,
    prices: Array,
    with_premiums: bool,
    tolerance: float,
    node_limit: int,
    work: tuple,
    chosen: Array,
    premiums: Array,
) -> tuple:
    """The best set among sellers in order of price per example, and what each of its sellers adds to it.

    The premium of seller j is W - W(without j), W being the optimum. If the node limit ended the search and
    one of the searches without a seller finds a better set, that set is adopted and its premiums are found.

    Returns:
      The value W and a bound that no set exceeds.
    """
    count = len(sizes)
    parents, items = work[6], work[7]
    step = common_divisor(sizes)
    split, total, cost = fill(curve, amplitude, sizes, prices, -1, 0, own, 0.0)
    value, bound, node = optimise(
        curve,
        amplitude,
        own,
        sizes,
        prices,
        step,
        -1,
        split,
        total,
        cost,
        -np.inf,
        tolerance,
        node_limit,
        work,
    )
    write_set(chosen, count, split, -1, node, parents, items)
    settled = False
    while not settled:
        settled = True
        bought, value = drop_losers(curve, amplitude, own, sizes, prices, value, chosen)
        for place in range(count):
            if not (with_premiums and chosen[place]):
                continue
            size, price = sizes[place], prices[place]
            without = min(value, value - amplitude * added_gain(curve, bought - size, size) + price)
            start, rest, rest_cost = split, total, cost
            if place < split:
                start, rest, rest_cost = fill(
                    curve, amplitude, sizes, prices, place, split, total - size, cost - price
                )
            best, _, found = optimise(
                curve, amplitude, own, sizes, prices, step, place, start, rest, rest_cost, without, tolerance,
                node_limit, work,
            )  # fmt: skip
            if best > value + tolerance:
                value = best
                write_set(chosen, count, start, place, found, parents, items)
                settled = False
                break
            premiums[place] = max(value - best, 0.0)
    return value, max(bound, value)


@no_type_check
def solve_rows(
    curves: Any,
    amplitudes: Array,
    own: Array,
    buyers: Array,
    all_sizes: Array,
    all_prices: Array,
    with_premiums: bool,
    tolerance: float,
    node_limit: int,
    allocation: Array,
    premiums: Array,
    values: Array,
    bounds: Array,
) -> None:
    """Solve the problem of every row; writes the last four arguments.

    A seller whose price is no less than what it would add to the buyer's own examples alone is left out at
    once: with diminishing returns it adds no more to anything larger.
    """
    m = len(all_sizes)
    capacity = node_limit + 2
    work = (
        np.empty(capacity), np.empty(capacity), np.empty(capacity, dtype=np.int64),
        np.empty(capacity), np.empty(capacity), np.empty(capacity, dtype=np.int64),
        np.empty(capacity, dtype=np.int64), np.empty(capacity, dtype=np.int64),
    )  # fmt: skip
    candidates, rates = np.empty(m, dtype=np.int64), np.empty(m)
    for row in range(len(own)):
        curve, amplitude = curves[row], amplitudes[row]
        values[row] = bounds[row] = 0.0
        if amplitude == 0.0:
            continue
        count = 0
        for seller in range(m):
            price = all_prices[row, seller]
            if seller != buyers[row] and amplitude * added_gain(curve, own[row], all_sizes[seller]) > price:
                candidates[count] = seller
                rates[count] = price / all_sizes[seller]
                count += 1
        if count == 0:
            continue
        order = np.argsort(rates[:count], kind="mergesort")
        sellers = candidates[:count][order]
        sizes, prices = all_sizes[sellers], all_prices[row][sellers]
        chosen, added = np.zeros(count, dtype=np.bool_), np.zeros(count)
        scale = amplitude * added_gain(curve, own[row], np.sum(sizes))
        values[row], bounds[row] = best_set(
            curve, amplitude, own[row], sizes, prices, with_premiums, tolerance * scale, node_limit, work,
            chosen, added,
        )  # fmt: skip
        for place in range(count):
            allocation[row, sellers[place]] = chosen[place]
            premiums[row, sellers[place]] = added[place] if chosen[place] else 0.0
