"`python -m lottery_diet` is `lottery-diet`."
import sys

from lottery_diet.cli import main

if __name__ == '__main__': sys.exit(main())
