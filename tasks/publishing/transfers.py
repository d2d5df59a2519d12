"""Send or receive many objects at once."""

import concurrent.futures
from collections.abc import Callable, Iterable

#: How many objects are transferred at once.
AT_ONCE = 8
#: Called for each object that has arrived, with its size in bytes.
Progress = Callable[[int], None]


def transfer_all(transfer: Callable[[str], int], names: Iterable[str], progress: Progress) -> None:
    """Transfer objects by name, several at once. The first error cancels those that have not begun, and is raised.

    transfer: transfers one object and returns its size in bytes. progress: is called with the size of each one.
    """
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE, "transfer") as pool:
        running = [pool.submit(transfer, name) for name in names]
        try:
            for future in concurrent.futures.as_completed(running):
                progress(future.result())
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
