"""Tiny random pipelines of the real classes, built on the spot: what contract tests of a model family run on.

Each function of `ALL` builds one, without network; seed torch before. Sizes are the least that work.
"""

from __future__ import annotations

from tests.tiny.cog import cog, cog_i2v, cog_v2v
from tests.tiny.hunyuan import framepack, hv, hy15, hy15_i2v, hy15_i2v_steps
from tests.tiny.kandinsky import k5, k5_i2v, k6
from tests.tiny.ltx import ltx, ltx2, ltx2_cond, ltx2_i2v, ltx25, ltx_cond, ltx_i2v
from tests.tiny.minimax import h3
from tests.tiny.others import allegro, latte, mochi, sana, sana_i2v
from tests.tiny.unet import ad, ad_control, ad_sdxl, ad_v2v, flux, i2vgen, ms, ms_v2v, sana_img, sd15, sdxl, svd, zero
from tests.tiny.wan import (
    sky,
    sky_df,
    sky_df_i2v,
    sky_df_v2v,
    sky_i2v,
    wan,
    wan22_5b,
    wan22_5b_i2v,
    wan22_a14b,
    wan22_i2v,
    wan_animate,
    wan_flf,
    wan_i2v,
    wan_v2v,
    wan_vace,
)
from tests.tiny.wan_relatives import anyflow, helios, motif

ALL = [
    wan,
    wan22_a14b,
    wan22_5b,
    wan_i2v,
    wan_v2v,
    sky,
    sky_df,
    sky_i2v,
    cog,
    cog_i2v,
    cog_v2v,
    ltx,
    ltx_i2v,
    ltx_cond,
    ltx2,
    hy15,
    mochi,
    sana,
    sana_i2v,
    ad,
    ad_control,
    ad_v2v,
    svd,
    i2vgen,
    ms,
    ms_v2v,
    latte,
    zero,
    sd15,
    sdxl,
    flux,
    sana_img,
    wan_flf,
    wan22_i2v,
    wan_animate,
    wan22_5b_i2v,
    wan_vace,
    sky_df_i2v,
    sky_df_v2v,
    hv,
    framepack,
    hy15_i2v,
    hy15_i2v_steps,
    ltx2_i2v,
    ltx2_cond,
    allegro,
    ad_sdxl,
    anyflow,
    helios,
    motif,
    k5,
    k5_i2v,
    k6,
]

#: Those that diffusers has as modular pipelines.
MODULAR = [h3, ltx25]
