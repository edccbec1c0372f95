"""``python -m cspbench``."""

from cspbench.cli import main

if __name__ == "__main__":
    main()
