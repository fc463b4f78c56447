// The report's data, its words in the reader's language, and the formatting of numbers.

const data = JSON.parse(document.getElementById("data").textContent);
const { analysis, classes } = data;
const { saes, patches } = analysis;

// Returns a text in the language of the report, with each {name} replaced by its value.
const t = (key, values = {}) => (data.words[key] ?? key).replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");

const isNumber = (value) => value !== null && value !== undefined && Number.isFinite(value);

// A number with at most `digits` decimals; very small and very large ones in scientific notation.
const formatNumber = (value, digits = 4) => {
  if (!isNumber(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 10 ** -digits || size >= 1e6)) return value.toExponential(2);
  return value.toLocaleString("en-US", { maximumFractionDigits: size >= 100 ? 1 : digits });
};

// A number with exactly `digits` decimals, for the columns of a table.
const formatFixed = (value, digits = 4) => {
  if (!isNumber(value)) return "–";
  return value !== 0 && Math.abs(value) < 0.5 * 10 ** -digits ? value.toExponential(1) : value.toFixed(digits);
};

// A share as a percentage; a very small one keeps its first digit.
const formatPercent = (share, digits = 1) => {
  if (!isNumber(share)) return "–";
  const percent = 100 * share;
  const tiny = percent !== 0 && Math.abs(percent) < 0.5 * 10 ** -digits;
  return `${tiny ? percent.toPrecision(1) : percent.toFixed(digits)}\u00a0%`;
};

const formatCount = (count) => count.toLocaleString("en-US");

const className = (number) => (number === null || number === undefined ? "" : classes[number][0]);
const seriesColour = (i) => `var(--c${i % 10})`;
