"""Options that do not fit: the exit status tells them from work that failed."""

from jaxalign.errors import JaxalignError


class UsageError(JaxalignError):
    """An option, or several together, that no data could make right: exit status 2."""
