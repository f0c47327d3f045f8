"""What every test can ask for, and how thorough property tests are."""

import os

import hypothesis

pytest_plugins = ["armillary.testing.database", "armillary.testing.strict"]

hypothesis.settings.register_profile("default", max_examples=50, deadline=None)
hypothesis.settings.register_profile("thorough", max_examples=1000, deadline=None)
hypothesis.settings.load_profile(os.environ.get("ARMILLARY_HYPOTHESIS", "default"))
