"""The house's panels: a number, a chart, a table. Each has a title, a description, a unit and a word for "no data"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from grafana.sdk import common, common_model, dashboard, model, prometheus, prometheus_model, stat, table, timeseries

if TYPE_CHECKING:
    from collections.abc import Sequence

Panel: TypeAlias = stat.Panel | timeseries.Panel | table.Panel

DATASOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")

GREEN, AMBER, RED, CALM = "green", "orange", "red", "text"
PANEL_HEIGHT = 8
NUMBER_HEIGHT = 4


@dataclass(frozen=True)
class Query:
    """One expression of a panel.

    ``legend`` names its series; ``{{label}}`` stands for a label's value. ``interval`` is the least step, in
    Prometheus' notation, and through it the least ``$__rate_interval``.
    """

    expr: str
    legend: str = ""
    interval: str = ""

    def target(self, number: int) -> prometheus.Dataquery:
        """The expression as the ``number``th of a panel, over the dashboard's time."""
        target = (
            prometheus.Dataquery()
            .expr(self.expr)
            .legend_format(self.legend or "__auto")
            .editor_mode(prometheus_model.QueryEditorMode.CODE)
            .ref_id(chr(ord("A") + number))
            .range()
        )
        return target.interval(self.interval) if self.interval else target


@dataclass(frozen=True)
class About:
    """What a person reads on a panel. ``no_data`` is shown in place of a value that is missing, null or NaN."""

    title: str
    description: str
    no_data: str
    links: Sequence[dashboard.DashboardLink] = ()


Steps: TypeAlias = tuple[model.Threshold, ...]


def rising(*, amber: float | None = None, red: float | None = None) -> Steps:
    """The more, the worse: green, and from these values on another colour."""
    return (_step(None, GREEN), *_steps((amber, AMBER), (red, RED)))


def falling(*, amber: float | None = None, green: float | None = None) -> Steps:
    """The less, the worse: red, and from these values on another colour."""
    return (_step(None, RED), *_steps((amber, AMBER), (green, GREEN)))


NO_STEPS: Steps = (model.Threshold(color=CALM, value=None),)


def number(
    about: About,
    queries: Sequence[Query],
    unit: str,
    steps: Steps,
    *,
    words: Sequence[tuple[float, str, str]] = (),
    decimals: int | None = None,
    width: int = 6,
) -> stat.Panel:
    """The value at this moment, on its threshold's colour.

    The queries are instant ones: over a range the last value that is not null would be shown long after its source
    fell silent. ``words`` are (value, text, colour), for values that read better as a word.
    """
    panel = (
        stat.Panel()
        .title(about.title)
        .description(about.description)
        .links(list(about.links))
        .datasource(DATASOURCE)
        .targets([query.target(at).instant() for at, query in enumerate(queries)])
        .unit(unit)
        .no_value(about.no_data)
        .mappings([*_words(words), _null(about.no_data, len(words))])
        .thresholds(_thresholds(steps))
        .color_scheme(dashboard.FieldColor().mode(model.FieldColorModeId.THRESHOLDS))
        .color_mode(common_model.BigValueColorMode.BACKGROUND)
        .graph_mode(common_model.BigValueGraphMode.NONE)
        .text_mode(
            common_model.BigValueTextMode.VALUE if len(queries) == 1 else common_model.BigValueTextMode.VALUE_AND_NAME
        )
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False).fields(""))
        .span(width)
        .height(NUMBER_HEIGHT)
    )
    return panel if decimals is None else panel.decimals(decimals)


