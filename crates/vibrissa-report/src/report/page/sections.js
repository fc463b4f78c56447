// The content of each section. Their order, titles and notes come from the list in report/sections.rs. A function
// returns the children of its section, or null where there is nothing to show.

const figuresOf = (section) =>
  data.figures
    .filter((f) => f.section === section)
    .map((f) => {
      const drawing = element("div", { class: "svg" });
      drawing.innerHTML = f.svg;
      const note = f.note ? element("figcaption", {}, f.note) : null;
      return element("figure", { id: `figure-${f.name}` }, drawing, note);
    });

// The figures of a section, in columns (`kind` ""), or each as wide as the page ("one").
const figureGrid = (section, kind = "") => {
  const figures = figuresOf(section);
  return figures.length ? [element("div", { class: `figures ${kind}` }, figures)] : null;
};

const note = (content) => element("p", { class: "note" }, content);
const emptyNote = (content) => element("span", { class: "empty" }, content);
const heading = (content) => element("h3", {}, content);
const saeName = (sae) => `${t("sae")} ${sae}`;

const featureTile = (sae, latent, list, ...below) =>
  element(
    "button",
    { class: "tile", "data-latent": latent, onclick: () => openFeature(sae, latent, list) },
    featureImage(sae, latent),
    element("span", { class: "n" }, String(latent)),
    ...below,
  );

const pairTable = (sae, pairs) =>
  table(
    [t("pair"), t("coactive_rows"), t("pmi"), t("synergy"), t("cosine")],
    pairs.map((pair) => [
      element("span", { class: "chips pair" }, featureChip(sae, pair.a), featureChip(sae, pair.b)),
      formatCount(pair.count),
      formatFixed(pair.pmi, 2),
      formatFixed(pair.synergy, 4),
      formatFixed(pair.cosine, 3),
    ]),
  );

// The name of a column of metadata, with its two levels in the order that the sign of the effect refers to.
const metadataName = ({ column: name, levels }) =>
  levels.length === 2 ? `${name} (${levels[0]} → ${levels[1]})` : name;

