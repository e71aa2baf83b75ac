"""How properties are checked: the same examples every run, and no search for a smaller one that fails.

`HYPOTHESIS_PROFILE=explore` draws new examples each run (`make soak` does), and `shrink` also looks
for the smallest that fails, which for a whole history can take many minutes.
"""

from __future__ import annotations

import os

from hypothesis import Phase, settings
from hypothesis.internal.conjecture import providers

WITHOUT_SHRINKING = (Phase.explicit, Phase.reuse, Phase.generate, Phase.target)

settings.register_profile("repeat", deadline=None, derandomize=True, print_blob=True, phases=WITHOUT_SHRINKING)
settings.register_profile("explore", deadline=None, print_blob=True, phases=WITHOUT_SHRINKING)
settings.register_profile("shrink", deadline=None, print_blob=True)
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "repeat")
settings.load_profile(PROFILE)

if PROFILE == "repeat":
    # Examples are also made of the constants in whatever modules of ours are loaded, and no setting says otherwise:
    # where processes share the tests they would be others in each run, and what failed once could not be seen again.
    providers._get_local_constants = lambda: providers._local_constants
