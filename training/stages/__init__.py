"""The three things that are trained: the VAE, the entity encoder, the video networks."""

from training.config import AnyStage, Config, EntityStage, VideoStage
from training.networks import Parts
from training.stages.base import Stage
from training.stages.entity import EntityTraining
from training.stages.vae import VAETraining
from training.stages.video import VideoTraining


def make(options: AnyStage, parts: Parts, config: Config) -> Stage:
    """The stage that a config describes; only what it trains requires gradients."""
    stage: Stage
    if isinstance(options, VideoStage):
        stage = VideoTraining(options, parts, config)
    elif isinstance(options, EntityStage):
        stage = EntityTraining(options, parts)
    else:
        stage = VAETraining(options, parts)
    for name, module in parts.modules.items():
        module.requires_grad_(name in stage.trained).train(name in stage.trained)
    return stage
