"""Snippets that make a rollout wait for a gate: Argo Rollouts, Flagger, GitHub Actions, GitLab CI. Each stands alone.

In each of them no data must never let through, and none of them does that by itself:

- Argo Rollouts (analysis/analysis.go, assessMetricStatus) takes a metric that has made its `count` of measurements for
  successful, with as many failed and inconclusive ones among them as the limits let pass: those are written out as 0 here. A
  measurement that meets neither condition is inconclusive, and pauses the rollout.
- Flagger (pkg/controller/scheduler_metrics.go) compares `value < min` and `value > max`, and NaN is neither: it advances a
  canary. So it asks for a sum of zeros and ones `or vector(0)`, which is a number whatever is exported, and `min: 1`.
- A pipeline looks at an exit code: `probe gate` has 1 for fail and 3 for inconclusive, and both stop it.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import LiteralScalarString

from probe.model.metrics import PREFIX
from probe.rules.fleet import Fleet


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Which gate; where (empty: everywhere); addresses of `agent` and `prometheus`; the gate's `action` in words, or empty."""

    gate: str
    region: str = ""
    agent: str = "http://stream-probe:9464"
    prometheus: str = "http://prometheus:9090"
    action: str = ""

    def address(self, **more: str) -> str:
        """Of the gate at the agent; `more` is added as it is."""
        asked = ({"region": quote(self.region, safe="")} if self.region else {}) | more
        query = "&".join(f"{name}={value}" for name, value in asked.items())
        return f"{self.agent.rstrip('/')}/gate/{quote(self.gate, safe='')}" + (f"?{query}" if query else "")

    @property
    def command(self) -> str:
        """For a shell; names of gates and regions hold nothing that it would read."""
        return f"probe gate {self.gate}" + (f" --region {self.region}" if self.region else "")


def argo(asked: Asked) -> str:
    """An AnalysisTemplate (argoproj.io/v1alpha1)."""
    metric = {
        "name": asked.gate,
        "interval": "30s",
        "count": 10,
        "initialDelay": "1m",
        "successCondition": 'result in ["pass", "warn"]',
        "failureCondition": 'result == "fail"',
        "failureLimit": 0,
        "inconclusiveLimit": 0,
        "consecutiveErrorLimit": 2,
        "provider": {
            "web": {"url": asked.address(status="200"), "timeoutSeconds": 10, "jsonPath": "{$.result}"},
        },
    }
    template = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "AnalysisTemplate",
        "metadata": {"name": f"probe-{_dns(asked.gate)}"},
        "spec": {"metrics": [metric]},
    }
    head = [
        "Neither pass nor fail is inconclusive: the rollout pauses. In its Rollout, as a step or in the background:",
        "  strategy: {canary: {steps: [{setWeight: 10}, {analysis: {templates: [{templateName: "
        + f"probe-{_dns(asked.gate)}"
        + "}]}}]}}",
    ]
    return _yaml(asked, head, template)


def flagger(asked: Asked) -> str:
    """A MetricTemplate and a Canary that uses it (flagger.app/v1beta1); the Canary's target is to be filled in."""
    name = f"probe-{_dns(asked.gate)}"
    labels = {"gate": asked.gate, **({"region": asked.region} if asked.region else {})}
    matchers = ",".join([*(f'{label}="{value}"' for label, value in labels.items()), 'verdict=~"pass|warn"'])
    query = f"min(sum without (verdict) ({PREFIX}gate_state{{{matchers}}})) or vector(0)\n"
    template = {
        "apiVersion": "flagger.app/v1beta1",
        "kind": "MetricTemplate",
        "metadata": {"name": name},
        "spec": {"provider": {"type": "prometheus", "address": asked.prometheus}, "query": LiteralScalarString(query)},
    }
    hooks = [
        {"name": f"{name}-open", "type": "confirm-rollout", "url": asked.address(), "timeout": "10s"},
        {"name": f"{name}-closed", "type": "rollback", "url": asked.address(when="fail"), "timeout": "10s"},
    ]
    canary = {
        "apiVersion": "flagger.app/v1beta1",
        "kind": "Canary",
        "metadata": {"name": "REPLACE-ME"},
        "spec": {
            "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "REPLACE-ME"},
            "service": {"port": 80},
            "analysis": {
                "interval": "1m",
                "threshold": 1,
                "stepWeight": 10,
                "maxWeight": 50,
                "metrics": [{"name": asked.gate, "templateRef": {"name": name}, "thresholdRange": {"min": 1}, "interval": "1m"}],
                "webhooks": hooks,
            },
        },
    }
    head = [
        "1: every group of the gate passes; 0: one does not, or nothing is known of it. It is a number whatever happens: NaN",
        "would be between min and max. Of the Canary, the analysis is what matters; the rest is yours.",
    ]
    return _yaml(asked, head, template, canary)


