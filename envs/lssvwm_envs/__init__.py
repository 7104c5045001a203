"""Gymnasium environments of lssvwm-rl; `import lssvwm_rl` registers them."""
