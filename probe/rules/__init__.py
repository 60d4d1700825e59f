"""Objectives, gates and inventory → what decides: rules, routing, dashboards, runbooks. Pure: text and data in, text out."""
