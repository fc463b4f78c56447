"use strict";
(() => {
  // Sorts a table by a column: the first click the smallest above, names by the alphabet; what has no figure stays below.
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
    heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
      const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      heads.forEach((h) => h.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      const figures = [...body.rows].some((r) => r.cells[column].dataset.v !== undefined);
      const value = (row) => (figures ? parseFloat(row.cells[column].dataset.v ?? "NaN") : row.cells[column].textContent);
      const order = (a, b) => {
        const [x, y] = [value(a), value(b)];
        if (!figures) return !x - !y || sign * x.localeCompare(y, undefined, { numeric: true });
        return Number.isNaN(x) - Number.isNaN(y) || sign * (x - y) || 0;
      };
      body.append(...[...body.rows].sort(order));
    }));
  }
  // What is folded is printed too.
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((d) => (d.open = true)));
  document.body.dataset.ready = "true";
})();
