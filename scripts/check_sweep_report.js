// Opens the report of a sweep in headless Chromium and uses it as a person would; exits 1 if something does not work.
//
// usage: node check_sweep_report.js REPORT.html     needs playwright-core (npm) and chromium (CHROMIUM names it)
"use strict";
const path = require("path");
const { chromium } = require("playwright-core");

const flags = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
const check = (ok, what) => {
  if (!ok) throw new Error(what);
  console.log(`ok  ${what}`);
};

(async () => {
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM || "/usr/bin/chromium", args: flags });
  try {
    const page = await browser.newPage({ viewport: { width: 1280, height: 900 } });
    const problems = [];
    page.on("console", (m) => ["error", "warning"].includes(m.type()) && problems.push(m.text()));
    page.on("pageerror", (e) => problems.push(String(e)));
    page.on("request", (r) => /^https?:/.test(r.url()) && problems.push(`asks the network for ${r.url()}`));
    await page.goto(`file://${path.resolve(process.argv[2])}`);
    await page.waitForSelector("body[data-ready]");
    const sections = await page.$$eval("section", (all) => all.map((s) => s.id));
    for (const id of ["summary", "front", "effects", "cost", "table", "side", "method"]) check(sections.includes(id), `has the section ${id}`);
    check(await page.$$eval("img", (all) => all.length > 0 && all.every((i) => i.naturalWidth > 0)), "shows its pictures");

    // Every word of a figure lies within it and on no other.
    const covered = await page.$$eval("main svg", (all) => all.flatMap((svg) => {
      const frame = svg.getBoundingClientRect(), texts = [...svg.querySelectorAll("text")].map((t) => [t.textContent, t.getBoundingClientRect()]);
      const apart = (a, b) => a.right <= b.left + 1 || b.right <= a.left + 1 || a.bottom <= b.top + 4 || b.bottom <= a.top + 4;
      const outside = texts.filter(([, b]) => b.left < frame.left - 2 || b.right > frame.right + 2 || b.bottom > frame.bottom + 6).map(([t]) => `${t} sticks out`);
      const turned = (t) => t[1].height > 40;
      const pairs = texts.flatMap((a, i) => texts.slice(0, i).filter((b) => !turned(a) && !turned(b) && !apart(a[1], b[1])).map((b) => `${a[0]} on ${b[0]}`));
      return [...outside, ...pairs].map((what) => `${svg.getAttribute("aria-label")}: ${what}`);
    }));
    check(covered.length === 0, `words of figures lie apart${covered.length ? `: ${covered.join("; ")}` : ""}`);

    const heads = await page.$$eval("#table > .scroll thead button", (all) => all.map((b) => b.textContent));
    const column = heads.indexOf("fvu");
    const values = () => page.$$eval("#table > .scroll tbody tr", (rows, i) => rows.map((r) => parseFloat(r.cells[i].textContent)), column);
    const button = (await page.$$("#table > .scroll thead button"))[column];
    await button.focus();
    for (const [sign, order] of [[1, "ascending"], [-1, "descending"]]) {
      await page.keyboard.press("Enter");
      const all = await values();
      check(all.length > 1 && all.every((v, i) => i === 0 || sign * (v - all[i - 1]) >= 0), `sorts by fvu, ${order}, by key`);
      check((await page.$$("#table > .scroll th[aria-sort]")).length === 1 && (await page.$(`th[aria-sort="${order}"]`)) !== null, `says so: ${order}`);
    }
    await page.setViewportSize({ width: 390, height: 800 });
    check(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "is no wider than a telephone");
    check(problems.length === 0, `no word on the console, no request${problems.length ? `: ${problems.join("; ")}` : ""}`);
  } finally {
    await browser.close();
  }
})().catch((e) => {
  console.error(`FAILED: ${e.message}`);
  process.exit(1);
});
