// The page: the header, and the sections in the order of the list in report/sections.rs.

const title = t("title", { run: analysis.run });
document.title = title;
document.getElementById("title").textContent = title;
document.getElementById("subtitle").textContent = data.subtitle;

for (const { id, title, note: said } of data.sections) {
  const content = sections[id]();
  if (!content) continue;
  document.getElementById("nav").append(element("a", { href: `#${id}` }, title));
  document
    .getElementById("main")
    .append(
      element(
        "section",
        { id, "aria-labelledby": `${id}-h` },
        element("h2", { id: `${id}-h` }, title),
        said ? note(said) : null,
        ...content,
      ),
    );
}
document.body.dataset.ready = "true";
