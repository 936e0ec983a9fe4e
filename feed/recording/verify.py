"""Whether a file is what was written: every byte of it, and which batch is at fault where not.

Owns the walk over a whole file. A sealed file has a checksum of all its bytes in its footer, besides those of its
batches; so a fault between the batches is seen too.
"""

from __future__ import annotations

from collections.abc import Iterator

import google_crc32c

from feed.recording.files import RecordedFile
from feed.recording.folder import FilePlace, Folder, sealed_of
from feed.recording.frames import DIGITS, ZEROS
from feed.recording.notes import CorruptRecording
from feed.recording.seal import FOOTER_MARK

_READ_BYTES = 4 << 20
_FOOTER_BYTES_MAX = 64 << 20


def faults_of(folder: Folder, place: FilePlace) -> Iterator[str]:
    """What is wrong with a file, each fault in words with file and batch; nothing for a good one.

    A torn tail of an open file is no fault: it is what a crash leaves, and whoever takes up the recording cuts it.
    """
    try:
        file = RecordedFile(folder, place)
    except FileNotFoundError:
        # sealed since it was listed; or deleted, and then there is nothing to be wrong
        if not place.sealed:
            yield from faults_of(folder, sealed_of(place))
        return
    except CorruptRecording as error:
        yield str(error)
        return
    try:
        found = False
        for number in range(len(file.blocks)):
            try:
                file.batch(number).validate(full=True)
            except CorruptRecording as error:
                found = True
                yield str(error)
            except ValueError as error:
                found = True
                yield str(file.corrupt(str(error), number))
        if place.sealed and not found and (why := _whole(file)):
            yield str(file.corrupt(why))
    finally:
        file.close()


def _whole(file: RecordedFile) -> str:
    """What is wrong with the file as a whole, empty where nothing is."""
    size = file.size
    tail = file.read_at(max(0, size - _FOOTER_BYTES_MAX), _FOOTER_BYTES_MAX)
    at = tail.rfind(FOOTER_MARK)
    if at < 0:
        return "has no checksum in its footer"
    digits_at = max(0, size - _FOOTER_BYTES_MAX) + at + len(FOOTER_MARK)
    crc = 0
    for start in range(0, size, _READ_BYTES):
        data = bytearray(file.read_at(start, _READ_BYTES))
        for place in range(max(start, digits_at), min(start + len(data), digits_at + DIGITS)):
            data[place - start] = ZEROS[0]
        crc = google_crc32c.extend(crc, bytes(data))
    wanted = tail[at + len(FOOTER_MARK) :][:DIGITS].decode("ascii", "replace")
    return "" if f"{crc:08x}" == wanted else f"checksum of the whole file {crc:08x}, wanted {wanted}"
