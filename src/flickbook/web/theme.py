"""The studio's theme: a light and a dark palette with one accent colour."""

from __future__ import annotations

import gradio as gr
from gradio.themes.utils import colors

_EMBER = colors.Color(
    name="ember",
    c50="#fff4ef",
    c100="#ffe4d8",
    c200="#fdc7b0",
    c300="#f7a180",
    c400="#ea764d",
    c500="#d2532b",
    c600="#b3391d",
    c700="#912c17",
    c800="#742617",
    c900="#5d2216",
    c950="#330f08",
)
_SYSTEM = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")


def theme() -> gr.themes.Base:
    """Return the theme. It uses system fonts only, so that nothing is loaded from other hosts."""
    return gr.themes.Base(
        primary_hue=_EMBER,
        neutral_hue=colors.stone,
        radius_size=gr.themes.sizes.radius_lg,
        font=list(_SYSTEM),
        font_mono=["ui-monospace", "monospace"],
    ).set(
        body_background_fill="#f7f5f1",
        body_background_fill_dark="#151517",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
        block_background_fill="#ffffff",
        block_background_fill_dark="#1f1f23",
        block_border_width="1px",
        block_shadow="none",
        block_label_text_color="*neutral_700",
        block_label_text_color_dark="*neutral_300",
        block_title_text_color="*neutral_800",
        block_title_text_color_dark="*neutral_200",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_400",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_600",
        button_primary_text_color="white",
        input_background_fill="#ffffff",
        input_background_fill_dark="#17171a",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
        slider_color="*primary_600",
    )
