"""Writes the Grafana dashboards of the chart, so that each panel is a line here and its looks are said once.

    dashboards.py FOLDER      writes FOLDER/*.json

In: the tables below. Out: one file for each dashboard, the same for the same tables. Never: the network.
A panel is (title, unit, [(legend, expression)]). `$pods` stands for the labels that choose pods.
"""

import json
import pathlib
import sys

PODS = 'namespace=~"$namespace", pod=~"$pod"'
RATE = "[$__rate_interval]"


def rate(name, by, labels=""):
    more = f", {labels}" if labels else ""
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} (rate({name}{{$pods{more}}}{RATE}))"


def total(name, by="", labels=""):
    more = f", {labels}" if labels else ""
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} ({name}{{$pods{more}}})"


def quantile(share, name, by="", labels=""):
    return f"histogram_quantile({share}, {rate(name + '_bucket', ', '.join(filter(None, ('le', by))), labels)})"


def quantiles(name, labels=""):
    return [(f"p{share * 100:g}", quantile(share, name, labels=labels)) for share in (0.5, 0.95, 0.99)]


def average(name, by):
    return f"{rate(name + '_sum', by)} / {rate(name + '_count', by)}"


CLUSTER = [
    ("Connections", "short", [("connections", total("gateway_connections")), ("in namespaces", total("gateway_sessions"))]),
    ("Connections of each pod", "short", [("{{pod}}", total("gateway_connections", "pod"))]),
    ("Pods", "short", [("pods", "count(gateway_connections{$pods})")]),
    ("Connects, by outcome", "ops", [("{{outcome}}", rate("gateway_connects_total", "outcome"))]),
    ("Ends of connections, by reason", "ops", [("{{reason}}", rate("gateway_disconnects_total", "reason"))]),
    ("Events, by contract", "ops", [("{{contract}}", rate("gateway_events_total", "contract"))]),
    ("Frames", "ops", [("frames", rate("gateway_frames_total", ""))]),
    ("Event, arrival to ack", "s", quantiles("gateway_event_duration_seconds")),
    ("Handshake", "s", quantiles("gateway_handshake_duration_seconds")),
    ("Delivery on a pod", "s", quantiles("gateway_delivery_duration_seconds")),
    ("Round trip to the shared state", "s", quantiles("gateway_state_duration_seconds")),
    ("Refused events, by code", "ops", [("{{code}}", rate("gateway_refusals_total", "code"))]),
    ("Upstream calls, by outcome", "ops", [("{{upstream}} {{outcome}}", rate("gateway_upstream_calls_total", "upstream, outcome"))]),
    ("Pods that have Redis", "short", [("with Redis", total("gateway_redis_up"))]),
]
POD = [
    ("CPU", "short", [("{{pod}}", rate("process_cpu_seconds_total", "pod"))]),
    ("Memory", "bytes", [("{{pod}}", total("process_resident_memory_bytes", "pod"))]),
    ("Open files, and how many it may have", "short", [("{{pod}}", total("process_open_fds", "pod")), ("{{pod}} at most", total("process_max_fds", "pod"))]),
    ("Memory for each connection", "bytes", [("{{pod}}", f"{total('process_resident_memory_bytes', 'pod')} / ({total('gateway_connections', 'pod')} > 0)")]),
    ("Connections", "short", [("{{pod}}", total("gateway_connections", "pod"))]),
    ("Connections in namespaces", "short", [("{{pod}}", total("gateway_sessions", "pod"))]),
    ("Events", "ops", [("{{pod}}", rate("gateway_events_total", "pod"))]),
    ("Frames", "ops", [("{{pod}}", rate("gateway_frames_total", "pod"))]),
    ("Event, arrival to ack, p99", "s", [("{{pod}}", quantile(0.99, "gateway_event_duration_seconds", "pod"))]),
    ("Handshake, p99", "s", [("{{pod}}", quantile(0.99, "gateway_handshake_duration_seconds", "pod"))]),
    ("Ends of connections", "ops", [("{{pod}} {{reason}}", rate("gateway_disconnects_total", "pod, reason"))]),
    ("Cut off since they did not read", "ops", [("{{pod}}", rate("gateway_disconnects_total", "pod", 'reason="slow_consumer"'))]),
    ("Deliveries that a full line did not take", "ops", [("{{pod}}", rate("gateway_deliveries_dropped_total", "pod"))]),
    ("Has Redis", "bool_yes_no", [("{{pod}}", total("gateway_redis_up", "pod"))]),
]
CONTRACT = 'contract=~"$contract"'
EVENTS = [
    ("Events", "ops", [("{{event}}", rate("gateway_events_total", "event", CONTRACT))]),
    ("Most frequent", "ops", [("{{contract}} {{event}}", f"topk(10, {rate('gateway_events_total', 'contract, event', CONTRACT)})")]),
    ("Events of each pod", "ops", [("{{pod}}", rate("gateway_events_total", "pod", CONTRACT))]),
    ("Share of the contract", "percentunit", [("{{contract}}", f"{rate('gateway_events_total', 'contract', CONTRACT)} / scalar({rate('gateway_events_total', '')})")]),
    ("Event, arrival to ack, all contracts", "s", quantiles("gateway_event_duration_seconds")),
    ("Event, mean, all contracts", "s", [("{{pod}}", average("gateway_event_duration_seconds", "pod"))]),
    ("Events that no contract has", "ops", [("{{pod}}", rate("gateway_events_unknown_total", "pod"))]),
    ("Errors that clients reported", "ops", [("{{pod}}", rate("gateway_client_errors_total", "pod"))]),
]
REDIS = [
    ("Has Redis", "bool_yes_no", [("{{pod}}", total("gateway_redis_up", "pod"))]),
    ("Went on without an answer", "ops", [("{{pod}}", rate("gateway_state_errors_total", "pod"))]),
    ("Round trip, p99, by call", "s", [("{{call}}", quantile(0.99, "gateway_state_duration_seconds", "call"))]),
    ("Calls of the shared state", "ops", [("{{call}}", rate("gateway_state_duration_seconds_count", "call"))]),
    ("Published", "ops", [("{{pod}}", rate("gateway_adapter_total", "pod", 'kind="published"'))]),
    ("Received", "ops", [("{{pod}}", rate("gateway_adapter_total", "pod", 'kind="received"'))]),
    ("Received for nothing", "ops", [("{{pod}} {{kind}}", rate("gateway_adapter_total", "pod, kind", 'kind=~"echoes|foreign|malformed"'))]),
    ("Lost on the way out", "ops", [("{{pod}} {{kind}}", rate("gateway_adapter_total", "pod, kind", 'kind=~"refused|stale|unconfirmed|unwritable"'))]),
    ("Lost on the way in", "ops", [("{{pod}} full lines", rate("gateway_adapter_total", "pod", 'kind="missed"')), ("{{pod}} orders", rate("gateway_orders_dropped_total", "pod"))]),
    ("Subscriptions", "short", [("{{pod}}", total("gateway_adapter_subscriptions", "pod"))]),
    ("Questions between pods", "ops", [("{{pod}} {{kind}}", rate("gateway_adapter_total", "pod, kind", 'kind=~"requests|asked|partial|late"'))]),
    ("Connections to Redis lost or not made", "ops", [("{{pod}} {{kind}}", rate("gateway_adapter_total", "pod, kind", 'kind=~"gaps|failed_dials"'))]),
    ("Joins before their subscription stood", "ops", [("{{pod}} {{kind}}", rate("gateway_adapter_total", "pod, kind", 'kind=~"unconfirmed_joins|orphans"'))]),
]
UPSTREAM = 'upstream=~"$upstream"'
FAILED = UPSTREAM + ', outcome!~"ok|refused|cancelled"'
UPSTREAMS = [
    ("Calls, by outcome", "ops", [("{{upstream}} {{outcome}}", rate("gateway_upstream_calls_total", "upstream, outcome", UPSTREAM))]),
    ("Calls that fail", "percentunit", [("{{upstream}}", f"{rate('gateway_upstream_calls_total', 'upstream', FAILED)} / {rate('gateway_upstream_calls_total', 'upstream', UPSTREAM)}")]),
    ("Time of a call", "s", quantiles("gateway_upstream_duration_seconds", UPSTREAM)),
    ("Time of a call, p95 of each", "s", [("{{upstream}}", quantile(0.95, "gateway_upstream_duration_seconds", "upstream", UPSTREAM))]),
    ("Calls at work", "short", [("{{upstream}}", total("gateway_upstream_in_flight", "upstream", UPSTREAM))]),
    ("Calls in line", "short", [("{{upstream}}", total("gateway_upstream_waiting", "upstream", UPSTREAM))]),
    ("Left alone, on how many pods", "short", [("{{upstream}}", total("gateway_upstream_breaker_open", "upstream", UPSTREAM))]),
    ("Turned away", "ops", [("{{upstream}} {{outcome}}", rate("gateway_upstream_calls_total", "upstream, outcome", UPSTREAM + ', outcome=~"queue_full|breaker_open"'))]),
]
PACE = 'code="RATE_LIMITED"'
LIMITS = [
    ("Refused events, by code", "ops", [("{{code}}", rate("gateway_refusals_total", "code"))]),
    ("Refused for their pace", "percentunit", [("share", f"{rate('gateway_refusals_total', '', PACE)} / {rate('gateway_events_total', '')}")]),
    ("Requests refused before Socket.IO", "ops", [("{{reason}}", rate("gateway_edge_refusals_total", "reason"))]),
    ("Connects that were not let in", "ops", [("{{outcome}}", rate("gateway_connects_total", "outcome", 'outcome!="accepted"'))]),
    ("Tokens, by outcome", "ops", [("{{outcome}}", rate("gateway_identity_tokens_total", "outcome"))]),
    ("Fetches of keys", "ops", [("{{outcome}}", rate("gateway_identity_jwks_fetches_total", "outcome"))]),
    ("Cut off since they flooded", "ops", [("{{pod}}", rate("gateway_floods_total", "pod"))]),
    ("Cut off since they did not read", "ops", [("{{pod}}", rate("gateway_disconnects_total", "pod", 'reason="slow_consumer"'))]),
    ("Deliveries that a full line did not take", "ops", [("{{pod}}", rate("gateway_deliveries_dropped_total", "pod"))]),
]
DASHBOARDS = {
    "cluster": ("Gateway: cluster", CLUSTER, []),
    "pod": ("Gateway: pod", POD, []),
    "events": ("Gateway: events of a contract", EVENTS, [("contract", "gateway_events_total")]),
    "redis": ("Gateway: Redis and the way between pods", REDIS, []),
    "upstreams": ("Gateway: upstreams", UPSTREAMS, [("upstream", "gateway_upstream_calls_total")]),
    "limits": ("Gateway: limits and refusals", LIMITS, []),
}
SOURCE = {"type": "prometheus", "uid": "${source}"}


