"""A real Chromium for tests: the one at hand, or Debian's headless shell unpacked once into `.cache/chromium`.

Unpacked, not installed: that needs no root and changes nothing of the machine. The libraries that are missing come
along. Where neither is there the tests are skipped, saying so.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from kafka_broker import locked

CACHE = Path(__file__).resolve().parents[1] / ".cache" / "chromium"
AT_HAND = ("chromium", "chromium-headless-shell", "google-chrome")
PACKAGES = ("chromium-headless-shell", "fonts-dejavu-core")
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--hide-scrollbars"),
)


@contextmanager
def launched() -> Iterator[Browser]:
    """A headless browser. Skips the test where there is none to be had."""
    path, environ = program()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(path), args=[*FLAGS], env={**os.environ, **environ}, timeout=60_000
        )
        try:
            yield browser
        finally:
            browser.close()


def program() -> tuple[Path, dict[str, str]]:
    """Its path, and the variables that it needs. Skips the test where there is none to be had."""
    for name in AT_HAND:
        if found := shutil.which(name):
            return Path(found), {}
    root = CACHE / "unpacked"
    with locked(CACHE):
        if not root.exists():
            _unpack(root)
    (binary,) = root.glob("usr/lib/chromium/*headless*shell")
    libraries = sorted({str(path.parent) for folder in ("lib", "usr/lib") for path in root.glob(f"{folder}/**/*.so*")})
    fonts = CACHE / "fonts.conf"
    fonts.write_text(
        '<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd"><fontconfig>'
        '<include ignore_missing="yes">/etc/fonts/fonts.conf</include>'
        f"<dir>{root}/usr/share/fonts</dir><cachedir>{CACHE}/fonts</cachedir>"
        + "".join(
            f'<match><test name="family"><string>{name}</string></test><edit name="family" mode="assign" '
            'binding="strong"><string>DejaVu Sans</string></edit></match>'
            for name in ("system-ui", "sans-serif")
        )
        + "</fontconfig>"
    )
    return binary, {"LD_LIBRARY_PATH": ":".join(libraries), "FONTCONFIG_FILE": str(fonts)}


def _unpack(root: Path) -> None:
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        pytest.skip("THE PAGE IS NOT TESTED: no Chromium on PATH, nor, without apt-get, to be had from Debian")
    archives = CACHE / "archives"
    (archives / "archives" / "partial").mkdir(parents=True, exist_ok=True)
    own = ["-o", f"Dir::Cache={archives}", "-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User="]
    wanted = ["--no-install-recommends", "--download-only", "-y", "-qq", "install", *PACKAGES]
    lists = ["-o", f"Dir::State::Lists={CACHE / 'lists'}"]
    (CACHE / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    if not (
        _run(["apt-get", *own, *wanted])
        or (_run(["apt-get", *own, *lists, "-qq", "update"]) and _run(["apt-get", *own, *lists, *wanted]))
    ):
        pytest.skip("THE PAGE IS NOT TESTED: no Chromium on PATH, and apt-get cannot download Debian's")
    staging = CACHE / "staging"
    shutil.rmtree(staging, ignore_errors=True)
    for package in sorted((archives / "archives").glob("*.deb")):
        assert _run(["dpkg-deb", "-x", str(package), str(staging)]), package
    staging.rename(root)
    shutil.rmtree(archives)


def _run(command: list[str]) -> bool:
    return subprocess.run(command, cwd=CACHE, capture_output=True, check=False, timeout=600).returncode == 0


if __name__ == "__main__":  # before the tests, whose own time is limited
    try:
        program()
    except pytest.skip.Exception as reason:
        print(reason)
