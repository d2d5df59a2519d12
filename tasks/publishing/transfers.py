"""Send or receive many objects at once."""

import concurrent.futures
from collections.abc import Callable, Iterable

#: Objects on their way at once.
AT_ONCE = 8
#: Told of each object that is in place: its size in bytes.
Progress = Callable[[int], None]


def transfer_all(transfer: Callable[[str], int], names: Iterable[str], progress: Progress) -> None:
    """Transfer objects by name, several at once; the first error cancels those that have not begun, and is raised.

    transfer: moves one object and returns its bytes. progress: is told the bytes of each one that is done.
    """
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE, "transfer") as pool:
        running = [pool.submit(transfer, name) for name in names]
        try:
            for future in concurrent.futures.as_completed(running):
                progress(future.result())
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
