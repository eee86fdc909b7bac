"""For all tests: Hypothesis sets no deadlines, because a busy machine is no fault of what is tested; receipts are
signed with a key of the tests' own.
"""

import os
import tempfile
from pathlib import Path

from hypothesis import settings

KEY = Path(tempfile.mkdtemp(prefix="ipfl-tests-")) / "operator.key"
os.environ.setdefault("IPFL_OPERATOR_KEY", str(KEY))

settings.register_profile("no_deadline", deadline=None)
settings.load_profile("no_deadline")
