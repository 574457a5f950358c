"""Permutation importances over the splits, with readable names of features, and the learning curve."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lab.io.files import plural
from lab.radiomics.features.feature_maps import parse_feature
from lab.report.figures.style import (
    COLOURS,
    DASHED,
    FAINT,
    INK,
    SMALL,
    TEXT,
    bottom_legend,
    headline,
    new_figure,
    plain_axes,
)
from lab.stats.intervals import CONFIDENCE

SHOWN = 20
FAMILIES = {"firstorder": "first order", "shape": "shape", "shape2D": "shape"}
"""Names of the feature classes that are not acronyms."""


def feature_words(feature: str) -> str:
    """`T2_wavelet-LLH_glcm_Contrast` as "T2, wavelet LLH, GLCM contrast"; any other name is unchanged."""
    try:
        name = parse_feature(feature)
    except ValueError:
        return feature
    family = FAMILIES.get(name.family, name.family.upper())
    what = f"{family} {_spaced(name.feature)}"
    if name.is_shape:
        return what
    return ", ".join(part for part in (name.sequence, _filter_words(name.image), what) if part)


def importance_figure(summary: pd.DataFrame, *, phantom: bool) -> Figure:
    """The first features of `lab.radiomics.assess.importance.summarise_importances`: importance and selection rate.

    Raises ValueError where there is nothing to draw.
    """
    if summary.empty:
        raise ValueError("no split selected a feature: there is no importance to draw")
    table = summary.head(SHOWN).iloc[::-1].reset_index(drop=True)
    places = np.arange(len(table))
    figure = new_figure(9.4, 0.27 * len(table) + 1.75)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3.2, 1))
    reach = np.abs(table[["low", "high"]].to_numpy(float).T - table["importance"].to_numpy(float))
    known = np.isfinite(reach).all(axis=0)
    left.axvline(0, color=INK, linewidth=0.9)
    style = {"fmt": "o", "color": COLOURS[0], "markersize": 5.5, "linewidth": 1.6}
    left.errorbar(table["importance"], places, xerr=np.nan_to_num(reach), **style)
    left.set_yticks(places, [feature_words(name) for name in table["feature"]])
    left.set_ylim(-0.6, len(table) - 0.4)
    left.set_xlabel("drop of the test AUC when permuted", fontsize=TEXT, color=INK)
    right.barh(places, 100 * table["selected"], height=0.62, color=COLOURS[5])
    right.set_xlim(0, 100)
    right.set_xlabel("selected in % of splits", fontsize=TEXT, color=INK)
    for axes in (left, right):
        plain_axes(axes, grid="x")
        axes.tick_params(axis="y", length=0, labelsize=SMALL)
    right.spines["left"].set_color(FAINT)
    splits = int(table["splits"].iloc[0])
    bars = f"; bars: {100 * CONFIDENCE:g} % CI, corrected t" if known.any() else ""
    note = f"{len(table)} of {len(summary)} features that were ever selected; {plural(splits, 'split')}{bars}"
    headline(figure, "Importance of the features", phantom=phantom, note=note)
    return figure


def learning_figure(table: pd.DataFrame, *, phantom: bool, name: str) -> Figure:
    """Mean AUC with its interval at each training size, from `summarise_learning`; ValueError for an empty table."""
    if table.empty:
        raise ValueError("there is no learning curve to draw")
    figure = new_figure(6.6, 5.0)
    axes = figure.subplots()
    reach = [table["mean"] - table["low"], table["high"] - table["mean"]]
    style = {"color": COLOURS[0], "marker": "o", "markersize": 5.5, "linewidth": 1.6, "elinewidth": 1.1}
    axes.errorbar(table["n"], table["mean"], yerr=reach, label=name, **style)
    axes.axhline(0.5, label="chance", **DASHED)
    axes.set_xticks(table["n"])
    axes.set_xlabel("patients to train on", fontsize=TEXT, color=INK)
    axes.set_ylabel("mean AUC of the test patients", fontsize=TEXT, color=INK)
    plain_axes(axes)
    bottom_legend(figure, axes.get_legend_handles_labels()[0])
    splits = plural(int(table["seeds"].max()), "random split")
    headline(
        figure,
        "Learning curve",
        phantom=phantom,
        note=f"{splits}; bars: {100 * CONFIDENCE:g} % CI, corrected resampled t",
    )
    return figure


def _filter_words(image: str) -> str:
    """The filter of a feature: "" for none, "wavelet LLH", "LoG 3 mm"."""
    if image == "original":
        return ""
    log = re.fullmatch(r"log-sigma-(\d+)-(\d+)-mm-3D", image)
    if log:
        return f"LoG {float('.'.join(log.groups())):g} mm"
    return image.replace("-", " ")


def _spaced(name: str) -> str:
    """`SmallAreaEmphasis` as "small area emphasis"; acronyms stay: "MCC", "2D", "IMC 1"."""
    if re.fullmatch(r"Id[mn]?n?|Imc\d", name):
        return name.upper()
    words = re.findall(r"\d+D(?![a-z])|\d+|[A-Z]{2,}(?![a-z])|[A-Z][a-z]*|[a-z]+", name)
    return " ".join(word if word.isupper() and len(word) > 1 else word.lower() for word in words).replace(
        "gray", "grey"
    )
