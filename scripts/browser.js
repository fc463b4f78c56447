// Shared by the checks of reports: a page in headless Chromium that records console messages and requests.
"use strict";
const path = require("path");
const { chromium } = require("playwright-core");

const flags = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
const check = (ok, what) => {
  if (!ok) throw new Error(what);
  console.log(`ok  ${what}`);
};

// Opens a file and passes the page to `checks` when it is ready, with the milliseconds that took. Exits 1 if a check fails.
const use = async (file, checks) => {
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM || "/usr/bin/chromium", args: flags });
  try {
    const page = await browser.newPage({ viewport: { width: 1280, height: 900 } });
    const problems = [];
    page.on("console", (m) => ["error", "warning"].includes(m.type()) && problems.push(m.text()));
    page.on("pageerror", (e) => problems.push(String(e)));
    page.on("request", (r) => /^https?:/.test(r.url()) && problems.push(`requests ${r.url()} from the network`));
    const from = Date.now();
    await page.goto(`file://${path.resolve(file)}`);
    await page.waitForSelector("body[data-ready]");
    await checks(page, Date.now() - from);
    check(problems.length === 0, `no console message, no network request${problems.length ? `: ${problems.join("; ")}` : ""}`);
  } catch (e) {
    console.error(`FAILED: ${e.message}`);
    process.exitCode = 1;
  } finally {
    await browser.close();
  }
};

module.exports = { check, use };
