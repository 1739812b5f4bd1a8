"""Train, measure, publish and run zero-shot text classifiers the Hugging Face way."""

from .models import ARCHITECTURES, BiEncoderConfig, BiEncoderForZeroShotClassification, ZeroShotPipeline
from .version import __version__

__all__ = ["ARCHITECTURES", "BiEncoderConfig", "BiEncoderForZeroShotClassification", "ZeroShotPipeline", "__version__"]