def chart(
    about: About,
    queries: Sequence[Query],
    unit: str,
    steps: Steps = NO_STEPS,
    *,
    stacked: bool = False,
    width: int = 12,
) -> timeseries.Panel:
    """Lines over time from zero up, with the last values in the legend, and thresholds as dashed lines."""
    panel = (
        timeseries.Panel()
        .title(about.title)
        .description(about.description)
        .links(list(about.links))
        .datasource(DATASOURCE)
        .targets([query.target(at) for at, query in enumerate(queries)])
        .unit(unit)
        .min(0)
        .no_value(about.no_data)
        .mappings([_null(about.no_data, 0)])
        .thresholds(_thresholds(steps))
        .color_scheme(dashboard.FieldColor().mode(model.FieldColorModeId.PALETTE_CLASSIC))
        .line_width(2)
        .fill_opacity(40 if stacked else 8)
        .show_points(common_model.VisibilityMode.NEVER)
        # A gap is what happened: a line across it would claim values that nobody measured.
        .span_nulls(False)
        .legend(
            common.VizLegendOptions()
            .show_legend(True)
            .display_mode(common_model.LegendDisplayMode.LIST)
            .placement(common_model.LegendPlacement.BOTTOM)
            .calcs(["lastNotNull"])
        )
        .tooltip(
            common.VizTooltipOptions()
            .mode(common_model.TooltipDisplayMode.MULTI)
            .sort(common_model.SortOrder.DESCENDING)
        )
        .span(width)
        .height(PANEL_HEIGHT)
    )
    if steps is not NO_STEPS:
        panel = panel.thresholds_style(
            common.GraphThresholdsStyleConfig().mode(common_model.GraphThresholdsStyleMode.DASHED)
        )
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(common_model.StackingMode.NORMAL).group("A"))
    return panel


@dataclass(frozen=True)
class Column:
    """One value column of a table: its heading, the instant query that fills it, its unit and colours."""

    heading: str
    expr: str
    unit: str
    steps: Steps = NO_STEPS


def rows(about: About, labels: Sequence[str], columns: Sequence[Column], *, width: int = 24) -> table.Panel:
    """A table of one row for each set of ``labels``, the first value column's largest on top.

    The queries' series must carry these labels and no others.
    """
    values = {f"Value #{chr(ord('A') + at)}": column for at, column in enumerate(columns)}
    panel = (
        table.Panel()
        .title(about.title)
        .description(about.description)
        .links(list(about.links))
        .datasource(DATASOURCE)
        .targets(
            [
                Query(column.expr).target(at).instant().format(prometheus_model.PromQueryFormat.TABLE)
                for at, column in enumerate(columns)
            ]
        )
        .unit("none")
        .no_value(about.no_data)
        .mappings([_null(about.no_data, 0)])
        .thresholds(_thresholds(NO_STEPS))
        .transformations(
            [
                model.DataTransformerConfig(id_val="merge", options={}),
                model.DataTransformerConfig(
                    id_val="organize",
                    options={
                        "excludeByName": {"Time": True},
                        "indexByName": {name: at for at, name in enumerate([*labels, *values])},
                        "renameByName": {name: column.heading for name, column in values.items()},
                    },
                ),
            ]
        )
        .sort_by([common.TableSortByFieldState().display_name(columns[0].heading).desc(True)])
        .span(width)
        .height(PANEL_HEIGHT)
    )
    for column in columns:
        properties = [model.DynamicConfigValue(id_val="unit", value=column.unit)]
        if column.steps is not NO_STEPS:
            properties += [
                model.DynamicConfigValue(id_val="thresholds", value=_thresholds(column.steps).build()),
                model.DynamicConfigValue(id_val="custom.cellOptions", value={"type": "color-text"}),
            ]
        panel = panel.override_by_name(column.heading, properties)
    return panel


def _step(value: float | None, color: str) -> model.Threshold:
    return model.Threshold(color=color, value=value)


def _steps(*written: tuple[float | None, str]) -> list[model.Threshold]:
    return [_step(value, color) for value, color in written if value is not None]


def _thresholds(steps: Steps) -> dashboard.ThresholdsConfig:
    return dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(list(steps))


def _words(words: Sequence[tuple[float, str, str]]) -> list[model.ValueMap]:
    options = {
        f"{value:g}": model.ValueMappingResult(text=text, color=color, index=at)
        for at, (value, text, color) in enumerate(words)
    }
    return [model.ValueMap(options=options)] if options else []


def _null(text: str, index: int) -> model.SpecialValueMap:
    return model.SpecialValueMap(
        options=model.DashboardSpecialValueMapOptions(
            match=model.SpecialValueMatch.NULL_AND_NAN,
            result=model.ValueMappingResult(text=text, color=CALM, index=index),
        )
    )