const sections = {
  summary() {
    const card = ([value, label]) =>
      element("div", { class: "card" }, element("b", {}, value), element("span", {}, label));
    const { cards, facts, scores } = data;
    return [
      element("div", { class: "cards" }, cards.map(card)),
      element(
        "ul",
        { class: "facts" },
        facts.map((fact) => element("li", {}, fact)),
      ),
      ...(scores ? [heading(scores.title), table(scores.head, scores.rows)] : []),
    ];
  },

  reconstructions() {
    const list = saes[0].reconstructions;
    if (!list.length) return null;
    const shown = (name, i, label) => element("div", {}, imageCanvas(name, i, false, label), element("br"), label);
    const images = (i) =>
      element(
        "div",
        { class: "pair" },
        shown("0.recon_original", i, t("original")),
        shown("0.recon", i, t("reconstruction")),
      );
    const profiles = (i) => {
      const width = data.columns["0.recon"].shape[1];
      const points = (name) => Array.from(column(name).slice(i * width, (i + 1) * width)).map((v, j) => [j, v]);
      const series = [
        { points: points("0.recon_original"), colour: "var(--muted)" },
        { points: points("0.recon"), colour: "var(--warm)" },
      ];
      return lineChart(t("section_reconstructions"), series, t("column_number"), t("value"));
    };
    const card = (r, i) => {
      const cited = analysis.cited[r.cited];
      const name = className(cited.class);
      const title = `${name ? `${t("class")} ${name} · ` : ""}${t(r.rank)} · r ${formatNumber(r.pearson, 3)}`;
      return element(
        "div",
        { class: "reconstruction" },
        element("div", { class: "t" }, title),
        element("div", { class: "note" }, cited.name),
        imageColumn("0.recon") ? images(i) : profiles(i),
        element(
          "div",
          { class: "chips" },
          r.active.map(([h, v]) => featureChip(0, h, String(h), formatNumber(v))),
        ),
      );
    };
    return [element("div", { class: "reconstructions" }, list.map(card))];
  },

  features() {
    const measures = [
      "score",
      "score_scaled",
      "frequency",
      "strength",
      "delta_sse",
      "delta_pearson",
      "share",
      "largest",
    ];
    if (saes[0].classes) measures.push("information");
    if (analysis.ensemble) measures.push("best_partner");
    measures.push("index");
    const state = { sae: 0, by: "score", show: "all", shown: 0, list: [] };

    const grid = element("div", { class: "grid" });
    const status = element("p", { class: "note", "aria-live": "polite" });
    const more = element("button", { class: "more", onclick: () => showMore() });
    const valueText = (latent) => {
      if (state.by === "index") return "";
      const value = column(`${state.sae}.${state.by}`)[latent];
      return ["frequency", "share"].includes(state.by) ? formatPercent(value, 2) : formatNumber(value, 4);
    };
    const tile = (latent) =>
      featureTile(state.sae, latent, state.list, element("span", { class: "v" }, valueText(latent)));
    const showMore = () => {
      const next = state.list.slice(state.shown, state.shown + 200);
      grid.append(...next.map(tile));
      state.shown += next.length;
      const remaining = Math.min(200, state.list.length - state.shown);
      more.textContent = t("more", { n: remaining });
      more.hidden = remaining <= 0;
      status.textContent = t("shown", { a: formatCount(state.shown), b: formatCount(state.list.length) });
    };
    const refill = () => {
      const count = column(`${state.sae}.count`);
      let list = Array.from(count.keys()).filter((h) => (state.show === "dead" ? !count[h] : count[h]));
      if (state.show.startsWith("class:")) {
        const c = +state.show.slice(6);
        const [auc, q] = [column(`${state.sae}.class_auc`), column(`${state.sae}.q`)];
        list = list.filter((h) => q[h] < 0.05 && auc[h * classes.length + c] >= 0.7);
      }
      if (state.by !== "index") {
        const values = column(`${state.sae}.${state.by}`);
        const key = (h) => (Number.isFinite(values[h]) ? values[h] : -Infinity);
        list.sort((a, b) => key(b) - key(a) || a - b);
      }
      Object.assign(state, { list, shown: 0 });
      grid.replaceChildren();
      showMore();
    };

    const select = (label, id, options, change) => {
      const onchange = (event) => {
        change(event.target.value);
        refill();
      };
      const choices = options.map(([value, name]) => element("option", { value }, name));
      return element("label", {}, label, element("select", { id, onchange }, choices));
    };
    const ofClass = classes.map(([name], c) => [`class:${c}`, t("of_class", { c: name })]);
    const shown = [["all", t("not_dead")], ...(saes[0].classes ? ofClass : []), ["dead", t("dead_only")]];
    const open = (event) => {
      const latent = +event.target.value;
      if (event.target.value !== "" && latent >= 0 && latent < saes[state.sae].latents) {
        openFeature(state.sae, latent, state.list);
      }
    };
    const input = { id: "features-search", type: "number", min: 0, max: saes[0].latents - 1, onchange: open };
    const controls = element("div", { class: "controls" });
    if (saes.length > 1) {
      const options = saes.map((_, i) => [i, saeName(i)]);
      controls.append(select(t("sae"), "features-sae", options, (value) => (state.sae = +value)));
    }
    controls.append(
      select(
        t("sort"),
        "features-sort",
        measures.map((m) => [m, t(m)]),
        (value) => (state.by = value),
      ),
      select(t("show"), "features-show", shown, (value) => (state.show = value)),
      element("label", {}, t("search"), element("input", input)),
    );
    refill();
    return [controls, colourScale(), status, grid, element("p", {}, more)];
  },

  distributions: () => figureGrid("distributions"),

  contributions: () => figureGrid("contributions"),

  classes() {
    const { classes: found, class_pearson: pearson } = saes[0];
    if (!found) return null;
    const [auc, q] = [column("0.class_auc"), column("0.q")];
    const chip = (latent, c, list) => {
      const value = auc[latent * classes.length + c];
      const title = `AUC ${formatNumber(value, 3)}, q ${formatNumber(q[latent], 3)}`;
      return featureChip(0, latent, `${latent} · ${value.toFixed(2)}`, title, list);
    };
    const row = ([name, rows], c) => {
      const list = found.selective[c] ?? [];
      const chips = list.length
        ? element(
            "span",
            { class: "chips" },
            list.map((latent) => chip(latent, c, list)),
          )
        : emptyNote(t("none_selective"));
      return [name, formatCount(rows), formatFixed(pearson[c], 3), chips];
    };
    return [
      ...(figureGrid("classes", "one") ?? []),
      heading(t("by_class")),
      table([t("class"), t("rows"), t("pearson"), t("selective")], classes.map(row), "left"),
      note(`${t("silhouette")} ${formatNumber(found.silhouette, 3)}`),
    ];
  },

  activations: () => figureGrid("activations", "one"),

  coactivation() {
    const pairs = saes[0].pairs;
    if (!pairs) return [element("p", { class: "empty" }, t("no_pairs"))];
    const lists = ["overlap", "correct", "together", "redundant"].filter((kind) => pairs[kind].length);
    const tables = lists.map((kind) => element("div", {}, heading(t(kind)), pairTable(0, pairs[kind].slice(0, 10))));
    const group = ({ latents, npmi, cosine, share }) => {
      const said = [
        t("n_features", { n: formatCount(latents.length) }),
        `${t("npmi")} ${formatFixed(npmi, 2)}`,
        `${t("mean_abs_cosine")} ${formatFixed(cosine, 2)}`,
        `${t("share")} ${formatPercent(share, 2)}`,
      ];
      const rest = latents.length - 12;
      return element(
        "div",
        { class: "group" },
        element("div", { class: "t" }, said.join(" · ")),
        element(
          "div",
          { class: "members" },
          latents.slice(0, 12).map((latent) => featureTile(0, latent, latents)),
        ),
        rest > 0 ? element("div", { class: "note" }, t("and_more", { n: formatCount(rest) })) : null,
      );
    };
    const groups = pairs.groups ?? [];
    return [
      element("div", { class: "figures wide" }, tables),
      ...(groups.length
        ? [heading(t("groups")), note(t("note_groups")), element("div", { class: "groups" }, groups.map(group))]
        : []),
    ];
  },

  metadata() {
    const known = analysis.metadata ?? [];
    if (!known.length) return null;
    const row = (m) => {
      const [first] = m.saes;
      if (!first) return [m.column, "–", "–", emptyNote(`${t("left_out")} ${m.left_out}`), "–"];
      const list = first.top.map(([latent]) => latent);
      const chip = ([latent, effect, q]) => {
        const label = `${latent} · ${effect > 0 ? "+" : "−"}${Math.abs(effect).toFixed(2)}`;
        return featureChip(0, latent, label, `q ${formatNumber(q, 4)}`, list);
      };
      return [
        m.levels.length ? element("span", { title: m.levels.join(", ") }, metadataName(m)) : m.column,
        formatCount(m.rows),
        formatCount(first.significant),
        list.length ? element("span", { class: "chips" }, first.top.map(chip)) : emptyNote(t("none_related")),
        element("span", { class: m.with_classes > 0.5 ? "warn" : "" }, formatFixed(m.with_classes, 2)),
      ];
    };
    const head = [t("column"), t("rows"), t("related_features"), t("strongest"), t("with_classes")];
    return [table(head, known.map(row), "left")];
  },

  ensemble() {
    const found = analysis.ensemble;
    if (!found) return null;
    const mcc = (i, j) => {
      const entry = found.mcc.find(([a, b]) => a === Math.min(i, j) && b === Math.max(i, j));
      return i === j ? "" : formatFixed(entry?.[2], 3);
    };
    const names = saes.map((_, i) => saeName(i));
    const row = (name, i) => [
      name,
      ...names.map((_, j) => mcc(i, j)),
      formatCount(found.shared[i]),
      formatCount(found.own[i]),
    ];
    const matches = table(["MCC", ...names, t("shared"), t("unique")], names.map(row));
    return [element("div", { class: "figures one" }, figuresOf("ensemble"), element("div", {}, matches))];
  },

  pruning: () => figureGrid("pruning"),

  training: () => figureGrid("training"),

  method() {
    const entries = data.method.flatMap(([name, meaning]) => [element("dt", {}, name), element("dd", {}, meaning)]);
    return [element("dl", { class: "method" }, entries)];
  },
};

// The legend of the colours of the tiles; null where rows are not images.
const colourScale = () => {
  const images = imageColumn("0.wall");
  if (!images) return data.columns["0.wall"] ? element("span", { class: "scale" }, t("scale_colour")) : null;
  if (images.channels !== 1) return element("span", { class: "scale" }, t("scale_colour"));
  const canvas = element("canvas", { width: 160, height: 1 });
  const context = canvas.getContext("2d");
  for (let x = 0; x < 160; x++) {
    const at = Math.round((x / 159) * 254 + 1) * 3;
    context.fillStyle = `rgb(${divergingColours.slice(at, at + 3).join()})`;
    context.fillRect(x, 0, 1, 1);
  }
  return element("span", { class: "scale" }, "−max", canvas, "+max · ", t("scale_signed"));
};
