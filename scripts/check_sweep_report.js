// Opens the report of a sweep in headless Chromium and uses its controls. Exits 1 if one does not work.
//
// usage: node check_sweep_report.js REPORT.html     needs playwright-core (npm) and chromium (path in CHROMIUM)
"use strict";
const { check, use } = require("./browser.js");

use(process.argv[2], async (page) => {
  const sections = await page.$$eval("section", (all) => all.map((s) => s.id));
  for (const id of ["summary", "front", "effects", "cost", "table", "side", "method"]) check(sections.includes(id), `has the section ${id}`);
  check(await page.$$eval("img", (all) => all.length > 0 && all.every((i) => i.naturalWidth > 0)), "shows its images");

  // Every label of a figure lies within the figure and overlaps no other label.
  const covered = await page.$$eval("main svg", (all) => all.flatMap((svg) => {
    const frame = svg.getBoundingClientRect(), texts = [...svg.querySelectorAll("text")].map((t) => [t.textContent, t.getBoundingClientRect()]);
    const apart = (a, b) => a.right <= b.left + 1 || b.right <= a.left + 1 || a.bottom <= b.top + 4 || b.bottom <= a.top + 4;
    const outside = texts.filter(([, b]) => b.left < frame.left - 2 || b.right > frame.right + 2 || b.bottom > frame.bottom + 6).map(([t]) => `${t} is outside`);
    const turned = (t) => t[1].height > 40;
    const pairs = texts.flatMap((a, i) => texts.slice(0, i).filter((b) => !turned(a) && !turned(b) && !apart(a[1], b[1])).map((b) => `${a[0]} on ${b[0]}`));
    return [...outside, ...pairs].map((what) => `${svg.getAttribute("aria-label")}: ${what}`);
  }));
  check(covered.length === 0, `texts of figures do not overlap${covered.length ? `: ${covered.join("; ")}` : ""}`);

  const heads = await page.$$eval("#table > .scroll thead button", (all) => all.map((b) => b.textContent));
  const column = heads.indexOf("fvu");
  const values = () => page.$$eval("#table > .scroll tbody tr", (rows, i) => rows.map((r) => parseFloat(r.cells[i].textContent)), column);
  const button = (await page.$$("#table > .scroll thead button"))[column];
  await button.focus();
  for (const [sign, order] of [[1, "ascending"], [-1, "descending"]]) {
    await page.keyboard.press("Enter");
    const all = await values();
    check(all.length > 1 && all.every((v, i) => i === 0 || sign * (v - all[i - 1]) >= 0), `sorts by fvu, ${order}, by key`);
    check((await page.$$("#table > .scroll th[aria-sort]")).length === 1 && (await page.$(`th[aria-sort="${order}"]`)) !== null, `marks the column as ${order}`);
  }
  await page.setViewportSize({ width: 390, height: 800 });
  check(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "fits the width of a phone");
});
