"""The alert rules: well formed, accepted by promtool where it is installed, and about metrics that exist."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus_client import REGISTRY

from civicbus import freshness
from civicbus.consumers import metrics as consumers_metrics
from civicbus.infra import report
from civicbus.infra.metrics import SupervisorMetrics
from civicbus.producers.capture import metrics as capture_metrics
from civicbus.producers.outbox import metrics as outbox_metrics
from civicbus.stream_apps.admission import metrics as admission_metrics
from civicbus.stream_apps.views import metrics as views_metrics
from civicbus.transport import metrics as transport_metrics

EXPORTING = (
    admission_metrics,
    capture_metrics,
    consumers_metrics,
    freshness,
    outbox_metrics,
    transport_metrics,
    views_metrics,
)
FOLDER = Path(report.__file__).with_name("prometheus")
RULES = [rule for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"] for rule in group["rules"]]
PROMTOOL = shutil.which("promtool") or "promtool"
promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")

# Each case: a rule, the series that make it fire, the series that do not; steps of one minute, seen at an hour.
CASES = [
    ("CivicbusProcessDown", {'civicbus_process_up{process="views"}': "0x60"}, "1x60"),
    ("CivicbusProcessUnseen", {'up{job="civicbus", instance="views"}': "0x60"}, "1x60"),
    ("CivicbusProcessRestarts", {'civicbus_process_restarts_total{process="views"}': "0+1x60"}, "7x60"),
    ("CivicbusLagGrows", {'civicbus_lag_records{instance="views", topic="t", partition="0"}': "0+100x60"}, "5000x60"),
    (
        "CivicbusNoCommit",
        {
            'civicbus_lag_records{instance="views", topic="t", partition="0"}': "5x60",
            'civicbus_last_commit_timestamp_seconds{instance="views", process="views"}': "0+0x60",
        },
        "0+60x60",
    ),
    ("CivicbusCaptureStopped", {'civicbus_capture_running{dataset="d.s"}': "0x60"}, "1x60"),
    (
        "CivicbusCaptureSlotGrows",
        {'civicbus_capture_slot_lag_bytes{dataset="d.s"}': "600000000+1000000x60"},
        "600000000x60",
    ),
    (
        "CivicbusRefusedRatioHigh",
        {
            'civicbus_changes_total{dataset="d.s"}': "0+1000x60",
            'civicbus_refused_total{dataset="d.s", reason="quality"}': "0+60x60",
        },
        "0+40x60",
    ),
    ("CivicbusQuarantineGrows", {'civicbus_refused_total{dataset="d.s", reason="quality"}': "0+2x60"}, "0+1x60"),
    ("CivicbusQuarantineGrows", {'civicbus_unforwarded_total{dataset="d.s", reason="size"}': "0+2x60"}, "0+1x60"),
    (
        "CivicbusInboxSlow",
        {
            'civicbus_end_to_end_seconds_bucket{stage="inbox", agreement="a", le="+Inf"}': "0+1000x60",
            'civicbus_end_to_end_seconds_bucket{stage="inbox", agreement="a", le="2.5"}': "0+1000x60",
            'civicbus_end_to_end_seconds_bucket{stage="inbox", agreement="a", le="0.64"}': "0+900x60",
        },
        "0+995x60",
    ),
    (
        "CivicbusTableSlow",
        {
            'civicbus_end_to_end_seconds_bucket{stage="table", agreement="a", le="+Inf"}': "0+1000x60",
            'civicbus_end_to_end_seconds_bucket{stage="table", agreement="a", le="10.0"}': "0+1000x60",
            'civicbus_end_to_end_seconds_bucket{stage="table", agreement="a", le="5.0"}': "0+900x60",
        },
        "0+995x60",
    ),
    ("CivicbusTableBehind", {'civicbus_lag_records{instance="table-m", topic="t", partition="0"}': "1001x60"}, "99x60"),
    ("CivicbusTableRefuses", {'civicbus_undelivered_total{agreement="a", reason="value"}': "0+1x60"}, "5x60"),
    ("CivicbusOutboxBehind", {'civicbus_outbox_oldest_seconds{instance="i", dataset="d.s"}': "0+60x60"}, "30x60"),
    ("CivicbusOutboxRefuses", {'civicbus_outbox_refused_total{dataset="d.s", reason="r"}': "0+1x60"}, "5x60"),
]


def exported():
    families = [*REGISTRY.collect(), *SupervisorMetrics().registry.collect()]
    return {family.name for family in families}


def named_in(expression):
    names = re.findall(r"\bcivicbus_\w+", expression)
    return {re.sub(r"_(bucket|total|count|sum)\Z", "", name) for name in names}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_a_rule_says_how_bad_it_is_and_what_to_do(rule):
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert rule["annotations"]["summary"]
    assert re.fullmatch(r"[A-Z].+\.", rule["annotations"]["runbook"])


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_a_rule_is_about_metrics_that_a_process_exports(rule):
    assert all(module.__name__.startswith("civicbus.") for module in EXPORTING)
    assert named_in(rule["expr"]) <= exported()


def test_every_rule_has_a_case_in_which_it_fires():
    assert {case[0] for case in CASES} == {rule["alert"] for rule in RULES}


@promtool
def test_promtool_accepts_the_rules_and_the_configuration():
    for arguments in (["check", "rules", "alerts.yml"], ["check", "config", "--syntax-only", "prometheus.yml"]):
        done = subprocess.run([PROMTOOL, *arguments], cwd=FOLDER, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@promtool
def test_a_rule_fires_when_it_should_and_not_otherwise(tmp_path):
    tests = []
    for alert, series, quiet in CASES:
        loud = list(series.items())
        tests += [_case(alert, loud, 1), _case(alert, [*loud[:-1], (loud[-1][0], quiet)], 0)]
    (tmp_path / "cases.yml").write_text(
        yaml.safe_dump({"rule_files": [str(FOLDER / "alerts.yml")], "evaluation_interval": "1m", "tests": tests})
    )
    done = subprocess.run(
        [PROMTOOL, "test", "rules", "cases.yml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _case(alert, series, firing):
    return {
        "name": f"{alert} {'fires' if firing else 'is quiet'}",
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series],
        "promql_expr_test": [
            {
                "expr": f'count(ALERTS{{alertname="{alert}", alertstate="firing"}}) or vector(0)',
                "eval_time": "1h",
                "exp_samples": [{"labels": "{}", "value": firing}],
            }
        ],
    }
