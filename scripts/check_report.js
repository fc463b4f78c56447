// Opens a report in headless Chromium and uses its controls. Exits 1 if one does not work.
//
// usage: node check_report.js REPORT.html [SCREENSHOTS]     needs playwright-core (npm) and chromium (path in CHROMIUM)
"use strict";
const path = require("path");
const { check, use } = require("./browser.js");

const [file, shots] = process.argv.slice(2);
use(file, async (page, took) => {
  check(took < 2000, `opens in ${took} ms, under 2 s`);
  const sections = await page.$$eval("section", (all) => all.map((s) => s.id));
  for (const id of ["summary", "features", "distributions", "contributions", "activations", "coactivation", "method"]) check(sections.includes(id), `has the section ${id}`);
  if (shots) {
    await page.waitForTimeout(500);
    await page.addStyleTag({ content: "nav { position: static !important; }" });
    for (const id of sections) await (await page.$(`#${id}`)).screenshot({ path: path.join(shots, `${id}.png`) });
  }

  const tiles = () => page.$$eval("#features .tile", (all) => all.map((t) => [+t.dataset.latent, parseFloat(t.querySelector(".v").textContent.replace(/,/g, ""))]));
  for (const by of ["score", "frequency", "delta_sse"]) {
    await page.selectOption("#features-sort", by);
    const values = (await tiles()).map((t) => t[1]).filter((v) => !Number.isNaN(v));
    check(values.length > 0 && values.every((v, i) => i === 0 || v <= values[i - 1] + 1e-3 * Math.abs(values[i - 1])), `sorts by ${by}`);
  }
  await page.selectOption("#features-sort", "index");
  const order = (await tiles()).map((t) => t[0]);
  check(order.every((h, i) => i === 0 || h > order[i - 1]), "sorts by index");
  const options = await page.$$eval("#features-show option", (all) => all.map((o) => o.value));
  const all = (await tiles()).length;
  for (const value of options.filter((o) => o.startsWith("class:")).slice(0, 2)) {
    await page.selectOption("#features-show", value);
    check((await tiles()).length <= all, `filters by ${value}`);
  }
  await page.selectOption("#features-show", "all");
  await page.selectOption("#features-sort", "score");

  await page.click("#features .tile");
  const title = () => page.$eval("#feature-title", (h) => h.textContent);
  const first = await title();
  check(await page.$eval("#feature", (d) => d.open), `opens a feature: ${first}`);
  if (shots) {
    await page.waitForTimeout(300);
    await page.screenshot({ path: path.join(shots, "feature.png") });
  }
  await page.keyboard.press("ArrowRight");
  check((await title()) !== first, `goes to the next by key: ${await title()}`);
  await page.keyboard.press("Escape");
  check(!(await page.$eval("#feature", (d) => d.open)), "closes by key");
  const searched = order[Math.min(3, order.length - 1)];
  await page.fill("#features-search", String(searched));
  await page.press("#features-search", "Enter");
  check((await title()).includes(String(searched)), `finds feature ${searched} by its index`);
  await page.keyboard.press("Escape");
});
