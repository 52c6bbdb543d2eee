"use strict";
// Sorts and filters the table; the page is whole without it.
const table = document.getElementById("overview");
if (table) {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const value = (row, column) => {
    const cell = row.cells[column];
    return "v" in cell.dataset ? Number(cell.dataset.v) : cell.textContent.trim();
  };
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    if (column === 2 || column === 4) return;
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const numeric = rows.some((row) => "v" in row.cells[column].dataset);
      const now = head.getAttribute("aria-sort");
      const order = now === null ? (numeric ? "descending" : "ascending")
        : now === (numeric ? "descending" : "ascending") ? (numeric ? "ascending" : "descending") : null;
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      if (order) head.setAttribute("aria-sort", order);
      const sign = order === "descending" ? -1 : 1;
      rows.sort((a, b) => {
        const first = a.dataset.n - b.dataset.n;
        if (!order) return first;
        const [x, y] = [value(a, column), value(b, column)];
        if (numeric && typeof x !== typeof y) return typeof x === "number" ? -1 : 1;
        return sign * (typeof x === "number" ? x - y : x.localeCompare(y)) || first;
      });
      body.append(...rows);
    });
  });
  if (rows.length > 8) {
    const search = document.createElement("input");
    search.type = "search";
    const label = document.createElement("label");
    label.append("Filter by name", search);
    const only = document.createElement("input");
    only.type = "checkbox";
    const check = document.createElement("label");
    check.append(only, " only what is drifted or worse");
    const show = () => {
      const words = search.value.toLowerCase();
      for (const row of rows) {
        const name = row.cells[0].textContent.toLowerCase();
        row.hidden = !name.includes(words) || (only.checked && !row.querySelector(".bad, .warn"));
      }
    };
    search.addEventListener("input", show);
    only.addEventListener("input", show);
    document.getElementById("tools").append(label, check);
  }
  // A link to a folded column unfolds it.
  const unfold = () => {
    const target = document.getElementById(location.hash.slice(1));
    const fold = target && target.closest("details.fold");
    if (fold && !fold.open) {
      fold.open = true;
      target.scrollIntoView();
    }
  };
  window.addEventListener("hashchange", unfold);
  unfold();
}
