// Sorts a table by a column. The first click sorts ascending, names in alphabetical order; cells without a value stay last.
const sortBy = (table, column) => {
  const head = table.tHead.rows[0].cells[column];
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
  const numeric = rows.some((row) => row.cells[column].dataset.v !== undefined);
  const number = (row) => parseFloat(row.cells[column].dataset.v ?? "NaN");
  const name = (row) => row.cells[column].textContent;
  const compareNumbers = (x, y) => Number.isNaN(x) - Number.isNaN(y) || sign * (x - y) || 0;
  const compareNames = (x, y) => !x - !y || sign * x.localeCompare(y, undefined, { numeric: true });
  body.append(
    ...rows.sort((a, b) => (numeric ? compareNumbers(number(a), number(b)) : compareNames(name(a), name(b)))),
  );
};
for (const table of document.querySelectorAll("table.sortable")) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => sortBy(table, column));
  });
}
// Folded tables are printed too.
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((d) => (d.open = true)));
document.body.dataset.ready = "true";
