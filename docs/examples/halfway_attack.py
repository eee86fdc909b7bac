"""An attack: the attacker's own update with the second half of its coordinates turned round."""

from ipfl.plugins import conduct


@conduct("halfway")
def halfway(updates, row, random):
    update = updates[row].copy()
    update[len(update) // 2 :] *= -1
    return update