def variable(name, series, labels=""):
    return {
        "name": name,
        "label": name,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": f"label_values({series}{labels}, {name})", "refId": name},
        "definition": f"label_values({series}{labels}, {name})",
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
        "sort": 1,
    }


def panel(number, title, unit, targets):
    return {
        "id": number + 1,
        "title": title,
        "type": "timeseries",
        "datasource": SOURCE,
        "gridPos": {"h": 8, "w": 12, "x": number % 2 * 12, "y": number // 2 * 8},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0, "custom": {"fillOpacity": 8, "showPoints": "never"}}, "overrides": []},
        "options": {"legend": {"displayMode": "table", "placement": "right", "calcs": ["lastNotNull", "max"]}, "tooltip": {"mode": "multi", "sort": "desc"}},
        "targets": [
            {"refId": chr(ord("A") + at), "datasource": SOURCE, "expr": expression.replace("$pods", PODS), "legendFormat": legend, "exemplar": True}
            for at, (legend, expression) in enumerate(targets)
        ],
    }


def dashboard(name, title, panels, variables):
    own = [variable("namespace", "gateway_connections"), variable("pod", "gateway_connections", '{namespace=~"$namespace"}')]
    own += [variable(label, series, '{namespace=~"$namespace"}') for label, series in variables]
    source = {"name": "source", "label": "source", "type": "datasource", "query": "prometheus"}
    return {
        "uid": f"gateway-{name}",
        "title": title,
        "tags": ["gateway"],
        "editable": True,
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "links": [{"type": "dashboards", "tags": ["gateway"], "asDropdown": True, "title": "Gateway", "keepTime": True, "includeVars": True}],
        "templating": {"list": [source, *own]},
        "panels": [panel(number, *one) for number, one in enumerate(panels)],
    }


def main(folder):
    for name, (title, panels, variables) in DASHBOARDS.items():
        text = json.dumps(dashboard(name, title, panels, variables), indent=2, ensure_ascii=False)
        (pathlib.Path(folder) / f"{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
