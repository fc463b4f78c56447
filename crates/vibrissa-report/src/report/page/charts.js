// Charts of single features and rows, drawn in the page. The figures of the sections are drawn by plot/chart.rs.

const CHART = { width: 420, height: 230, left: 52, right: 12, top: 12, bottom: 40 };

// Round numbers from `low` to `high`, about `n` of them.
const niceTicks = (low, high, n = 5) => {
  const raw = (high - low) / n || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999);
  const ticks = [];
  for (let v = Math.ceil(low / step - 1e-9) * step; v <= high + step * 1e-6; v += step) {
    ticks.push(Math.abs(v) < step / 1e6 ? 0 : v);
  }
  return ticks;
};
const tickText = (v) => (v !== 0 && Math.abs(v) < 1e-3 ? v.toExponential(0) : String(+v.toPrecision(4)));

// An empty chart with its axes, and the functions that turn values into pixels.
const axes = (title, [xLow, xHigh], [yLow, yHigh], xLabel, yLabel) => {
  const { width, height, left, right, top, bottom } = CHART;
  const svg = svgElement("svg", {
    class: "chart",
    viewBox: `0 0 ${width} ${height}`,
    role: "img",
    "aria-label": title,
  });
  const px = (v) => left + ((v - xLow) / (xHigh - xLow || 1)) * (width - left - right);
  const py = (v) => height - bottom - ((v - yLow) / (yHigh - yLow || 1)) * (height - top - bottom);
  for (const v of niceTicks(yLow, yHigh)) {
    svg.append(svgElement("line", { class: "axis", x1: left, x2: width - right, y1: py(v), y2: py(v) }));
    svg.append(svgElement("text", { x: left - 7, y: py(v) + 4, "text-anchor": "end" }, tickText(v)));
  }
  for (const v of niceTicks(xLow, xHigh, 6)) {
    svg.append(svgElement("text", { x: px(v), y: height - bottom + 16, "text-anchor": "middle" }, tickText(v)));
  }
  const xMiddle = (left + width - right) / 2;
  svg.append(svgElement("text", { x: xMiddle, y: height - 6, "text-anchor": "middle" }, xLabel));
  const turned = `translate(12 ${(top + height - bottom) / 2}) rotate(-90)`;
  svg.append(svgElement("text", { transform: turned, "text-anchor": "middle" }, yLabel));
  return { svg, px, py };
};

// Bars between `edges`, which are one more than `heights`.
const barChart = (title, edges, heights, xLabel, yLabel) => {
  const highest = Math.max(1, ...heights);
  const { svg, px, py } = axes(title, [edges[0], edges[edges.length - 1]], [0, highest], xLabel, yLabel);
  heights.forEach((h, i) => {
    const [x, width] = [px(edges[i]) + 0.5, Math.max(0.5, px(edges[i + 1]) - px(edges[i]) - 1)];
    const bar = svgElement("rect", { class: "bar", x, width, y: py(h), height: py(0) - py(h) });
    const range = `${tickText(edges[i])} – ${tickText(edges[i + 1])}`;
    bar.append(svgElement("title", {}, `${range}: ${formatNumber(h, 1)}`));
    svg.append(bar);
  });
  return svg;
};

// Lines of `series`, each {points: [[x, y], …], colour}; undefined points are left out. Null if there are none.
const lineChart = (title, series, xLabel, yLabel) => {
  const defined = (point) => point.every(Number.isFinite);
  const all = series.flatMap((s) => s.points).filter(defined);
  if (!all.length) return null;
  const range = (axis) =>
    all.reduce(([low, high], p) => [Math.min(low, p[axis]), Math.max(high, p[axis])], [Infinity, -Infinity]);
  const [x, [low, high]] = [range(0), range(1)];
  const y = low === high ? [low - 0.5, high + 0.5] : [low, high];
  const { svg, px, py } = axes(title, x, y, xLabel, yLabel);
  series.forEach((s, i) => {
    const points = s.points.filter(defined).map((p) => `${px(p[0]).toFixed(1)},${py(p[1]).toFixed(1)}`);
    svg.append(
      svgElement("polyline", { class: "line", stroke: s.colour ?? seriesColour(i), points: points.join(" ") }),
    );
  });
  return svg;
};

const figure = (title, svg) => element("figure", {}, element("div", { class: "t" }, title), svg);
