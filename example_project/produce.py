"""Send tasks for some accounts, batch after batch: `python produce.py --tenant acme hooli --batch 100`."""
import argparse
from itertools import cycle, islice
from time import monotonic, sleep

from shop.tasks import sync


def main():
    parser = argparse.ArgumentParser(description='Send tasks for some accounts, batch after batch.')
    parser.add_argument('--tenant', nargs='+', required=True, help='accounts; a batch is dealt out among them')
    parser.add_argument('--every', type=float, default=1.0, help='seconds between batches (default: %(default)s)')
    parser.add_argument('--batch', type=int, default=1, help='tasks of a batch (default: %(default)s)')
    options = parser.parse_args()
    accounts = cycle(options.tenant)
    while True:
        begin = monotonic()
        for account in islice(accounts, options.batch):
            # Nobody asks for these results.
            sync.apply_async((account,), ignore_result=True)
        print(f'sent {options.batch} for {", ".join(options.tenant)}', flush=True)
        sleep(max(0.0, begin + options.every - monotonic()))


if __name__ == '__main__':
    main()
