"""`python -m fluxforge.healthcheck [URL]`: exit code 0 where the service answers that it is well, else 1 and why.

Asks `/readyz` on this machine, at the port of FLUXFORGE_METRICS__PORT or 9100; URL may be a mere path, as `/livez`.
It imports nothing but the standard library, so that a container can ask often.
"""

from __future__ import annotations

import os
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from urllib.parse import urljoin

PATIENCE_S = 3.0


def main(argv: Sequence[str]) -> int:
    port = os.environ.get("FLUXFORGE_METRICS__PORT", "9100")
    url = urljoin(f"http://127.0.0.1:{port}/readyz", argv[0] if argv else "")
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(url, timeout=PATIENCE_S) as answer:
            text, code = answer.read().decode(), 0
    except urllib.error.HTTPError as error:
        text, code = error.read().decode(), 1
    except (OSError, ValueError) as error:
        text, code = f"{url}: {error}", 1
    print(text.strip())  # noqa: T201
    return code


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
