// The dialog of a single feature.

const dialog = document.getElementById("feature");
// True if example rows are shown with an overlay; a choice that stays from feature to feature.
let showOverlay = true;

// Opens a feature; `list` holds the features that "previous" and "next" go through.
function openFeature(sae, latent, list) {
  const detailed = Array.from(column(`${sae}.pictured`));
  const order = list?.length ? list : detailed;
  const here = order.indexOf(latent);
  const go = (step) => {
    const next = order[here + step];
    if (next !== undefined) openFeature(sae, next, order);
  };
  const button = (label, onclick, attributes) => element("button", { onclick, ...attributes }, label);
  const buttons = [
    button(t("previous"), () => go(-1), { disabled: here <= 0 }),
    button(t("next"), () => go(1), { disabled: here < 0 || here + 1 >= order.length }),
    button(t("close"), () => dialog.close(), { autofocus: true }),
  ];
  // The place of the feature among those with example rows, or −1.
  const place = detailed.indexOf(latent);
  const parts = [featureHead(sae, latent, place, buttons)];
  if (place < 0) parts.push(element("p", { class: "empty" }, t("no_examples", { n: formatCount(detailed.length) })));
  else
    parts.push(
      ...featureExamples(sae, latent, place, list),
      element("div", { class: "figures" }, featureCharts(sae, latent, place)),
    );
  parts.push(...featureMetadata(sae, place), ...featurePartners(sae, latent));
  dialog.replaceChildren(...parts);
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  dialog.onkeydown = (event) => {
    if (event.key === "ArrowLeft") go(-1);
    if (event.key === "ArrowRight") go(1);
  };
}
dialog.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close();
});

const featureHead = (sae, latent, place, buttons) => {
  const value = (name) => column(`${sae}.${name}`)[latent];
  const measures = ["frequency", "strength", "score", "score_scaled", "delta_sse", "delta_pearson", "share", "largest"];
  const facts = measures.map((name) => {
    const percent = ["frequency", "share"].includes(name);
    return [t(name), percent ? formatPercent(value(name), 2) : formatNumber(value(name), 5)];
  });
  facts.push(
    [t("encoder_norm"), formatNumber(value("encoder_norm"), 3)],
    [t("cosine"), formatNumber(value("cosine"), 3)],
  );
  const large = imageColumn(`${sae}.large`);
  const label = t("feature", { h: latent });
  const image =
    large && place >= 0 && place < large.n
      ? imageCanvas(`${sae}.large`, place, true, label)
      : featureImage(sae, latent);
  const rank = { r: formatCount(value("rank")), n: formatCount(saes[sae].latents) };
  return element(
    "div",
    { class: "dialog-head" },
    image,
    element(
      "div",
      { class: "grow" },
      element("h2", { id: "feature-title" }, label + (saes.length > 1 ? ` · ${saeName(sae)}` : "")),
      note(value("count") ? t("rank_of", rank) : t("never")),
      element(
        "dl",
        { class: "facts-grid" },
        facts.map(([name, text]) => element("div", {}, element("dt", {}, name), element("dd", {}, text))),
      ),
    ),
    element("div", { class: "dialog-buttons" }, buttons),
  );
};

// Rows where the feature is most active, random active rows, and rows where it is least active.
const featureExamples = (sae, latent, place, list) => {
  const parts = [];
  const tile = imageColumn("cited") ? tileOf(sae, latent) : undefined;
  if (tile !== undefined) {
    const onchange = (event) => {
      showOverlay = event.target.checked;
      openFeature(sae, latent, list);
    };
    const box = element("input", { type: "checkbox", id: "overlay", checked: showOverlay, onchange });
    parts.push(element("label", { class: "overlay" }, box, t(patches ? "overlay_map" : "overlay")));
  }
  for (const kind of ["top", "random", "near"]) {
    const rows = element("div", { class: patches ? "rows wide" : "rows" }, exampleRows(sae, kind, place, tile));
    parts.push(heading(t(`${kind}_rows`)), rows);
  }
  return parts;
};

