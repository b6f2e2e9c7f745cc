"""The alert rules: Prometheus' own tool finds them right and runs their test, and they ask for metrics that a cloud has."""

import re
import subprocess
from pathlib import Path

import yaml  # type: ignore[import-untyped]
from prometheus_client.parser import text_string_to_metric_families

import servers
from cloud.metrics import COUNTERS, GAUGES, exposition

PROMETHEUS = Path(__file__).parents[2] / "deploy" / "prometheus"


def test_every_metric_of_the_rules_is_one_of_the_clouds() -> None:
    sink = {"behind": 1, "error": "away", "unreadable": 0}
    stats = {name: 1 for name, _ in (*COUNTERS, *GAUGES)} | {
        "landing_error": "full",
        "database_error": "",
        "landing_gaps": [(1, 2)],
        "delays": {"recent": {"p50_s": 1.0, "p99_s": 2.0, "greatest_s": 3.0}},
        "refusals": {"unknown stream": 1},
        "sinks": {"store": sink},
    }
    text = exposition(stats).decode()
    there = {sample.name: set(sample.labels) for family in text_string_to_metric_families(text) for sample in family.samples}
    document = yaml.safe_load((PROMETHEUS / "cansight.rules.yml").read_text(encoding="utf-8"))
    rules = [rule for group in document["groups"] for rule in group["rules"]]
    asked = [name for rule in rules for name in re.findall(r"cansight_\w+", rule["expr"])]
    assert len(asked) >= len(rules)
    assert set(asked) <= set(there)
    for rule in rules:
        labels = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values()))) - {"instance"}
        assert all(labels <= there[name] for name in re.findall(r"cansight_\w+", rule["expr"]))


def test_the_rules_tell_a_fault_from_none() -> None:
    tool = servers.program("promtool", "prometheus")
    for command in (["check", "rules", "cansight.rules.yml"], ["test", "rules", "cansight.rules.test.yml"]):
        done = subprocess.run([tool, *command], cwd=PROMETHEUS, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
