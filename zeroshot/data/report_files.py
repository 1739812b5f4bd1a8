"""A data report as files: JSON, Markdown and plots, each written in one step."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import replace_file, write_json, write_text
from .figures import Figures
from .report import DataReport
from .report_format import format_report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PLOTS = ("label_frequencies.png", "words_per_text.png", "labels_per_text.png", "label_pairs.png")
SHOWN_CHARACTERS = 30  # of a label beside the heat map


def _load_figure_class() -> type["Figure"]:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            'Expected matplotlib for plots, found no such package. Install the extra: pip install "zeroshot[data]".'
        ) from error
    return Figure


def _plot_frequencies(axes: "Axes", figures: Figures) -> None:
    counts = list(figures["labels"]["counts"].values())
    axes.loglog(range(1, len(counts) + 1), counts, marker=".")
    axes.set(title="Label frequencies", xlabel="rank of the label", ylabel="texts")


def _plot_words(axes: "Axes", figures: Figures) -> None:
    bins = figures["texts"]["words_histogram"]
    axes.stairs(bins["counts"], bins["edges"], fill=True)
    axes.set(title="Words per text", xlabel="words", ylabel="texts")


def _plot_label_numbers(axes: "Axes", figures: Figures) -> None:
    sizes = figures["labels"]["histogram"]
    axes.bar(list(sizes), list(sizes.values()))
    axes.set(title="Labels per text", xlabel="labels", ylabel="texts")


def _plot_pairs(axes: "Axes", figures: Figures) -> None:
    names, counts = figures["labels"]["together"]["labels"], figures["labels"]["together"]["counts"]
    if names:
        image: Any = axes.imshow(counts, cmap="viridis")
        axes.figure.colorbar(image, ax=axes, label="texts")
    shown = [name if len(name) <= SHOWN_CHARACTERS else name[:SHOWN_CHARACTERS] + "..." for name in names]
    # A name with two dollar signs is no formula.
    axes.set_xticks(range(len(names)), shown, rotation=90, fontsize=7, parse_math=False)
    axes.set_yticks(range(len(names)), shown, fontsize=7, parse_math=False)
    axes.set_title("Most frequent labels on the same text")


def plot_report(report: DataReport, folder: Path) -> list[Path]:
    """Draw all files together: label frequencies, words and labels per text, labels on the same text.

    Returns:
        The PNG files written.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    figure_class = _load_figure_class()
    total = report["total"] or report["files"][0]
    draw: tuple[Callable[[Any, Figures], None], ...] = (_plot_frequencies, _plot_words, _plot_label_numbers, _plot_pairs)
    folder.mkdir(parents=True, exist_ok=True)
    for name, plot in zip(PLOTS, draw, strict=True):
        # Without pyplot: no window, no state of the process, no backend to choose.
        figure = figure_class(figsize=(8, 6), dpi=120, layout="constrained")
        plot(figure.subplots(), total)
        with replace_file(folder / name) as partial:
            figure.savefig(partial, format="png")
    return [folder / name for name in PLOTS]


def prepare_folder(folder: Path) -> None:
    """Make the folder of a report, before the long work begins.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If `folder` is a file.
    """
    _load_figure_class()
    if folder.is_file():
        raise ValueError(f"Expected a folder for the report, found the file {str(folder)!r}. Name a folder.")
    folder.mkdir(parents=True, exist_ok=True)


def write_report_files(report: DataReport, folder: Path) -> None:
    """Write `report.json`, `report.md` and the plots.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If `folder` is a file.
    """
    prepare_folder(folder)
    write_json(folder / "report.json", report, indent=2)
    write_text(folder / "report.md", format_report(report) + "\n")
    plot_report(report, folder)
