"""The kernels compiled before any clock runs."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time

import typer

from fluxforge import service
from fluxforge.service import Stop
from fluxforge_cli.pipeline.child import PipelineFailed
from fluxforge_cli.pipeline.display import Display


def compile_kernels(display: Display, stop: Stop) -> None:
    """Have the kernels' machine code in the cache before any clock runs. Raises PipelineFailed; `stop` ends it."""
    began = time.monotonic()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "fluxforge.kernels"],
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        while process.poll() is None:
            display.waiting("compiling kernels (first run only)", time.monotonic() - began)
            if stop.wait(0.1):
                process.kill()
                process.wait()
                raise typer.Exit(service.INTERRUPTED)
        if process.returncode:
            output.seek(0)
            said = output.read().decode(errors="replace")[-2000:]
            raise PipelineFailed(f"the kernels do not compile\n{said}", hint="is a compiler cache folder writable?")
    display.say(f"kernels ready after {time.monotonic() - began:.1f} s")
