"""Events as JSON, one object per line: the build log for programs."""

import json
import threading
from typing import Self, TextIO

from toolkit.events import Event, as_json
from toolkit.text import in_json


class JsonLines:
    """A context whose Emit writes each event at once and in one piece. Thread-safe."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.flush()

    def __call__(self, event: Event) -> None:
        line = in_json(json.dumps(as_json(event), ensure_ascii=False)) + "\n"
        with self._lock:
            self._stream.write(line)
            self._stream.flush()