const exampleRows = (sae, kind, place, tile) => {
  const NONE = 0xffffffff;
  const [rows, values] = [column(`${sae}.${kind}_row`), column(`${sae}.${kind}_value`)];
  const n = data.columns[`${sae}.${kind}_row`].shape[1];
  const entries = Array.from({ length: n }, (_, e) => place * n + e).filter((i) => rows[i] !== NONE);
  return entries.map((i) => {
    const cited = analysis.cited[rows[i]];
    const caption = element("div", {}, `${className(cited.class) || cited.name} · ${formatNumber(values[i], 3)}`);
    if (patches) {
      const hasMap = showOverlay && kind === "top" && i < (imageColumn(`${sae}.map`)?.n ?? 0);
      const patch = imageCanvas("cited", rows[i], false, t("patch"));
      patch.classList.add("patch");
      const title = `${cited.name} · ${cited.place[1]}, ${cited.place[0]}`;
      return element(
        "figure",
        { title },
        imageWithPatch(sae, rows[i], hasMap ? i : undefined, cited.name),
        patch,
        caption,
      );
    }
    const overlaid = showOverlay && tile !== undefined;
    const image = overlaid
      ? matchOverlay(sae, tile, rows[i], cited.name)
      : imageCanvas("cited", rows[i], false, cited.name);
    return element("figure", { title: cited.name }, image, caption);
  });
};

// The distribution of the feature's values, its relation to the classes, and its frequency during training.
const featureCharts = (sae, latent, place) => {
  const charts = [];
  const { negative } = analysis.histograms.activation;
  const bins = data.columns[`${sae}.histogram`].shape[1];
  const counts = Array.from(column(`${sae}.histogram`).slice(place * bins + negative, (place + 1) * bins));
  const first = counts.findIndex((n) => n);
  if (first >= 0) {
    const last = counts.findLastIndex((n) => n);
    const edges = data.activation_edges.slice(first, last + 2);
    // Bins are wider further out: heights are counts per width.
    const heights = counts.slice(first, last + 1).map((n, i) => n / (edges[i + 1] - edges[i]));
    const title = t("histogram");
    charts.push(figure(title, barChart(title, edges, heights, t("axis_own_value"), t("axis_per_unit"))));
  }
  if (saes[sae].classes) {
    const row = ([name], c) => {
      const value = (measure) => column(`${sae}.class_${measure}`)[latent * classes.length + c];
      return [
        name,
        formatNumber(value("mean"), 4),
        formatNumber(value("difference"), 4),
        formatPercent(value("frequency"), 2),
        formatNumber(value("auc"), 3),
      ];
    };
    const head = [t("class"), t("mean"), t("difference"), t("frequency"), t("auc")];
    const q = note(t("q_value", { q: formatNumber(column(`${sae}.q`)[latent], 4) }));
    charts.push(element("div", {}, heading(t("by_class")), table(head, classes.map(row)), q));
  }
  const [steps, past] = [column(`${sae}.history_step`), column(`${sae}.history_frequency`)];
  if (steps.length > 1) {
    const points = Array.from(steps, (step, i) => [step, 100 * past[i * saes[sae].latents + latent]]);
    const title = t("past");
    charts.push(figure(title, lineChart(title, [{ points }], t("axis_step"), t("axis_frequency_percent"))));
  }
  return charts;
};

const featureMetadata = (sae, place) => {
  if (place < 0) return [];
  const related = (analysis.metadata ?? [])
    .map((m, j) => [
      metadataName(m),
      column(`${sae}.metadata.${j}.effect`)[place],
      column(`${sae}.metadata.${j}.q`)[place],
    ])
    .filter(([, , q]) => Number.isFinite(q))
    .map(([name, effect, q]) => [name, formatFixed(effect, 3), formatNumber(q, 4)]);
  return related.length ? [heading(t("section_metadata")), table([t("column"), t("effect_size"), "q"], related)] : [];
};

const featurePartners = (sae, latent) => {
  const lists = Object.values(saes[sae].pairs ?? {}).filter(Array.isArray);
  const partners = lists.flat().filter((pair) => pair.a === latent || pair.b === latent);
  return partners.length ? [heading(t("partners")), pairTable(sae, partners.slice(0, 8))] : [];
};
