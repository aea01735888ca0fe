"""Make the project's environment on a machine that has Python 3.11 or newer and nothing else.

Finds uv on PATH or in .tools, else installs it there: by pip where pip is (`--target` works where system installs are
refused), else by fetching the wheel and checking its sha256. Then `uv sync --frozen` fills .venv. Nothing is
installed outside the project. The index is UV_DEFAULT_INDEX, else PIP_INDEX_URL, else the public one.
Standard library only.
"""
# ruff: noqa: S310, S603, T201, UP036  it prints, runs uv, reads the index, and meets an older Python with a message

from __future__ import annotations

import base64
import hashlib
import html.parser
import io
import json
import os
import platform
import re
import shutil
import ssl
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / ".tools"
UV = TOOLS / "bin" / "uv"
PUBLIC_INDEX = "https://pypi.org/simple"
OLDEST_UV = "0.9.0"


class BootstrapError(Exception):
    """What could not be had, for a person."""


def main() -> int:
    if sys.version_info < (3, 11):
        return _refuse(
            f"Python 3.11 or newer is needed; this is {platform.python_version()}. Try make PYTHON=python3.12"
        )
    try:
        uv = find_uv() or by_pip() or by_wheel()
    except BootstrapError as error:
        return _refuse(f"{error}. Install uv by hand and run again")
    return subprocess.run([uv, "sync", "--frozen"], cwd=ROOT, env=_environ(), check=False).returncode


def _environ() -> dict[str, str]:
    """Ours for uv: this Python, our .venv, and the certificates that pip and Python trust on this machine."""
    environ = {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"}
    environ["UV_PROJECT_ENVIRONMENT"] = str(ROOT / ".venv")
    environ.setdefault("UV_PYTHON", sys.executable)
    if "PIP_CERT" in environ:
        environ.setdefault("SSL_CERT_FILE", environ["PIP_CERT"])
    if ssl.get_default_verify_paths().cafile:
        environ.setdefault("UV_SYSTEM_CERTS", "true")
    return environ


def find_uv() -> str | None:
    """uv on PATH or in .tools, where it runs."""
    for candidate in (shutil.which("uv"), str(UV)):
        if candidate and Path(candidate).exists() and _runs([candidate, "--version"]):
            return candidate
    return None


def by_pip() -> str | None:
    """Install uv into .tools by pip; None where there is no pip or it fails."""
    if not _runs([sys.executable, "-m", "pip", "--version"]):
        return None
    print("bootstrap: installing uv into .tools by pip", flush=True)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade"]
    subprocess.run([*command, "--target", str(TOOLS), f"uv>={OLDEST_UV}"], check=False)
    return find_uv()


def by_wheel() -> str:
    """Fetch uv's wheel from the index, check its sha256 and take the one program out of it."""
    index = (os.environ.get("UV_DEFAULT_INDEX") or os.environ.get("PIP_INDEX_URL") or PUBLIC_INDEX).rstrip("/")
    page = f"{index}/uv/"
    url, sha256 = newest_wheel(*_get(page, page), tags())
    url = urllib.parse.urljoin(_bare(page), url)
    print(f"bootstrap: fetching {url.rsplit('/', 1)[-1]} into .tools", flush=True)
    wheel, _ = _get(url, page)
    found = hashlib.sha256(wheel).hexdigest()
    if found != sha256:
        raise BootstrapError(f"{url}: sha256 is {found}, the index says {sha256}")
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        program = next(name for name in archive.namelist() if name.endswith(".data/scripts/uv"))
        UV.parent.mkdir(parents=True, exist_ok=True)
        UV.write_bytes(archive.read(program))
    UV.chmod(0o755)
    return str(UV)


def tags() -> re.Pattern[str]:
    """The platform tags whose wheels run here."""
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
    if sys.platform == "darwin":
        return re.compile(rf"macosx_\d+_\d+_{'arm64' if machine == 'aarch64' else machine}")
    libc = "manylinux" if platform.libc_ver()[0] == "glibc" else "musllinux"
    return re.compile(rf"{libc}_\d+_\d+_{machine}")


def newest_wheel(page: bytes, kind: str, platform_tag: re.Pattern[str]) -> tuple[str, str]:
    """(url, sha256) of the newest final release of uv on an index page (HTML or JSON) that runs here."""
    files = _of_json(page) if "json" in kind else _of_html(page)
    fitting = [
        (tuple(map(int, match[1].split("."))), url, sha256)
        for name, url, sha256 in files
        if (match := re.fullmatch(r"uv-(\d+\.\d+\.\d+)-py3-none-(.+)\.whl", name)) and platform_tag.search(match[2])
    ]
    if not fitting:
        raise BootstrapError("the index has no wheel of uv for this machine")
    _, url, sha256 = max(fitting)
    if not sha256:
        raise BootstrapError(f"the index gives no sha256 for {url}")
    return url, sha256


def _of_json(page: bytes) -> list[tuple[str, str, str]]:
    listed = json.loads(page)["files"]
    return [(f["filename"], f["url"], f["hashes"].get("sha256", "")) for f in listed if not f.get("yanked")]


def _of_html(page: bytes) -> list[tuple[str, str, str]]:
    links: list[tuple[str, str, str]] = []

    class Links(html.parser.HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            given = dict(attrs)
            url, _, fragment = (given.get("href") or "").partition("#")
            if tag == "a" and url and "data-yanked" not in given:
                links.append((url.rsplit("/", 1)[-1], url, dict(urllib.parse.parse_qsl(fragment)).get("sha256", "")))

    Links().feed(page.decode())
    return links


def _get(url: str, page: str) -> tuple[bytes, str]:
    """Body and content type. Credentials in the index page's address become a header, for its own host alone."""
    headers = {"Accept": "application/vnd.pypi.simple.v1+json, text/html;q=0.5, */*;q=0.1"}
    bare, owner = _bare(url), urllib.parse.urlsplit(page)
    if owner.username and urllib.parse.urlsplit(bare).netloc == urllib.parse.urlsplit(_bare(page)).netloc:
        pair = f"{urllib.parse.unquote(owner.username)}:{urllib.parse.unquote(owner.password or '')}"
        headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
    try:
        context = ssl.create_default_context(cafile=os.environ.get("SSL_CERT_FILE") or os.environ.get("PIP_CERT"))
        request = urllib.request.Request(bare, headers=headers)
        with urllib.request.urlopen(request, timeout=120, context=context) as answer:
            return answer.read(), answer.headers.get("Content-Type", "")
    except (OSError, ValueError) as error:
        raise BootstrapError(f"{bare}: {getattr(error, 'reason', error)}") from None


def _bare(url: str) -> str:
    """The address without credentials."""
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _runs(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _refuse(message: str) -> int:
    print(f"bootstrap: {message}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
