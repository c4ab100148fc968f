"""The one error of the package.

MemoryStoreError    the memory cannot be opened, read or written, or an id is taken by other content
"""


class MemoryStoreError(Exception):
    """Says in one sentence what is wrong with the memory and what to do about it."""
