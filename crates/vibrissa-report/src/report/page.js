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
  const classes = data.classes;
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
    const key = `${name} ${signed}`;
    if (!sheets.has(key)) {
      sheets.set(key, (async () => {
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
    return sheets.get(key);
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

  // A row with what the feature sees in it: the product of the two, pixel by pixel, warm where it speaks for the feature and
  // cold where it speaks against.
  const overlaid = (s, at, i, label) => {
    const c = C.cited, canvas = el("canvas", { class: "pic", width: c.width, height: c.height, role: "img", "aria-label": label });
    Promise.all([sheet("cited", false), sheet(`${s}.wall`, false)]).then(([rows, wall]) => {
      const w = C[`${s}.wall`], cut = (from, f, k) => from.getContext("2d").getImageData((k % f.columns) * f.width, Math.floor(k / f.columns) * f.height, f.width, f.height).data;
      const row = cut(rows, c, i), feature = cut(wall, w, at), n = c.width * c.height, product = new Float32Array(n);
      let most = 1e-9;
      for (let p = 0; p < n; p++) {
        for (let k = 0; k < (w.channels === 3 ? 3 : 1); k++) product[p] += (feature[4 * p + k] - 128) * row[4 * p + k];
        most = Math.max(most, Math.abs(product[p]));
      }
      const image = new ImageData(c.width, c.height);
      for (let p = 0; p < n; p++) {
        const grey = 0.3 * row[4 * p] + 0.59 * row[4 * p + 1] + 0.11 * row[4 * p + 2], a = Math.min(1, Math.abs(product[p]) / most) ** 0.7 * 0.85;
        const tone = product[p] > 0 ? [214, 64, 42] : [58, 122, 190];
        for (let k = 0; k < 3; k++) image.data[4 * p + k] = (1 - a) * (40 + 0.7 * grey) + a * tone[k];
        image.data[4 * p + 3] = 255;
      }
      canvas.getContext("2d").putImageData(image, 0, 0);
    });
    return canvas;
  };

  // Of patches: the whole picture with a frame around the patch; with a map also how strong the feature is at every place,
  // each place over the pixels that lie nearest to its middle.
  const P = A.patches;
  const edges = (begins, side, length) => [0, ...begins.slice(1).map((b, j) => (begins[j] + b + side) / 2), length];
  const inPicture = (s, i, map, label) => {
    const c = C.picture, k = Math.max(1, Math.round(168 / c.width));
    const canvas = el("canvas", { class: "pic", width: c.width * k, height: c.height * k, role: "img", "aria-label": label });
    Promise.all([sheet("picture", false), map === undefined ? null : sheet(`${s}.map`, false)]).then(([pictures, maps]) => {
      const x = canvas.getContext("2d"), at = col("cited_picture")[i], [, height, width] = A.pictures;
      const [sx, sy] = [canvas.width / width, canvas.height / height];
      x.imageSmoothingEnabled = false;
      x.drawImage(pictures, (at % c.columns) * c.width, Math.floor(at / c.columns) * c.height, c.width, c.height, 0, 0, canvas.width, canvas.height);
      if (maps) {
        const m = C[`${s}.map`], ys = edges(P.tops, P.height, height), xs = edges(P.lefts, P.width, width);
        const values = maps.getContext("2d").getImageData((map % m.columns) * m.width, Math.floor(map / m.columns) * m.height, m.width, m.height).data;
        x.fillStyle = "rgba(40, 40, 40, 0.35)";
        x.fillRect(0, 0, canvas.width, canvas.height);
        for (let r = 0; r < m.height; r++) for (let q = 0; q < m.width; q++) {
          x.fillStyle = `rgba(224, 70, 36, ${((0.85 * values[4 * (r * m.width + q)]) / 255).toFixed(3)})`;
          const [left, top] = [Math.round(xs[q] * sx), Math.round(ys[r] * sy)];
          x.fillRect(left, top, Math.round(xs[q + 1] * sx) - left, Math.round(ys[r + 1] * sy) - top);
        }
      }
      const [top, left] = A.cited[i].place;
      for (const [style, wide] of [["#000", 4], ["#ffd84a", 2]]) {
        [x.strokeStyle, x.lineWidth] = [style, wide];
        x.strokeRect(left * sx, top * sy, P.width * sx, P.height * sy);
      }
    });
    return canvas;
  };

  // The picture of a feature; those that are never used have none.
  const places = new Map();
  const wallPlace = (s, h) => {
    if (!places.has(s)) places.set(s, new Map(Array.from(col(`${s}.wall_of`), (latent, i) => [latent, i])));
    return places.get(s).get(h);
  };
  const featurePicture = (s, h) => {
    const at = wallPlace(s, h), label = t("feature", { h });
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
  const short = (v) => (v !== 0 && Math.abs(v) < 1e-3 ? v.toExponential(0) : String(+v.toPrecision(4)));
  const frame = (title, x, y, { xLabel, yLabel, xTick = short, yTick = short, width = W, height = H }) => {
    const svg = svgEl("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title });
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
      r.append(svgEl("title", {}, `${short(edges[i])} – ${short(edges[i + 1])}: ${fmt(n, 1)}`));
      svg.append(r);
    });
    return svg;
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
  // Figures are drawn by the program: the same as in the files beside this page.
  const figuresOf = (id) => data.figures.filter((f) => f.section === id).map((f) => {
    const box = el("div", { class: "svg" });
    box.innerHTML = f.svg;
    return el("figure", { id: `figure-${f.name}` }, box, f.note ? el("figcaption", {}, f.note) : null);
  });
  const table = (head, rows, kind) => el("div", { class: "scroll" }, el("table", { class: kind }, el("thead", {}, el("tr", {}, head.map((h) => el("th", { scope: "col" }, h)))),
    el("tbody", {}, rows.map((r) => el("tr", {}, r.map((c) => el("td", {}, c)))))));
  const featureButton = (s, h) => el("button", { class: "chip", onclick: () => open(s, h) }, String(h));
  const S = A.saes;

  document.title = t("title", { run: A.run });
  document.getElementById("title").textContent = document.title;
  document.getElementById("skip").textContent = t("skip");
  document.getElementById("subtitle").textContent = data.subtitle;

  const summary = () => {
    const parts = [el("div", { class: "cards" }, data.cards.map(([b, l]) => el("div", { class: "card" }, el("b", {}, b), el("span", {}, l)))),
      el("ul", { class: "facts" }, data.facts.map((f) => el("li", {}, f)))];
    const m = data.measured;
    if (m) parts.push(el("h3", {}, m.title), table(m.head, m.rows));
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

  const dist = () => section("dist", t("dist"), t("dist_note"), el("div", { class: "figures" }, figuresOf("dist")));
  const usage = () => section("usage", t("usage"), t("usage_note"), el("div", { class: "figures" }, figuresOf("usage")));

  const classSection = () => {
    const s = S[0];
    if (!s.classes) return;
    const n = classes.length, auc = col("0.class_auc"), q = col("0.q");
    const parts = [el("div", { class: "figures one" }, figuresOf("classes"))];
    parts.push(el("h3", {}, t("by_class")), table([t("class"), t("rows"), t("pearson"), t("selective")], classes.map(([name, rows], c) => {
      const list = s.classes.selective[c] ?? [];
      return [name, int(rows), fixed(s.class_pearson[c], 3), list.length ? el("span", { class: "chips" }, list.map((h) => el("button", { class: "chip", onclick: () => open(0, h, list), title: `AUC ${fmt(auc[h * n + c], 3)}, q ${fmt(q[h], 3)}` }, `${h} · ${auc[h * n + c].toFixed(2)}`))) : el("span", { class: "empty" }, t("none_selective"))];
    }), "left"));
    parts.push(el("p", { class: "note" }, `${t("silhouette_long")} ${fmt(s.classes.silhouette, 3)}`));
    section("classes", t("classes"), t("classes_note"), ...parts);
  };

  const heat = () => {
    const figures = figuresOf("heat");
    if (figures.length) section("heat", t("heat"), null, el("div", { class: "figures one" }, figures));
  };

  const pairTable = (s, list) => table(["", t("count"), t("pmi"), t("synergy"), t("cosine")], list.map((p) => [el("span", { class: "chips pair" }, featureButton(s, p.a), featureButton(s, p.b)), int(p.count), fixed(p.pmi, 2), fixed(p.synergy, 4), fixed(p.cosine, 3)]));
  const pairs = () => {
    const p = S[0].pairs;
    const content = p ? el("div", { class: "figures wide" }, ["overlap", "correct", "together", "redundant"].filter((k) => p[k].length).map((k) => el("div", {}, el("h3", {}, t(k)), pairTable(0, p[k].slice(0, 10))))) : el("p", { class: "empty" }, t("no_pairs"));
    const groups = p?.groups ?? [];
    section("pairs", t("pairs"), t("pairs_note"), content, groups.length ? el("div", {}, el("h3", {}, t("groups")), el("p", { class: "note" }, t("groups_note")),
      el("div", { class: "groups" }, groups.map((g) => el("div", { class: "group" },
        el("div", { class: "t" }, `${t("n_features", { n: int(g.latents.length) })} · ${t("npmi")} ${fixed(g.npmi, 2)} · ${t("cosine_size")} ${fixed(g.cosine, 2)} · ${t("share")} ${pct(g.share, 2)}`),
        el("div", { class: "members" }, g.latents.slice(0, 12).map((h) => el("button", { class: "tile", onclick: () => open(0, h, g.latents) }, featurePicture(0, h), el("span", { class: "n" }, String(h))))),
        g.latents.length > 12 ? el("div", { class: "note" }, t("and_more", { n: int(g.latents.length - 12) })) : null)))) : null);
  };

  const ensemble = () => {
    const e = A.ensemble;
    if (!e) return;
    const mcc = (i, j) => fixed(e.mcc.find((m) => m[0] === Math.min(i, j) && m[1] === Math.max(i, j))?.[2], 3);
    section("ensemble", t("ensemble"), t("ensemble_note"), el("div", { class: "figures one" }, figuresOf("ensemble"),
      el("div", {}, table(["MCC", ...S.map((_, j) => `${t("sae")} ${j}`), t("shared"), t("own")],
        S.map((_, i) => [`${t("sae")} ${i}`, ...S.map((__, j) => (i === j ? "" : mcc(i, j))), int(e.shared[i]), int(e.own[i])])))));
  };

  const named = (m) => (m.levels.length === 2 ? `${m.column} (${m.levels[0]} → ${m.levels[1]})` : m.column);
  const metadata = () => {
    const known = A.metadata ?? [];
    if (!known.length) return;
    section("metadata", t("metadata"), t("metadata_note"), table([t("column"), t("rows"), t("related_features"), t("strongest"), t("with_classes")], known.map((m) => {
      const own = m.saes[0];
      if (!own) return [m.column, "–", "–", el("span", { class: "empty" }, `${t("left_out")} ${m.left_out}`), "–"];
      const chips = own.top.length ? el("span", { class: "chips" }, own.top.map(([h, effect, q]) => el("button", { class: "chip", onclick: () => open(0, h, own.top.map((x) => x[0])), title: `q ${fmt(q, 4)}` }, `${h} · ${effect > 0 ? "+" : "−"}${Math.abs(effect).toFixed(2)}`))) : el("span", { class: "empty" }, t("none_related"));
      const same = el("span", { class: m.with_classes > 0.5 ? "warn" : "" }, fixed(m.with_classes, 2));
      return [m.levels.length ? el("span", { title: m.levels.join(", ") }, named(m)) : m.column, int(m.rows), int(own.significant), chips, same];
    }), "left"));
  };

  const plain = (id, note) => {
    const figures = figuresOf(id);
    if (figures.length) section(id, t(id), note, el("div", { class: "figures" }, figures));
  };

  const method = () => {
    section("method", t("method"), null, el("dl", { class: "method" }, data.method.flatMap(([a, b]) => [el("dt", {}, a), el("dd", {}, b)])));
  };

  // ---- the page of a feature --------------------------------------------------------------------------------------
  const dialog = document.getElementById("feature");
  let overlay = true;
  const examples = (s, kind, at, tile) => {
    const rows = col(`${s}.${kind}_row`), value = col(`${s}.${kind}_value`), n = C[`${s}.${kind}_row`].shape[1];
    return Array.from({ length: n }, (_, e) => at * n + e).filter((i) => rows[i] !== 0xffffffff).map((i) => {
      const cited = A.cited[rows[i]], label = cited.class === null || cited.class === undefined ? cited.name : classes[cited.class][0];
      const said = el("div", {}, `${label} · ${fmt(value[i], 3)}`);
      if (P) {
        const map = overlay && kind === "top" && i < (C[`${s}.map`]?.n ?? 0) ? i : undefined, patch = picture("cited", rows[i], false, t("patch"));
        patch.classList.add("patch");
        return el("figure", { title: `${cited.name} · ${cited.place[1]}, ${cited.place[0]}` }, inPicture(s, rows[i], map, cited.name), patch, said);
      }
      const shown = overlay && tile !== undefined ? overlaid(s, tile, rows[i], cited.name) : picture("cited", rows[i], false, cited.name);
      return el("figure", { title: cited.name }, shown, said);
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
      const tile = C.cited?.png ? wallPlace(s, h) : undefined;
      if (tile !== undefined) parts.push(el("label", { class: "overlay" }, el("input", { type: "checkbox", id: "overlay", checked: overlay, onchange: (e) => { overlay = e.target.checked; open(s, h, list); } }), t(P ? "overlay_map" : "overlay")));
      for (const kind of ["top", "random", "near"]) parts.push(el("h3", {}, t(`${kind}_rows`)), el("div", { class: P ? "rows wide" : "rows" }, examples(s, kind, at, tile)));
      const bins = C[`${s}.histogram`].shape[1], own = Array.from(col(`${s}.histogram`).slice(at * bins, (at + 1) * bins)).slice(32);
      const first = own.findIndex((x) => x), last = own.length - [...own].reverse().findIndex((x) => x);
      const charts = [];
      // Eight bins an octave, so wider ones further out: heights are by width.
      const edge = (k, wide) => 2 ** (Math.floor(k / 8) - 16) * (wide ? 1 / 8 : 1 + (k % 8) / 8);
      if (first >= 0) charts.push(figure(t("histogram"), bars(t("histogram"), Array.from({ length: last - first + 1 }, (_, i) => edge(first + i)), own.slice(first, last).map((n, i) => n / edge(first + i, true)), { xLabel: t("value").split(/[(（]/)[0], yLabel: t("per_unit") })));
      if (S[s].classes) charts.push(el("div", {}, el("h3", {}, t("by_class")), table([t("class"), t("mean"), t("difference"), t("frequency"), t("auc")], classes.map(([name], c) => { const i = h * classes.length + c; return [name, fmt(col(`${s}.class_mean`)[i], 4), fmt(col(`${s}.class_difference`)[i], 4), pct(col(`${s}.class_frequency`)[i], 2), fmt(col(`${s}.class_auc`)[i], 3)]; })), el("p", { class: "note" }, `q ${fmt(col(`${s}.q`)[h], 4)}`)));
      const steps = col(`${s}.history_step`), past = col(`${s}.history_frequency`), width = S[s].latents;
      if (steps.length > 1) charts.push(figure(t("past"), lines(t("past"), [{ points: Array.from(steps, (x, i) => [x, 100 * past[i * width + h]]) }], { xLabel: t("step"), yLabel: `${t("frequency")} (%)` })));
      parts.push(el("div", { class: "figures" }, charts));
    }
    const told = at < 0 ? [] : (A.metadata ?? []).map((m, j) => [named(m), col(`${s}.metadata.${j}.effect`)[at], col(`${s}.metadata.${j}.q`)[at]]).filter((m) => Number.isFinite(m[2]));
    if (told.length) parts.push(el("h3", {}, t("metadata")), table([t("column"), t("effect_size"), "q"], told.map(([name, effect, q]) => [name, fixed(effect, 3), fmt(q, 4)])));
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
  metadata();
  ensemble();
  plain("pruning", t("pruning_note"));
  plain("training", null);
  method();
  document.body.dataset.ready = "true";
})();
