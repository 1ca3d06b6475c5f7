"A world model alone, from a checkout: `python lightbulb_WM.py --environment tic_tac_toe`."

import sys

from lightbulb.apps.main_menu import main

if __name__ == "__main__":
    sys.exit(main(stage="world"))
