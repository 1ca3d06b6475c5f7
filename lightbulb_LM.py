"The language model alone, from a checkout: `python lightbulb_LM.py --dataset_name demo`."

import sys

from lightbulb.apps.main_menu import main

if __name__ == "__main__":
    sys.exit(main(stage="lm"))
