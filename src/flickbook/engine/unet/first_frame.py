"""Image to video: keeps given first frames, a picture or the end of a film, while the other frames are denoised.

It needs no training. Three measures make the other frames follow (n films, c channels, f frames, h, w). They are
described for one picture; of several given frames the last one leads the others:

- The estimate of the first frame is replaced by the picture in every step (Ho et al. 2022, arXiv 2204.03458).
- The network sees the first frame without noise, so its temporal layers can read the picture from the first step on.
  At the noise level of the other frames it would be hidden until their layout is fixed.
- At high noise, the difference between the picture and the network's own estimate of the first frame is also added to
  the other frames, less to later ones. Neighbouring frames are nearly equal at that stage, so this approximates their
  conditional mean.

Measurements on the built-in model: docs/generate.md, and docs/reports/continuing.md for the end of a film.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

#: Below this share of the training timesteps the difference is not added to other frames: their layout is fixed.
_UNTIL: Final = 0.11
#: Frame k receives (1 + k) ** -p of the difference, with p rising from the first value to the second as noise falls.
#: Chosen on films of the built-in model: docs/generate.md.
_FALL: Final = (0.1, 0.4)


@dataclass(frozen=True, eq=False)
class FirstFrame:
    """The latents (n, c, k, h, w) of each film's k given frames, and T, the number of training timesteps."""

    latents: Tensor
    num_train_timesteps: int

    def shown(self, x: Tensor) -> Tensor:
        """The input `x` (n, c, f, h, w) for the network, with the given frames without noise."""
        return torch.cat([self.latents.to(x.dtype), x[:, :, self.latents.shape[2] :]], dim=2)

    def held(self, x0: Tensor, timestep: int) -> Tensor:
        """The estimate `x0` with the given frames, and the other frames pulled towards the last of them."""
        count = self.latents.shape[2]
        others, share = x0[:, :, count:], timestep / self.num_train_timesteps
        if share >= _UNTIL:
            place = torch.arange(1, others.shape[2] + 1, device=x0.device, dtype=x0.dtype)[:, None, None]
            least, most = _FALL
            fall = least + (most - least) * (1 - share)
            others = others + (1 + place) ** -fall * (self.latents[:, :, -1:] - x0[:, :, count - 1 : count])
        return torch.cat([self.latents.to(x0.dtype), others], dim=2)
