"""The operator's own errors.

OperatorError
├── SettingsError   an environment variable is missing or malformed
└── ReconcileError  a pool could not be brought to where its spec says; tried again later
"""


class OperatorError(Exception):
    """Something that the operator cannot do; the message says what and the next step."""


class SettingsError(OperatorError):
    """An environment variable is missing, malformed or unknown."""


class ReconcileError(OperatorError):
    """Some writes for a pool failed; the others were made."""
