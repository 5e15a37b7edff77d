"""Versioning of data and an incremental pipeline, beside what people use for it: the same data, the same machine, in turn.

| work | what is timed |
|---|---|
| add | 70,000 files of 300 to 900 bytes in 100 folders that were never seen before |
| recheck | that nothing changed |
| append | 100 files more |
| change_byte | one byte in the middle of a file of 2 GB that was added before; and what that stores |
| read_batches | items a second of CPU, at random, in batches of 256, of what `add` stored |

Others have names of their own: `rows: add`, `one array: add`, `1,000,000 files: add`, `python step: first run`. CPU is that of a
command and all it starts, the peak of memory that of the largest of these processes.
"""
