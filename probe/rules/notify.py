"""Receivers as Alertmanager has them: secrets by its `*_file` fields, texts from one template file.

Every text says what the runbook's first line would: where, what, what to do first, by when, and where to look. A page is read
on a telephone at four in the morning.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from probe.scenario.oncall import OnCall
from probe.scenario.receivers import Receiver, SecretFile, Smtp

TEMPLATES = "stream-probe.tmpl"
TEXTS = """\
{{/* Written by `probe rules`. */}}
{{ define "probe.title" -}}
{{ if eq .Status "resolved" }}resolved: {{ end -}}
{{ .CommonLabels.severity }} {{ .CommonLabels.slo }} in {{ .CommonLabels.region -}}
{{ if gt (len .Alerts.Firing) 1 }} ({{ len .Alerts.Firing }} alerts){{ end }}
{{- end }}

{{ define "probe.text" -}}
{{ range .Alerts -}}
{{ if eq .Status "resolved" }}resolved: {{ end }}{{ .Annotations.summary }}
{{ with .Annotations.description }}{{ . }}
{{ end }}{{ with .Annotations.action }}Do first: {{ . }}
{{ end }}{{ with .Annotations.sla }}Within: {{ . }}
{{ end }}Owner: {{ .Labels.owner }}
{{ with .Annotations.runbook }}Runbook: {{ . }}
{{ end }}{{ with .Annotations.dashboard }}Dashboard: {{ . }}
{{ end }}
{{ end }}
{{- end }}
"""
_TITLE, _TEXT = '{{ template "probe.title" . }}', '{{ template "probe.text" . }}'
_DETAILS = {
    "owner": "{{ .CommonLabels.owner }}",
    "action": "{{ .CommonAnnotations.action }}",
    "runbook": "{{ .CommonAnnotations.runbook }}",
    "dashboard": "{{ .CommonAnnotations.dashboard }}",
    "alerts": _TEXT,
}


def receiver(name: str, settings: Receiver, *, resolved: bool = True) -> dict[str, Any]:
    """One of `receivers`. `resolved`: whether it is also told that all is well again."""
    out: dict[str, Any] = {"name": name}
    for way in settings.ways:
        config = _WAYS[way](getattr(settings, way))
        out[f"{way}_configs"] = [{"send_resolved": resolved, **config}]
    return out


def mail(oncall: OnCall) -> dict[str, Any]:
    """What of `global` is about mail; empty where nobody is told by it."""
    smtp: Smtp | None = oncall.smtp
    if smtp is None:
        return {}
    login = {"smtp_auth_username": smtp.username, "smtp_auth_password_file": _file(smtp.password)} if smtp.password else {}
    return {"smtp_smarthost": smtp.smarthost, "smtp_from": smtp.sender, **login}


def _file(secret: SecretFile | None) -> str:
    assert secret is not None
    return secret.file


def _webhook(way: Any) -> dict[str, Any]:
    where = {"url": way.url} if isinstance(way.url, str) else {"url_file": way.url.file}
    token = {"http_config": {"authorization": {"credentials_file": way.token.file}}} if way.token else {}
    return {**where, **token}


def _pagerduty(way: Any) -> dict[str, Any]:
    key = {"routing_key_file": way.routing_key.file} if way.routing_key else {"service_key_file": way.service_key.file}
    return {
        **key,
        "description": _TITLE,
        "severity": '{{ if eq .CommonLabels.severity "P1" }}critical{{ else }}warning{{ end }}',
        "component": "{{ .CommonLabels.service }}",
        "group": "{{ .CommonLabels.region }}",
        "class": "{{ .CommonLabels.slo }}",
        "details": _DETAILS,
    }


def _slack(way: Any) -> dict[str, Any]:
    return {"api_url_file": way.url.file, "channel": way.channel, "title": _TITLE, "text": _TEXT}


def _email(way: Any) -> dict[str, Any]:
    return {"to": ", ".join(way.to), "headers": {"Subject": _TITLE}, "html": "", "text": _TEXT}


def _opsgenie(way: Any) -> dict[str, Any]:
    responders = {"responders": [{"name": team, "type": "team"} for team in way.teams]} if way.teams else {}
    return {
        "api_key_file": way.api_key.file,
        "api_url": way.api_url,
        "message": _TITLE,
        "description": _TEXT,
        "priority": '{{ if eq .CommonLabels.severity "P1" }}P1{{ else }}P3{{ end }}',
        "tags": "{{ .CommonLabels.slo }},{{ .CommonLabels.region }}",
        "details": _DETAILS,
        **responders,
    }


_WAYS: Mapping[str, Any] = {
    "webhook": _webhook,
    "pagerduty": _pagerduty,
    "slack": _slack,
    "email": _email,
    "opsgenie": _opsgenie,
}
