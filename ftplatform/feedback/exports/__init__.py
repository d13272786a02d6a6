"""Exports of the tools in which feedback is given, read as events. What a tool does not say (surface, intent) stays unsaid."""

from __future__ import annotations

from ftplatform.feedback.exports.joining import Declared, ExportFormat, ExportTable, read_export

__all__ = ["Declared", "ExportFormat", "ExportTable", "read_export"]
