"""What goes wrong in a lab, in one sentence that says what to do next."""

from sansio.errors import DmssdError


class LabError(DmssdError):
    """A lab cannot be made, changed or found as asked."""
