// Elements of the page, and the columns of the record as typed arrays.

// Makes an element. An attribute `onclick` is a listener; undefined, null and false leave an attribute out.
const element = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== null && value !== false)
      made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
};

const svgElement = (tag, attributes = {}, content) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (content !== undefined) made.textContent = content;
  return made;
};

// A table; its cells are texts or elements.
const table = (head, rows, kind) =>
  element(
    "div",
    { class: "scroll" },
    element(
      "table",
      { class: kind },
      element(
        "thead",
        {},
        element(
          "tr",
          {},
          head.map((name) => element("th", { scope: "col" }, name)),
        ),
      ),
      element(
        "tbody",
        {},
        rows.map((row) =>
          element(
            "tr",
            {},
            row.map((cell) => element("td", {}, cell)),
          ),
        ),
      ),
    ),
  );

const bytesOf = (base64) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));

// The values of a column of figures or counts; empty if the record has no such column.
const columnCache = new Map();
const column = (name) => {
  if (!columnCache.has(name)) {
    const stored = data.columns[name];
    let values = [];
    if (stored?.f32 !== undefined) values = new Float32Array(bytesOf(stored.f32).buffer);
    if (stored?.u32 !== undefined) values = new Uint32Array(bytesOf(stored.u32).buffer);
    columnCache.set(name, values);
  }
  return columnCache.get(name);
};

// A column of images, all on one PNG: {png, n, columns, width, height, channels}; undefined if there is none.
const imageColumn = (name) => (data.columns[name]?.png ? data.columns[name] : undefined);

// A button that opens a feature.
const featureChip = (sae, latent, label = String(latent), title = undefined, list = undefined) =>
  element("button", { class: "chip", title, onclick: () => openFeature(sae, latent, list) }, label);
