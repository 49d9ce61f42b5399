"""Generated images: the whole pool's labels, and images that a model of each class makes.

Source: house method after You et al., DPT, NeurIPS 2023, arXiv:2302.10586: label the whole pool,
fit a class-conditional generator on those labels, make 128 images a class, train anew on both.
Departs from the paper: the generator is no diffusion model but a Gaussian in the space of each
class's principal components, which makes blurred images without new parts; give the sampler of a
real one as `extension.generator`. The classifier of the first stage sees labels alone.
"""

from orchestrator.families import warm_rounds
from orchestrator.method import Method
from orchestrator.recipe import RoundPolicy
from trainables.generators import Extension
from trainables.selectors.fixed import Everything

METHOD = Method(
    summary="The whole pool's labels, and images that a Gaussian model of each class makes.",
    source="house method after DPT, You et al., NeurIPS 2023, arXiv:2302.10586",
    departs="a Gaussian of each class in place of a diffusion model",
    search=("extension", "policy", "teacher", "training"),
    recipe=warm_rounds(
        mixup=0.0,
        selector=Everything(),
        extension=Extension(per_class=128),
        policy=RoundPolicy(num_rounds=2, start="restart", label_last=False),
    ),
)
