"""What can be wrong with the words or the file a person gives.

    PerceptionError          its text is one sentence for the person: what is wrong, what to do
    ├── TextError            typed text that cannot be used
    │   └── TextTooLong      longer than the limit
    └── MediaError           a clip that cannot be used
        ├── UnreadableMedia  missing, empty, damaged, cut short, or no sound or picture at all
        ├── TooLarge         longer or bigger than the limits
        └── TooShort         too little sound to hear anything in

A clip without sound, picture, speech or a face is no error but an `Absence` (see types.py).
"""


class PerceptionError(ValueError):
    """What was given cannot be perceived; `str(error)` is meant for the person who gave it."""


class TextError(PerceptionError):
    """Typed text that cannot be used."""


class TextTooLong(TextError):
    """Longer than the limit."""


class MediaError(PerceptionError):
    """A clip that cannot be used."""


class UnreadableMedia(MediaError):
    """Missing, empty, damaged, cut short, or no sound or picture at all."""


class TooLarge(MediaError):
    """Longer or bigger than the limits."""


class TooShort(MediaError):
    """Too little sound to hear anything in."""
