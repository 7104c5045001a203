"""Gymnasium environments of lssvwm-rl; importing this registers them, as `import lssvwm_rl` does."""

import lssvwm_rl  # noqa: F401  registers the environments
