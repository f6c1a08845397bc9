"use strict";
(() => {
  const $ = (selector, root = document) => [...root.querySelectorAll(selector)];
  document.documentElement.classList.add("js");

  // Tooltips: at once, and for touch; without scripts the browser shows the <title> itself.
  const tip = document.createElement("div");
  tip.id = "tip";
  tip.setAttribute("aria-hidden", "true");
  document.body.append(tip);
  for (const title of $("figure svg title")) {
    title.parentNode.dataset.tip = title.textContent;
    title.remove();
  }
  const show = (event) => {
    const mark = event.target.closest?.("[data-tip]");
    tip.textContent = mark ? mark.dataset.tip : "";
    tip.classList.toggle("on", Boolean(mark));
    if (!mark) return;
    const box = mark.getBoundingClientRect();
    const wide = Math.min(box.right, innerWidth) - Math.max(box.left, 0);
    const left = Math.max(box.left, 0) + wide / 2 - tip.offsetWidth / 2;
    tip.style.left = `${Math.max(8, Math.min(left, innerWidth - tip.offsetWidth - 8))}px`;
    tip.style.top = `${box.top > tip.offsetHeight + 8 ? box.top - tip.offsetHeight - 4 : box.bottom + 6}px`;
  };
  for (const moved of ["pointerdown", "pointermove"]) document.addEventListener(moved, show, { passive: true });
  addEventListener("scroll", () => tip.classList.remove("on"), { passive: true });

  // The table: sort by a header, filter by choice and text, keep the rows as CSV.
  const table = document.getElementById("findings-table");
  if (table) {
    const body = table.tBodies[0];
    const rows = [...body.rows];
    const headers = [...table.tHead.rows[0].cells];
    const key = (row, i) => {
      const cell = row.cells[i];
      const number = cell.dataset.v ?? cell.dataset.csv;
      return number === undefined ? cell.textContent.trim() : parseFloat(number);
    };
    const compare = (a, b) => (typeof a === "number" ? a - b : a.localeCompare(b, undefined, { numeric: true }));
    const unknown = (value) => value === "" || Number.isNaN(value);
    const sort = (i) => {
      const falling = headers[i].getAttribute("aria-sort") === "ascending";
      headers.forEach((header) => header.removeAttribute("aria-sort"));
      headers[i].setAttribute("aria-sort", falling ? "descending" : "ascending");
      const keyed = rows.map((row) => [key(row, i), row]);
      keyed.sort(([a], [b]) => unknown(a) - unknown(b) || (unknown(a) ? 0 : compare(a, b) * (falling ? -1 : 1)));
      rows.splice(0, rows.length, ...keyed.map(([, row]) => row));
      body.append(...rows);
    };
    headers.forEach((header, i) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...header.childNodes);
      button.addEventListener("click", () => sort(i));
      header.append(button);
    });

    const form = document.getElementById("filters");
    const told = document.getElementById("shown");
    const filter = () => {
      const text = form.elements.text.value.trim().toLowerCase();
      const chosen = $("select", form).filter((select) => select.value !== "");
      let shown = 0;
      for (const row of rows) {
        const kept =
          chosen.every((select) => row.cells[select.dataset.column].textContent === select.value) &&
          (!text || row.textContent.toLowerCase().includes(text));
        row.hidden = !kept;
        shown += kept;
      }
      told.textContent = shown === rows.length ? `All ${shown} findings` : `${shown} of ${rows.length} findings`;
    };
    form.hidden = false;
    form.addEventListener("input", filter);
    form.addEventListener("reset", () => setTimeout(filter));
    form.addEventListener("submit", (event) => event.preventDefault());
    filter();

    document.getElementById("csv").addEventListener("click", () => {
      // A leading = + - @ would be a formula to a spreadsheet program.
      const quote = (text) => `"${text.trim().replace(/^[=+\-@]/, "'$&").replaceAll('"', '""')}"`;
      const number = (cell) => ("v" in cell.dataset ? cell.dataset.v.replace("nan", "") : quote(cell.textContent));
      const line = (cells) => [...cells].map((cell) => cell.dataset.csv ?? number(cell)).join(",");
      const lines = [headers, ...rows.filter((row) => !row.hidden).map((row) => row.cells)].map(line);
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([lines.join("\r\n")], { type: "text/csv" }));
      link.download = "findings.csv";
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    });
  }

  // Paper has no disclosure triangles: what should be printed is opened for it.
  addEventListener("beforeprint", () => $("details.print").forEach((details) => (details.open = true)));
})();
