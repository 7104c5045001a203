"""`python -m lssvwm_rl` is `lssvwm`."""

from lssvwm_rl.cli import main

if __name__ == "__main__":
    main()
