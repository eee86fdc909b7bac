"""Markets that are hosted in this process: their files altered, and the bills that came of it."""

from ipfl.network.own_disk import OwnDisk


def changed(world, **fields):
    for name, value in fields.items():
        setattr(world, name, value)
    world.write()
    return world


def bills(world, name):
    return OwnDisk(world.home(name)).bills
