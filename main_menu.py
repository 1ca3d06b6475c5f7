'The main menu from a checkout: `python main_menu.py --task test_agent --query "…"`.'

import sys

from lightbulb.apps.main_menu import main

if __name__ == "__main__":
    sys.exit(main())
