"""PromQL that dashboards and alerts share, so that a panel turns red on the very number that an alert fires on.

``of`` is a list of label matchers that picks the service's targets, such as ``job="leaker"``. ``window`` is a range: a
duration, or Grafana's ``$__rate_interval``. Each expression yields one sample without labels, except where it says so.
"""

from __future__ import annotations

# The lookup's route. Probes and the front page would flatter the quantiles.
LOOKUPS = 'path=~"/api/.+"'
# The container's name in every pod of the lab, and the word under which the kubelet files its memory and its probes.
CONTAINER = 'container="leaker"'


def health(of: str) -> str:
    """1 while every target calls itself healthy, 0 otherwise."""
    return f"min(service_health_status{{{of}}})"


def memory_percent(of: str) -> str:
    """Memory in use, in percent of the limit, of the target that uses most: the service's own figure."""
    return f"max(memory_usage_percent{{{of}}})"


def request_rate(of: str, window: str) -> str:
    """Requests a second, by route."""
    return f"sum by (path) (rate(http_requests_total{{{of}}}[{window}]))"


def error_share(of: str, window: str) -> str:
    """The share of requests that the service failed to answer: 0 to 1, and NaN without requests."""
    failed = f'sum(rate(http_requests_total{{{of},status=~"5.."}}[{window}]))'
    return f"({failed} or vector(0)) / sum(rate(http_requests_total{{{of}}}[{window}]))"


def latency(quantile: float, of: str, window: str) -> str:
    """The quantile of a lookup's duration, in seconds: NaN without lookups."""
    buckets = f"rate(http_request_duration_seconds_bucket{{{of},{LOOKUPS}}}[{window}])"
    return f"histogram_quantile({quantile:g}, sum by (le) ({buckets}))"


def collections(of: str, window: str) -> str:
    """Runs of the garbage collector a second, by generation."""
    return f"sum by (generation) (rate(python_gc_collections_total{{{of}}}[{window}]))"


def uncollectable(of: str) -> str:
    """Objects that the garbage collector gave up on since the start."""
    return f"sum(python_gc_objects_uncollectable_total{{{of}}})"


def started(of: str) -> str:
    """When each target answered its first request, in seconds since 1970, by job, instance, namespace and pod.

    prometheus_client stamps every counter with the time of its making. The service's registry has no
    process_start_time_seconds: prometheus_client's process collector, which exports it, would also tell the truth
    about memory.
    """
    return f"min by (job, instance, namespace, pod) (http_requests_created{{{of}}})"


def restarts(of: str, window: str, step: str) -> str:
    """How often the targets began anew within the window."""
    return f"sum(changes(({started(of)})[{window}:{step}]))"


def probes_passed(probe: str, path: str, of: str, window: str) -> str:
    """The share of one kind of probe that passed: 0 to 1, and no sample where nobody probes.

    The kubelet's verdict is taken where it is scraped. Elsewhere it is the service's own count of its answers, which
    the health check of a container has seen as well.

    Args:
        probe: the kubelet's name for it, such as ``Liveness``.
        path: the route that it asks for.
        of: matchers of the service's targets.
        window: the range.
    """
    pods = f"and on (namespace, pod) up{{{of}}}"
    probed = f'rate(prober_probe_total{{{CONTAINER},probe_type="{probe}"}}[{window}]) {pods}'
    refused = f'rate(prober_probe_total{{{CONTAINER},probe_type="{probe}",result!="successful"}}[{window}]) {pods}'
    asked = f'rate(http_requests_total{{{of},path="{path}"}}[{window}])'
    failed = f'rate(http_requests_total{{{of},path="{path}",status!~"2.."}}[{window}])'
    return f"{_share_left(refused, probed)} or {_share_left(failed, asked)}"


def _share_left(part: str, whole: str) -> str:
    # Nothing to divide by is no sample: 0/0 would read as a failure where nobody probes.
    return f"(1 - (sum({part}) or vector(0)) / (sum({whole}) > 0))"
