"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const words = JSON.parse(document.getElementById("words").textContent)[data.language];
  const A = data.analysis, C = data.columns;
  const main = document.getElementById("main");
  const t = (key, values = {}) =>
    (words[key] ?? key).replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");

  // ---- small things ---------------------------------------------------------------------------------------------
  const el = (tag, attributes = {}, ...children) => {
    const e = document.createElement(tag);
    for (const [k, v] of Object.entries(attributes)) {
      if (k.startsWith("on")) e.addEventListener(k.slice(2), v);
      else if (v !== undefined && v !== null && v !== false) e.setAttribute(k, v === true ? "" : v);
    }
    e.append(...children.flat().filter((c) => c !== null && c !== undefined));
    return e;
  };
  const svgEl = (tag, attributes = {}, text) => {
    const e = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v);
    if (text !== undefined) e.textContent = text;
    return e;
  };
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const cache = new Map();
  const col = (name) => {
    if (!cache.has(name)) {
      const c = C[name];
      let v = [];
      if (c?.f32 !== undefined) v = new Float32Array(bytes(c.f32).buffer);
      if (c?.u32 !== undefined) v = new Uint32Array(bytes(c.u32).buffer);
      cache.set(name, v);
    }
    return cache.get(name);
  };
  const fmt = (v, digits = 4) => {
    if (v === null || v === undefined || !Number.isFinite(v)) return "–";
    const size = Math.abs(v);
    if (size !== 0 && (size < 10 ** -digits || size >= 1e6)) return v.toExponential(2);
    return v.toLocaleString("en-US", { maximumFractionDigits: size >= 100 ? 1 : digits });
  };
  const pct = (v, digits = 1) => {
    if (v === null || v === undefined || !Number.isFinite(v)) return "–";
    const percent = 100 * v, tiny = percent !== 0 && Math.abs(percent) < 0.5 * 10 ** -digits;
    return `${tiny ? percent.toPrecision(1) : percent.toFixed(digits)}\u00a0%`;
  };
  // In a column all have the same decimals.
  const fixed = (v, digits = 4) => {
    if (v === null || v === undefined || !Number.isFinite(v)) return "–";
    return v !== 0 && Math.abs(v) < 0.5 * 10 ** -digits ? v.toExponential(1) : v.toFixed(digits);
  };
  const int = (v) => v.toLocaleString("en-US");
  const classes = Object.entries(A.classes);
  const colour = (i) => `var(--c${i % 10})`;

  // ---- pictures -------------------------------------------------------------------------------------------------
  // Blue below 0, near-white at 0, red above, in Oklab: as the program's own pictures.
  const diverging = (() => {
    const table = new Uint8ClampedArray(256 * 3);
    for (let i = 0; i < 256; i++) {
      const v = Math.max(-1, (i - 128) / 127), m = Math.abs(v);
      const L = 0.975 - 0.595 * m, ch = 0.155 * (1 - (1 - m) ** 2.2) * (1 - 0.22 * m * m);
      const hue = ((v < 0 ? 254 : 27) * Math.PI) / 180, a = ch * Math.cos(hue), b = ch * Math.sin(hue);
      const l = (L + 0.39633778 * a + 0.21580376 * b) ** 3, mm = (L - 0.105561346 * a - 0.06385417 * b) ** 3,
        s = (L - 0.08948418 * a - 1.2914855 * b) ** 3;
      const rgb = [4.0767417 * l - 3.3077116 * mm + 0.23096994 * s, -1.268438 * l + 2.6097574 * mm - 0.3413194 * s,
        -0.0041960863 * l - 0.7034186 * mm + 1.7076147 * s];
      rgb.forEach((x, c) => (table[i * 3 + c] = 255 * (x <= 0.0031308 ? 12.92 * x : 1.055 * x ** (1 / 2.4) - 0.055)));
    }
    return table;
  })();
  const sheets = new Map();
  // A sheet as a canvas; signed grey ones go through the diverging map.
  const sheet = (name, signed) => {
    if (!sheets.has(name)) {
      sheets.set(name, (async () => {
        const c = C[name];
        if (!c?.png) return null;
        const bitmap = await createImageBitmap(new Blob([bytes(c.png)], { type: "image/png" }));
        const canvas = document.createElement("canvas");
        [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
        const context = canvas.getContext("2d", { willReadFrequently: true });
        context.drawImage(bitmap, 0, 0);
        if (signed && c.channels === 1) {
          const image = context.getImageData(0, 0, canvas.width, canvas.height), p = image.data;
          for (let i = 0; i < p.length; i += 4) {
            const at = p[i] * 3;
            [p[i], p[i + 1], p[i + 2]] = [diverging[at], diverging[at + 1], diverging[at + 2]];
          }
          context.putImageData(image, 0, 0);
        }
        return canvas;
      })());
    }
    return sheets.get(name);
  };
  const picture = (name, i, signed, label) => {
    const c = C[name];
    if (!c?.png) return null;
    const canvas = el("canvas", { class: "pic", width: c.width, height: c.height, role: "img", "aria-label": label });
    sheet(name, signed).then((s) => {
      const x = (i % c.columns) * c.width, y = Math.floor(i / c.columns) * c.height;
      canvas.getContext("2d").drawImage(s, x, y, c.width, c.height, 0, 0, c.width, c.height);
    });
    return canvas;
  };

  // The picture of a feature; those that are never used have none.
  const places = new Map();
  const featurePicture = (s, h) => {
    if (!places.has(s)) places.set(s, new Map(Array.from(col(`${s}.wall_of`), (latent, i) => [latent, i])));
    const at = places.get(s).get(h), label = t("feature", { h });
    if (at !== undefined) return picture(`${s}.wall`, at, true, label);
    return C[`${s}.wall`]?.png ? el("canvas", { class: "pic none", width: 8, height: 8, role: "img", "aria-label": label }) : null;
  };

  // ---- charts ---------------------------------------------------------------------------------------------------
  const W = 420, H = 230, M = { l: 52, r: 12, t: 12, b: 40 };
  const ticks = (low, high, n = 5) => {
    const raw = (high - low) / n || 1, power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999);
    const out = [];
    for (let v = Math.ceil(low / step - 1e-9) * step; v <= high + step * 1e-6; v += step) out.push(Math.abs(v) < step / 1e6 ? 0 : v);
    return out;
  };
  const compact = new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 1 });
  const short = (v) => (Math.abs(v) >= 1e4 ? compact.format(v) : v !== 0 && Math.abs(v) < 1e-3 ? v.toExponential(0) : String(+v.toPrecision(4)));
  const frame = (title, x, y, { xLabel, yLabel, xTick = short, yTick = short, width = W, height = H }) => {
    const svg = svgEl("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title });
    const px = (v) => M.l + ((v - x[0]) / (x[1] - x[0] || 1)) * (width - M.l - M.r);
    const py = (v) => height - M.b - ((v - y[0]) / (y[1] - y[0] || 1)) * (height - M.t - M.b);
    for (const v of ticks(y[0], y[1])) {
      svg.append(svgEl("line", { class: "axis", x1: M.l, x2: width - M.r, y1: py(v), y2: py(v) }));
      svg.append(svgEl("text", { x: M.l - 7, y: py(v) + 4, "text-anchor": "end" }, yTick(v)));
    }
    for (const v of ticks(x[0], x[1], 6)) svg.append(svgEl("text", { x: px(v), y: height - M.b + 16, "text-anchor": "middle" }, xTick(v)));
    svg.append(svgEl("text", { x: (M.l + width - M.r) / 2, y: height - 6, "text-anchor": "middle" }, xLabel));
    svg.append(svgEl("text", { transform: `translate(12 ${(M.t + height - M.b) / 2}) rotate(-90)`, "text-anchor": "middle" }, yLabel));
    return { svg, px, py };
  };
  const figure = (title, svg, note, legend) =>
    el("figure", {}, el("div", { class: "t" }, title), svg, legend ? el("div", { class: "legend" }, legend.map(([name, c]) =>
      el("span", {}, el("i", { style: `background:${c}` }), name))) : null, note ? el("figcaption", {}, note) : null);
  const bars = (title, edges, counts, labels) => {
    const top = Math.max(1, ...counts);
    const { svg, px, py } = frame(title, [edges[0], edges[edges.length - 1]], [0, top], labels);
    counts.forEach((n, i) => {
      const r = svgEl("rect", { class: "bar", x: px(edges[i]) + 0.5, width: Math.max(0.5, px(edges[i + 1]) - px(edges[i]) - 1), y: py(n), height: py(0) - py(n) });
      r.append(svgEl("title", {}, `${short(edges[i])} – ${short(edges[i + 1])}: ${int(n)}`));
      svg.append(r);
    });
    return svg;
  };
  const histogram = (title, values, labels, n = 40) => {
    const v = Array.from(values).filter(Number.isFinite);
    if (!v.length) return null;
    let low = Infinity, high = -Infinity;
    for (const x of v) [low, high] = [Math.min(low, x), Math.max(high, x)];
    if (low === high) [low, high] = [low - 0.5, high + 0.5];
    const counts = Array(n).fill(0);
    v.forEach((x) => counts[Math.min(n - 1, Math.floor(((x - low) / (high - low)) * n))]++);
    return bars(title, Array.from({ length: n + 1 }, (_, i) => low + ((high - low) * i) / n), counts, labels);
  };
  const lines = (title, series, labels, xRange, yRange) => {
    const all = series.flatMap((s) => s.points).filter((p) => p.every(Number.isFinite));
    if (!all.length) return null;
    const range = (i) => all.reduce(([a, b], p) => [Math.min(a, p[i]), Math.max(b, p[i])], [Infinity, -Infinity]);
    const [x, y] = [xRange ?? range(0), yRange ?? range(1)];
    const { svg, px, py } = frame(title, x, y[0] === y[1] ? [y[0] - 0.5, y[1] + 0.5] : y, labels);
    series.forEach((s, i) => svg.append(svgEl("polyline", { class: "line", stroke: s.colour ?? colour(i), "stroke-dasharray": s.dash ?? "",
      points: s.points.filter((p) => p.every(Number.isFinite)).map((p) => `${px(p[0]).toFixed(1)},${py(p[1]).toFixed(1)}`).join(" ") })));
    return svg;
  };

  // ---- sections -------------------------------------------------------------------------------------------------
  const nav = document.getElementById("nav");
  const section = (id, title, note, ...content) => {
    nav.append(el("a", { href: `#${id}` }, t(`nav_${id}`)));
    main.append(el("section", { id, "aria-labelledby": `${id}-h` }, el("h2", { id: `${id}-h` }, title),
      note ? el("p", { class: "note" }, note) : null, ...content));
  };
  const table = (head, rows, kind) => el("div", { class: "scroll" }, el("table", { class: kind }, el("thead", {}, el("tr", {}, head.map((h) => el("th", { scope: "col" }, h)))),
    el("tbody", {}, rows.map((r) => el("tr", {}, r.map((c) => el("td", {}, c)))))));
  const featureButton = (s, h) => el("button", { class: "chip", onclick: () => open(s, h) }, String(h));
  const S = A.saes;

  document.title = t("title", { run: A.run });
  document.getElementById("title").textContent = t("title", { run: A.run });
  document.getElementById("skip").textContent = t("skip");
  document.getElementById("subtitle").textContent = t("subtitle", { rows: int(A.rows), data: A.data, split: A.split, version: A.tool_version,
    latents: int(S[0].latents), saes: S.length > 1 ? t("saes", { n: S.length }) : t("one_sae") });

  const summary = () => {
    const s = S[0], o = s.order;
    const cards = [[fmt(s.pearson, 3), t("pearson_long")], [fmt(s.l0, 1), t("l0")], [pct(s.usage.carry_80), t("carry")], [int(s.dead), t("unused")], [int(s.usage.negative), t("harmful")]];
    if (s.classes?.probe) cards.push([pct(s.classes.probe), t("probe")]);
    const order = col("0.rank"), first = Array.from(order).indexOf(1);
    let most = 0;
    col("0.frequency").forEach((f, h, all) => { if (f > all[most]) most = h; });
    const facts = [];
    if (A.rows < 200) facts.push(t("fact_few", { n: int(A.rows) }));
    if (A.split !== "test") facts.push(t("fact_split"));
    if (first >= 0) facts.push(t("fact_top", { h: most, f: pct(o.top_frequency), n: o.top, least: pct(o.top_least_frequency, 2) }));
    facts.push(t("fact_order", { n: o.top, a: pct(o.share[0], 3), b: pct(o.share[1], 3) }));
    facts.push(t("fact_rank", { how: Math.abs(o.rank_index ?? 0) < 0.1 ? t("unrelated") : t("related"), r: fmt(o.rank_index, 3) }));
    facts.push(t("fact_dense", { n: int(s.dense), rare: int(s.rare) }));
    if (s.usage.tail !== null) facts.push(t("fact_tail", { a: fmt(s.usage.tail, 2), r: fmt(s.usage.tail_r2, 2) }));
    if (s.classes) facts.push(t("fact_class", { n: int(s.classes.significant), major: pct(s.classes.majority), probe: pct(s.classes.probe) }));
    const parts = [el("div", { class: "cards" }, cards.map(([b, l]) => el("div", { class: "card" }, el("b", {}, b), el("span", {}, l)))),
      el("ul", { class: "facts" }, facts.map((f) => el("li", {}, f)))];
    if (data.eval) {
      const row = (name, rows, v) => [name, int(rows), fixed(v.pearson), fixed(v.mse, 5), fixed(v.fvu), fixed(v.ssim), fixed(v.psnr, 2)];
      const best = data.eval.saes.length > 1 ? data.eval.ensemble : data.eval.saes[0];
      parts.push(el("h3", {}, `${t("held_out")} (${data.eval.split ?? ""})`), table(["", t("rows"), t("pearson"), "mse", "fvu", "SSIM", "PSNR dB"],
        [...data.eval.saes.map((v, i) => row(`${t("sae")} ${i}`, data.eval.rows, v)),
          ...Object.entries(best.by_class).map(([n, v]) => row(`${t("class")} ${n}`, v.rows, v)), row("–", data.eval.rows, data.eval.mean_image)]));
      parts[parts.length - 1].querySelector("tr:last-child td").textContent = data.language === "zh" ? "平均图像" : "mean image";
    }
    section("summary", t("summary"), null, ...parts);
  };

  const recons = () => {
    const s = 0, list = S[s].reconstructions;
    if (!list.length) return;
    const cards = list.map((r, i) => {
      const cited = A.cited[r.cited], name = cited.class === null || cited.class === undefined ? "" : `${t("class")} ${classes[cited.class][0]} · `;
      const pair = C[`${s}.recon`]?.png
        ? el("div", { class: "pair" }, el("div", {}, picture(`${s}.recon_original`, i, false, t("original")), el("br"), t("original")),
          el("div", {}, picture(`${s}.recon`, i, false, t("reconstruction")), el("br"), t("reconstruction")))
        : (() => {
          const d = C[`${s}.recon`].shape[1], cut = (n) => Array.from(col(n).slice(i * d, (i + 1) * d)).map((v, j) => [j, v]);
          return lines(t("recons"), [{ points: cut(`${s}.recon_original`), colour: "var(--muted)" }, { points: cut(`${s}.recon`), colour: "var(--warm)" }], { xLabel: "", yLabel: "" });
        })();
      return el("div", { class: "recon" }, el("div", { class: "t" }, `${name}${t(r.rank)} · r ${fmt(r.pearson, 3)}`),
        el("div", { class: "note" }, cited.name), pair,
        el("div", { class: "chips" }, r.active.map(([h, v]) => el("button", { class: "chip", onclick: () => open(s, h), title: fmt(v) }, `${h}`))));
    });
    section("recons", t("recons"), t("recons_note"), el("div", { class: "recons" }, cards));
  };

  const measures = ["score", "score_scaled", "frequency", "strength", "delta_sse", "delta_pearson", "share", "largest", ...(S[0].classes ? ["information"] : []), ...(A.ensemble ? ["best_partner"] : []), "index"];
  const wall = () => {
    const state = { s: 0, by: "score", show: "all", shown: 0, list: [] };
    const grid = el("div", { class: "grid" }), status = el("p", { class: "note", "aria-live": "polite" });
    const more = el("button", { class: "more", onclick: () => grow() });
    const value = (h) => (state.by === "index" ? "" : ["frequency", "share"].includes(state.by) ? pct(col(`${state.s}.${state.by}`)[h], 2) : fmt(col(`${state.s}.${state.by}`)[h], 4));
    const tile = (h) => el("button", { class: "tile", onclick: () => open(state.s, h, state.list), "data-latent": h }, featurePicture(state.s, h),
      el("span", { class: "n" }, String(h)), el("span", { class: "v" }, value(h)));
    const grow = () => {
      const next = state.list.slice(state.shown, state.shown + 200);
      grid.append(...next.map(tile));
      state.shown += next.length;
      const left = Math.min(200, state.list.length - state.shown);
      more.textContent = t("more", { n: left });
      more.hidden = left <= 0;
      status.textContent = t("shown", { a: int(state.shown), b: int(state.list.length) });
    };
    const fill = () => {
      const count = col(`${state.s}.count`), v = state.by === "index" ? null : col(`${state.s}.${state.by}`);
      let list = Array.from(count.keys());
      if (state.show === "unused") list = list.filter((h) => !count[h]);
      else list = list.filter((h) => count[h]);
      if (state.show.startsWith("class:")) {
        const c = +state.show.slice(6), auc = col(`${state.s}.class_auc`), q = col(`${state.s}.q`);
        list = list.filter((h) => q[h] < 0.05 && auc[h * classes.length + c] >= 0.7);
      }
      if (v) list.sort((a, b) => (Number.isFinite(v[b]) ? v[b] : -Infinity) - (Number.isFinite(v[a]) ? v[a] : -Infinity) || a - b);
      Object.assign(state, { list, shown: 0 });
      grid.replaceChildren();
      grow();
    };
    const select = (label, id, options, change) => el("label", {}, label, el("select", { id, onchange: (e) => { change(e.target.value); fill(); } },
      options.map(([v, name]) => el("option", { value: v }, name))));
    const controls = el("div", { class: "controls" });
    if (S.length > 1) controls.append(select(t("sae"), "wall-sae", S.map((_, i) => [i, `${t("sae")} ${i}`]), (v) => (state.s = +v)));
    controls.append(select(t("sort"), "wall-sort", measures.map((m) => [m, t(m)]), (v) => (state.by = v)));
    controls.append(select(t("show"), "wall-show", [["all", t("all_features")], ...(S[0].classes ? classes.map(([name], c) => [`class:${c}`, t("of_class", { c: name })]) : []), ["unused", t("unused_only")]], (v) => (state.show = v)));
    controls.append(el("label", {}, t("search"), el("input", { id: "wall-search", type: "number", min: 0, max: S[0].latents - 1, onchange: (e) => {
      const h = +e.target.value;
      if (e.target.value !== "" && h >= 0 && h < S[state.s].latents) open(state.s, h, state.list);
    } })));
    const scale = C["0.wall"]?.channels === 1
      ? el("span", { class: "scale" }, "−max", (() => {
        const c = el("canvas", { width: 160, height: 1 }), x = c.getContext("2d");
        for (let i = 0; i < 160; i++) { const at = Math.round((i / 159) * 254 + 1) * 3; x.fillStyle = `rgb(${diverging.slice(at, at + 3).join()})`; x.fillRect(i, 0, 1, 1); }
        return c;
      })(), "+max · ", t("scale_signed")) : C["0.wall"] ? el("span", { class: "scale" }, t("scale_colour")) : null;
    section("wall", t("wall"), t("wall_note"), controls, scale, status, grid, el("p", {}, more));
    fill();
  };

  const alive = (s, name) => { const c = col(`${s}.count`); return Array.from(col(`${s}.${name}`)).filter((_, h) => c[h]); };
  const dist = () => {
    const figures = [];
    const r = col("0.pearson_histogram"), buckets = C["0.pearson_histogram"].shape[1], groups = Math.min(10, C["0.pearson_histogram"].shape[0]);
    const used = Array.from({ length: buckets }, (_, i) => i).filter((i) => Array.from({ length: groups }, (_, c) => r[c * buckets + i]).some((x) => x));
    const from = Math.max(0, Math.min(...used) - 1), to = Math.min(buckets, Math.max(...used) + 2);
    const curves = Array.from({ length: groups }, (_, c) => {
      const own = r.slice(c * buckets, (c + 1) * buckets), total = own.reduce((a, b) => a + b, 0) || 1;
      return { colour: colour(c), points: Array.from({ length: to - from }, (_, i) => [(from + i + 0.5) / 50 - 1, (100 * own[from + i]) / total]) };
    });
    figures.push(figure(t("pearson_by_class"), lines(t("pearson_by_class"), curves, { xLabel: t("pearson"), yLabel: `${t("rows")} (%)` }), null, classes.length ? classes.slice(0, 10).map(([name], c) => [name, colour(c)]) : undefined));
    const density = S[0].density, edges = [...density.map((d) => d[0]), 0], low = Math.max(0, density.findIndex((d) => d[1]));
    figures.push(figure(t("density"), bars(t("density"), edges.slice(low), density.slice(low).map((d) => d[1]), { xLabel: t("log10") + t("frequency"), yLabel: t("features") })));
    for (const [name, log] of [["strength", false], ["score", false], ["delta_sse", true], ["delta_pearson", true]]) {
      const v = alive(0, name).filter((x) => !log || x > 0).map((x) => (log ? Math.log10(x) : x));
      figures.push(figure(t(name), histogram(t(name), v, { xLabel: (log ? t("log10") : "") + t(name), yLabel: t("features") })));
    }
    const h = col("0.histogram"), bins = C["0.histogram"]?.shape[1] ?? 0;
    if (bins) {
      const sum = Array(28).fill(0);
      for (let i = 0; i < h.length; i++) { const b = i % bins; if (b >= 32) sum[Math.floor((b - 32) / 8)] += h[i]; }
      const first = Math.max(0, sum.findIndex((x) => x)), last = sum.length - [...sum].reverse().findIndex((x) => x);
      figures.push(figure(t("values"), bars(t("values"), Array.from({ length: last - first + 1 }, (_, i) => first + i - 16), sum.slice(first, last), { xLabel: `log2 ${t("value")}`, yLabel: t("rows"), yTick: short })));
    }
    section("dist", t("dist"), t("dist_note"), el("div", { class: "figures" }, figures));
  };

  const usage = () => {
    const curves = S.map((s, i) => ({ points: s.usage.curve.map((v, p) => [p, 100 * v]), colour: colour(i) }));
    const a = lines(t("usage_curve"), [...curves, { points: [[0, 0], [100, 100]], colour: "var(--muted)", dash: "4 4" }], { xLabel: `${t("top_features")} (%)`, yLabel: `${t("effect")} (%)` }, [0, 100], [0, 100]);
    const ranked = S.map((_, i) => alive(i, "delta_sse").filter((v) => v > 0).sort((x, y) => y - x)).map((v, i) => ({ colour: colour(i), points: v.map((x, r) => [Math.log10(r + 1), Math.log10(x)]) }));
    const b = lines(t("rank_plot"), ranked, { xLabel: t("log10") + t("rank"), yLabel: t("log10") + t("delta_sse") });
    const legend = S.map((s, i) => [`${t("sae")} ${i} · ${t("gini")} ${fmt(s.usage.gini, 3)}`, colour(i)]);
    section("usage", t("usage"), t("usage_note"), el("div", { class: "figures" }, figure(t("usage_curve"), a, null, [...legend, [t("equal"), "var(--muted)"]]), b ? figure(t("rank_plot"), b, null, legend) : null));
  };

  const classSection = () => {
    const s = S[0];
    if (!s.classes) return;
    const n = classes.length, auc = col("0.class_auc"), q = col("0.q"), mean = col("0.class_mean"), rank = col("0.rank");
    const parts = [];
    const top = Array.from(rank.keys()).sort((a, b) => rank[a] - rank[b]).slice(0, 40);
    // A matrix: classes down, features across, each feature against its largest mean.
    const size = [26, 24], left = 120, names = classes.slice(0, 20).map(([name]) => name);
    const svg = svgEl("svg", { viewBox: `0 0 ${left + top.length * size[0] + 4} ${names.length * size[1] + 46}`, role: "img", "aria-label": t("profile") });
    top.forEach((h, i) => {
      const most = Math.max(...names.map((_, c) => Math.abs(mean[h * n + c]) || 0)) || 1;
      names.forEach((name, c) => {
        const r = svgEl("rect", { x: left + i * size[0], y: c * size[1], width: size[0] - 1, height: size[1] - 1, fill: mean[h * n + c] < 0 ? "var(--c0)" : "var(--warm)", "fill-opacity": Math.min(1, Math.abs(mean[h * n + c]) / most || 0) });
        r.append(svgEl("title", {}, `${t("feature", { h })}, ${t("class")} ${name}: ${fmt(mean[h * n + c])}`));
        svg.append(r);
      });
      const y = names.length * size[1] + 12, label = svgEl("text", { x: left + i * size[0] + size[0] / 2, y, "text-anchor": "end", transform: `rotate(-60 ${left + i * size[0] + size[0] / 2} ${y})` }, String(h));
      svg.append(label);
    });
    names.forEach((name, c) => svg.append(svgEl("text", { x: left - 8, y: c * size[1] + size[1] / 2 + 4, "text-anchor": "end" }, name.length > 16 ? `${name.slice(0, 15)}…` : name)));
    parts.push(figure(t("profile"), svg, t("profile_note")));
    parts.push(el("h3", {}, t("by_class")), table([t("class"), t("rows"), t("pearson"), t("selective")], classes.map(([name, rows], c) => {
      const list = s.classes.selective[c] ?? [];
      return [name, int(rows), fixed(s.class_pearson[c], 3), list.length ? el("span", { class: "chips" }, list.map((h) => el("button", { class: "chip", onclick: () => open(0, h, list), title: `AUC ${fmt(auc[h * n + c], 3)}, q ${fmt(q[h], 3)}` }, `${h} · ${auc[h * n + c].toFixed(2)}`))) : el("span", { class: "empty" }, t("none_selective"))];
    }), "left"));
    parts.push(el("p", { class: "note" }, `${t("silhouette_long")} ${fmt(s.classes.silhouette, 3)}`));
    section("classes", t("classes"), t("classes_note"), ...parts);
  };

  const heat = () => {
    const rows = col("sample.row"), start = col("0.sample_start"), latent = col("0.sample_latent"), value = col("0.sample_value"), rank = col("0.rank");
    if (!rows.length) return;
    const across = Math.min(160, S[0].latents), place = new Map();
    rank.forEach((r, h) => { if (r <= across) place.set(h, r - 1); });
    const high = new Float32Array(across);
    latent.forEach((h, i) => { const p = place.get(h); if (p !== undefined) high[p] = Math.max(high[p], Math.abs(value[i])); });
    const cell = [6, rows.length > 200 ? 2 : 4];
    const canvas = el("canvas", { width: across * cell[0], height: rows.length * cell[1], role: "img", "aria-label": t("heat") }), x = canvas.getContext("2d");
    for (let b = 0; b < rows.length; b++) {
      const c = A.cited[rows[b]].class ?? 0;
      for (let i = start[b]; i < start[b + 1]; i++) {
        const p = place.get(latent[i]);
        if (p === undefined || !high[p]) continue;
        const v = Math.sqrt(Math.abs(value[i]) / high[p]);
        x.fillStyle = getComputedStyle(document.documentElement).getPropertyValue(`--c${c % 10}`);
        x.globalAlpha = 0.12 + 0.88 * v;
        x.fillRect(p * cell[0], b * cell[1], cell[0] - 1, cell[1]);
      }
    }
    const legend = classes.length ? el("div", { class: "legend" }, classes.map(([n], c) => el("span", {}, el("i", { style: `background:${colour(c)}` }), n))) : null;
    section("heat", t("heat"), t("heat_note"), el("div", { class: "heat" }, canvas), legend);
  };

  const pairTable = (s, list) => table(["", t("count"), t("pmi"), t("synergy"), t("cosine")], list.map((p) => [el("span", { class: "chips pair" }, featureButton(s, p.a), featureButton(s, p.b)), int(p.count), fixed(p.pmi, 2), fixed(p.synergy, 4), fixed(p.cosine, 3)]));
  const pairs = () => {
    const p = S[0].pairs;
    const content = p ? el("div", { class: "figures wide" }, ["overlap", "correct", "together", "redundant"].filter((k) => p[k].length).map((k) => el("div", {}, el("h3", {}, t(k)), pairTable(0, p[k].slice(0, 10))))) : el("p", { class: "empty" }, t("no_pairs"));
    section("pairs", t("pairs"), t("pairs_note"), content);
  };

  const ensemble = () => {
    const e = A.ensemble;
    if (!e) return;
    section("ensemble", t("ensemble"), t("ensemble_note"), table(["MMCS", ...S.map((_, j) => `${t("sae")} ${j}`), t("shared"), t("own")],
      S.map((_, i) => [`${t("sae")} ${i}`, ...e.mmcs[i].map((v) => fmt(v, 3)), int(e.shared[i]), int(e.own[i])])));
  };

  const training = () => {
    const m = data.metrics;
    if (m.length < 2 && !S.some((s) => s.history.length > 1)) return;
    const by = (f) => (m[0]?.saes ?? []).map((_, i) => ({ colour: colour(i), points: m.map((l) => [l.step, f(l.saes[i]) ?? NaN]) }));
    const legend = S.length > 1 ? S.map((_, i) => [`${t("sae")} ${i}`, colour(i)]) : undefined;
    const charts = [["loss", (s) => s.loss.total], ["held_pearson", (s) => s.pearson], ["dead", (s) => s.dead_latents]].map(([name, f]) => {
      const svg = lines(t(name), by(f), { xLabel: t("step"), yLabel: t(name) });
      return svg ? figure(t(name), svg, null, legend) : null;
    });
    const moments = S.map((s) => s.history).filter((h) => h.length > 1);
    if (moments.length) {
      const over = (f) => moments.map((h, i) => ({ colour: colour(i), points: h.map((m) => [m.step, f(m) ?? NaN]) }));
      charts.push(figure(t("alive"), lines(t("alive"), over((m) => m.alive), { xLabel: t("step"), yLabel: t("features") }), t("alive_note", { born: int(moments[0].slice(1).reduce((a, m) => a + m.born, 0)), died: int(moments[0].reduce((a, m) => a + m.died, 0)) }), legend));
      const stable = lines(t("stability"), over((m) => m.stability), { xLabel: t("step"), yLabel: "Spearman" });
      if (stable) charts.push(figure(t("stability"), stable, t("stability_note"), legend));
    }
    section("training", t("training"), null, el("div", { class: "figures" }, charts));
  };

  const method = () => {
    const entries = [[t("m_latent"), t("m_latent_t")], [t("frequency"), t("m_frequency_t")], [t("strength"), t("m_strength_t")], [t("score"), t("m_score_t", { a: A.weights[0], b: A.weights[1] })],
      [t("delta_sse"), t("m_sse_t")], [t("delta_pearson"), t("m_pearson_t")], [t("share"), t("m_share_t")], [t("auc"), t("m_auc_t")], ["q", t("m_q_t")], [t("m_probe"), t("m_probe_t")], [t("m_files"), t("m_files_t")]];
    section("method", t("method"), null, el("dl", { class: "method" }, entries.flatMap(([a, b]) => [el("dt", {}, a), el("dd", {}, b)])));
  };

  // ---- the page of a feature --------------------------------------------------------------------------------------
  const dialog = document.getElementById("feature");
  const examples = (s, kind, at) => {
    const rows = col(`${s}.${kind}_row`), value = col(`${s}.${kind}_value`), n = C[`${s}.${kind}_row`].shape[1];
    return Array.from({ length: n }, (_, e) => at * n + e).filter((i) => rows[i] !== 0xffffffff).map((i) => {
      const cited = A.cited[rows[i]], label = cited.class === null || cited.class === undefined ? cited.name : classes[cited.class][0];
      return el("figure", { title: cited.name }, picture("cited", rows[i], false, cited.name), el("div", {}, `${label} · ${fmt(value[i], 3)}`));
    });
  };
  function open(s, h, list) {
    const pictured = Array.from(col(`${s}.pictured`)), at = pictured.indexOf(h), v = (name) => col(`${s}.${name}`)[h];
    const order = list?.length ? list : pictured, here = order.indexOf(h);
    const go = (d) => { const next = order[here + d]; if (next !== undefined) open(s, next, order); };
    const large = C[`${s}.large`] && at >= 0 && at < C[`${s}.large`].n ? picture(`${s}.large`, at, true, t("feature", { h })) : featurePicture(s, h);
    const facts = ["frequency", "strength", "score", "score_scaled", "delta_sse", "delta_pearson", "share", "largest"].map((name) => [t(name), ["frequency", "share"].includes(name) ? pct(v(name), 2) : fmt(v(name), 5)]);
    facts.push([t("norm"), fmt(v("encoder_norm"), 3)], [t("cosine"), fmt(v("cosine"), 3)]);
    const parts = [el("div", { class: "dialog-head" }, large, el("div", { class: "grow" }, el("h2", { id: "feature-title" }, t("feature", { h }) + (S.length > 1 ? ` · ${t("sae")} ${s}` : "")),
      el("p", { class: "note" }, v("count") ? t("rank_of", { r: int(v("rank")), n: int(S[s].latents) }) : t("never")), el("dl", { class: "facts-grid" }, facts.map(([k, x]) => el("div", {}, el("dt", {}, k), el("dd", {}, x))))),
    el("div", { class: "dialog-buttons" }, el("button", { onclick: () => go(-1), disabled: here <= 0 }, t("previous")), el("button", { onclick: () => go(1), disabled: here < 0 || here + 1 >= order.length }, t("next")), el("button", { onclick: () => dialog.close(), autofocus: true }, t("close"))))];
    if (at < 0) parts.push(el("p", { class: "empty" }, t("no_page", { n: int(pictured.length) })));
    else {
      for (const kind of ["top", "random", "near"]) parts.push(el("h3", {}, t(`${kind}_rows`)), el("div", { class: "rows" }, examples(s, kind, at)));
      const bins = C[`${s}.histogram`].shape[1], own = Array.from(col(`${s}.histogram`).slice(at * bins, (at + 1) * bins)).slice(32);
      const first = own.findIndex((x) => x), last = own.length - [...own].reverse().findIndex((x) => x);
      const charts = [];
      if (first >= 0) charts.push(figure(t("histogram"), bars(t("histogram"), Array.from({ length: last - first + 1 }, (_, i) => { const k = first + i; return 2 ** (Math.floor(k / 8) - 16) * (1 + (k % 8) / 8); }), own.slice(first, last), { xLabel: t("value").split(/[(（]/)[0], yLabel: t("rows") })));
      if (S[s].classes) charts.push(el("div", {}, el("h3", {}, t("by_class")), table([t("class"), t("mean"), t("frequency"), t("auc")], classes.map(([name], c) => { const i = h * classes.length + c; return [name, fmt(col(`${s}.class_mean`)[i], 4), pct(col(`${s}.class_frequency`)[i], 2), fmt(col(`${s}.class_auc`)[i], 3)]; })), el("p", { class: "note" }, `q ${fmt(col(`${s}.q`)[h], 4)}`)));
      const steps = col(`${s}.history_step`), past = col(`${s}.history_frequency`), width = S[s].latents;
      if (steps.length > 1) charts.push(figure(t("past"), lines(t("past"), [{ points: Array.from(steps, (x, i) => [x, 100 * past[i * width + h]]) }], { xLabel: t("step"), yLabel: `${t("frequency")} (%)` })));
      parts.push(el("div", { class: "figures" }, charts));
    }
    const company = Object.values(S[s].pairs ?? {}).filter(Array.isArray).flat().filter((p) => p.a === h || p.b === h);
    if (company.length) parts.push(el("h3", {}, t("partners")), pairTable(s, company.slice(0, 8)));
    dialog.replaceChildren(...parts);
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
    dialog.onkeydown = (e) => { if (e.key === "ArrowLeft") go(-1); if (e.key === "ArrowRight") go(1); };
  }
  dialog.addEventListener("click", (e) => { if (e.target === dialog) dialog.close(); });

  summary();
  recons();
  wall();
  dist();
  usage();
  classSection();
  heat();
  pairs();
  ensemble();
  training();
  method();
  document.body.dataset.ready = "true";
})();
