"`python -m lightbulb`: the same as the console script."

import sys

from lightbulb.apps.main_menu import main

if __name__ == "__main__":
    sys.exit(main())