def github(asked: Asked) -> str:
    """A reusable workflow of GitHub Actions."""
    environment = {"PROBE_AGENT": asked.agent, "PROBE_AUTH": "${{ secrets.PROBE_AUTH }}"}
    steps = [
        {"name": "Install the probe", "run": "python3 -m pip install stream-probe"},
        {"name": f"Gate {asked.gate}", "env": environment, "run": f"{asked.command} --wait 5m"},
    ]
    job = {"runs-on": "ubuntu-latest", "timeout-minutes": 15, "steps": steps}
    workflow = {
        "name": f"gate-{asked.gate}",
        "on": {"workflow_call": {"secrets": {"PROBE_AUTH": {"required": False}}}},
        "jobs": {"gate": job},
    }
    head = [
        "Exit codes: 0 pass or warn, 1 fail, 3 inconclusive: all but 0 stop what needs this job (jobs.<deploy>.needs: gate).",
        "The runner must reach the agent. PROBE_AUTH is user:password, where the agent asks for one.",
    ]
    return _yaml(asked, head, workflow)


def gitlab(asked: Asked) -> str:
    """A job of GitLab CI."""
    job = {
        "stage": "deploy",
        "image": "python:3.12-slim",
        "variables": {"PROBE_AGENT": asked.agent},
        "before_script": ["python3 -m pip install stream-probe"],
        "script": [f"{asked.command} --wait 5m"],
        "allow_failure": False,
        "timeout": "15 minutes",
    }
    head = [
        "Exit codes: 0 pass or warn, 1 fail, 3 inconclusive: all but 0 stop what needs this job (needs: [the job's name]).",
        "The runner must reach the agent. Give PROBE_AUTH (user:password) as a masked variable, where the agent asks for one.",
    ]
    return _yaml(asked, head, {f"gate-{asked.gate}": job})


SNIPPETS: Mapping[str, Callable[[Asked], str]] = {"argo": argo, "flagger": flagger, "github": github, "gitlab": gitlab}
NAMES: Mapping[str, str] = {
    "argo": "argo/{gate}.yaml", "flagger": "flagger/{gate}.yaml", "github": "github/gate-{gate}.yml",
    "gitlab": "gitlab/gate-{gate}.yml",
}  # fmt: skip


def rollouts(fleet: Fleet) -> dict[str, str]:
    """Path → text: every snippet of each gate of a fleet. Its agents' address is the only one's, where there is one alone."""
    addresses = {f"http://{agent.instance}" for agent in fleet.agents if agent.instance}
    where = {"agent": addresses.pop()} if len(addresses) == 1 else {}
    gates = {gate.name: Asked(gate=gate.name, action=gate.action, **where) for _, gate in fleet.gates}
    return {
        f"rollouts/{NAMES[kind].format(gate=name)}": make(gates[name])
        for name in sorted(gates)
        for kind, make in SNIPPETS.items()
    }


def _dns(name: str) -> str:
    """As Kubernetes names things: RFC 1123, lower case and hyphens."""
    return name.lower().replace("_", "-")


def _yaml(asked: Asked, head: Sequence[str], *documents: Mapping[str, Any]) -> str:
    yaml = YAML()
    yaml.width = 1_000
    yaml.indent(mapping=2, sequence=4, offset=2)
    out = io.StringIO()
    yaml.dump_all(documents, out)
    about = f"Gate {asked.gate}" + (f", to {asked.action}" if asked.action else "") + ". Made by `probe gate --as`."
    return "".join(f"# {line}\n" for line in (about, *head)) + out.getvalue()
