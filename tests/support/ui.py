"""`cspbench ui` as a person starts it."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from cspbench.store import Store


@contextmanager
def ui(store: Store, study: str = "demo") -> Iterator[str]:
    """Run `cspbench ui` and give the address it prints for a study."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    command = [sys.executable, "-m", "cspbench", "ui", study, "--root", str(store.root), "--port", str(port)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"}
    ) as process:
        try:
            assert process.stdout is not None
            address = re.fullmatch(rf"{study}: (http://\S+)\n", process.stdout.readline())
            assert address
            for line in process.stdout:
                if "startup complete" in line:
                    break
            threading.Thread(target=process.stdout.read, daemon=True).start()  # so that the server can go on writing
            yield address[1]
        finally:
            process.terminate()
