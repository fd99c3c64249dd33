"""Joint deep cross-domain transfer learning for emotion recognition: records -> network -> score -> SavedModel."""

__version__ = "0.1.0"
