"""For all tests: Hypothesis sets no deadlines, because a busy machine is no fault of what is tested."""

from hypothesis import settings

settings.register_profile("no_deadline", deadline=None)
settings.load_profile("no_deadline")
