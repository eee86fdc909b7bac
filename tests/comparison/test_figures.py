"""What a figure shows must be in the picture."""

from matplotlib.figure import Figure

from ipfl.comparison.figures import _accuracy


def row(method, accuracy, held_out, half):
    return {
        "partition": "cluster",
        "method": method,
        "accuracy": accuracy,
        "accuracy_ci": half,
        "accuracy_held_out": held_out,
        "accuracy_held_out_ci": half,
    }


def test_every_mean_lies_between_the_ends_of_its_axis_in_both_panels():
    """The two protocols share an axis, and may be far apart either way round."""
    for rows in (
        [row("ipfl", 0.985, 0.90, 0.004), row("fedavg", 0.95, 0.88, 0.004)],
        [row("ipfl", 0.60, 0.97, 0.01), row("fedavg", 0.58, 0.90, None)],
    ):
        figure = Figure()
        _accuracy(figure, rows)
        for axes, key in zip(figure.axes, ("accuracy", "accuracy_held_out"), strict=True):
            bottom, top = axes.get_ylim()
            for entry in rows:
                assert bottom < 100 * entry[key] < top
