"""The example of a proxy with places of a test, run by an nginx that is an ordinary process."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "nginx-market.conf"
LOG = "market.log"
MAIN = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/market.conf;
}}
"""


def proxy_command(folder: Path, keys: Path, places: Mapping[str, str]) -> list[str]:
    """What runs the example in a folder, where its log is then: `places` of the example, which are others here."""
    text = EXAMPLE.read_text()
    for given, here in {"/srv/market/keys": str(keys), "/var/log/nginx/": f"{folder}/", **places}.items():
        assert given in text
        text = text.replace(given, here)
    (folder / "market.conf").write_text(text)
    (folder / "nginx.conf").write_text(MAIN.format(folder=folder))
    return [str(NGINX), "-p", str(folder), "-c", str(folder / "nginx.conf")]
