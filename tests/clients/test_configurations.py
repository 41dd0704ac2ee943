"""The files of conf/gateways: accepted by the software they are for, whole, and alike where they must be."""
import re

import pytest
import yaml

from gateways import REAL, CachingNginx, Nginx
from processes import SHIPPED

# Every header of an answer of /authz, and those of requests that only a gateway may set.
IDENTITY = ("Authenticated", "User", "Tenant", "Roles", "Id", "Device", "Device-Type", "Expires", "Stale", "Extended", "Truncated", "Jwt")
HANDED_ON = {"nginx.conf": "proxy_set_header X-Session-{} ", "nginx-cache.conf": "proxy_set_header X-Session-{} ",
             "haproxy.cfg": "set-header X-Session-{} ", "Caddyfile": "X-Session-{}", "apisix.yaml": "- X-Session-{}\n",
             "envoy.yaml": "- remove: x-session-{}\n", "gateway-api.yaml": "- x-session-{}\n"}


@pytest.mark.cell("other")
@pytest.mark.parametrize("client", REAL, ids=lambda client: client.name)
def test_the_software_accepts_the_file(client, testbed):
    status, output = client(testbed).check()
    assert status == 0, output


def read(name):
    return (SHIPPED / name).read_text()


@pytest.mark.parametrize("name", sorted(path.name for path in SHIPPED.glob("*.yaml")))
def test_the_files_of_what_cannot_be_installed_are_yaml(name):
    documents = list(yaml.safe_load_all(read(name)))
    assert documents and all(isinstance(document, dict) and document for document in documents)


@pytest.mark.parametrize("name", HANDED_ON)
def test_each_header_of_identity_is_the_gateways_own(name):
    text = re.sub(r" {2,}", " ", read(name))
    for header in IDENTITY:
        line = HANDED_ON[name].format(header)
        assert (line.lower() if "x-" in line else line) in text, f"{name} does not hand on X-Session-{header}"


@pytest.mark.parametrize("name", sorted(path.name for path in SHIPPED.iterdir() if path.suffix not in (".js", ".lua")))
def test_the_top_says_what_to_replace_and_that_is_all_that_is_there(name):
    top = re.match(r"(#[^\n]*\n)+", read(name)).group()
    assert "# Replace:" in top and "docs/integrations.md" in top
    rest = "\n".join(line for line in read(name)[len(top):].splitlines() if not line.lstrip().startswith("#"))
    for place in re.findall(r"/(?:run|etc|var)/[\w./-]+|127\.0\.0\.1:\d+|https?://[\w.:-]+|sk_\w+", rest):
        known = place in top or place.split("://")[-1] in top or place in ("http://application", "http://sessiond")
        assert known, f"{name}: its top does not name {place}"


def test_the_caching_file_is_the_plain_one_and_a_cache():
    plain = [line for line in read(Nginx.file).splitlines() if not line.startswith("#")]
    caching = [line for line in read(CachingNginx.file).splitlines() if not line.startswith("#")]
    more = [line for line in caching if line not in plain]
    assert [line for line in plain if line not in caching] == []
    about = r"cache|max-age|js_|inactive=|ignore_headers|^ *(default +1;|}|# .*)$|^$"
    assert [line for line in more if not re.search(about, line)] == []
