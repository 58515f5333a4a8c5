"""Reads a scrape with the parser of Prometheus' own Python client and prints its families as JSON."""

import json
import sys
import urllib.request

from prometheus_client.openmetrics.parser import text_string_to_metric_families

ACCEPT = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"

opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
request = urllib.request.Request(sys.argv[1], headers={"Accept": ACCEPT})
with opener.open(request, timeout=20) as answer:
    content_type = answer.headers["Content-Type"]
    text = answer.read().decode("utf-8")

families = {
    family.name: {"type": family.type, "unit": family.unit, "samples": len(family.samples)}
    for family in text_string_to_metric_families(text)
}
print(json.dumps({"content_type": content_type, "families": families}))
