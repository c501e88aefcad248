// What the report does beyond links: the slider of coverage, sorting, and cells of the large confusion matrix.
"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  // "all", "none" or per cent, with the decimals that tell it from these: the words of the promise above.
  const share = (part, whole) => {
    if (!part || part === whole) return part ? "all" : "none";
    const least = Math.min(part, whole - part) / whole;
    const decimals = least >= 0.01 ? 0 : Math.ceil(-Math.log10(100 * least));
    const digits = { minimumFractionDigits: decimals, maximumFractionDigits: decimals };
    return `${(100 * part / whole).toLocaleString("en", { ...digits, roundingMode: "halfEven" })}\u00a0%`;
  };
  // A confidence below 1 is never "100.0 %".
  const confidence = (value) => {
    const digits = (100 * value).toFixed(1);
    return `${value < 1 && digits === "100.0" ? "99.9+" : digits}\u00a0%`;
  };

  // The slider: each of its steps is a point of the curve.
  function startSlider(box) {
    const points = JSON.parse(box.dataset.points), total = Number(box.dataset.total);
    const slider = $("threshold"), mark = $("coverage-chart-mark");
    const count = (answered, right) => {
      if (!answered) return "no picture is answered";
      return `answers ${share(answered, total)} of the pictures; ${share(right, answered)} of the answers are right`;
    };
    const show = () => {
      const [threshold, answered, right, x, y] = points[slider.value];
      const said = count(answered, right);
      $("threshold-value").textContent = confidence(threshold);
      $("threshold-said").textContent = `${said[0].toUpperCase()}${said.slice(1)} (${right.toLocaleString("en")} of ${answered.toLocaleString("en")}).`;
      $("threshold-command").textContent = `classifold predict ${quote(box.dataset.run)} PATH --threshold ${threshold}`;
      slider.setAttribute("aria-valuetext", `${confidence(threshold)} confidence: ${said}`);
      mark.setAttribute("cx", x);
      mark.setAttribute("cy", y);
    };
    const quote = (text) => /^[\w.\/-]+$/.test(text) ? text : `'${text.replaceAll("'", `'"'"'`)}'`;
    slider.addEventListener("input", show);
    show();
    box.hidden = false;
  }

  // A button in each header sorts the rows; figures from the largest, names from A.
  function makeSortable(table) {
    const body = table.tBodies[0];
    const valueOf = (row, column) => row.cells[column].firstChild?.textContent ?? "";
    const asNumber = (text) => Number.parseFloat(text.replaceAll(",", ""));
    for (const header of table.tHead.rows[0].cells) {
      if (header.tagName !== "TH") continue;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...header.childNodes);
      header.append(button);
      button.addEventListener("click", () => {
        const isNumber = header.classList.contains("number");
        const before = header.getAttribute("aria-sort");
        const rises = before ? before === "descending" : !isNumber;
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        header.setAttribute("aria-sort", rises ? "ascending" : "descending");
        const rows = [...body.rows].map((row) => [valueOf(row, header.cellIndex), row]);
        rows.sort(([one], [other]) => {
          if (!isNumber) return (rises ? 1 : -1) * one.localeCompare(other, "en", { numeric: true });
          const [first, second] = [asNumber(one), asNumber(other)];
          // Classes without a figure stay last.
          if (Number.isNaN(first) || Number.isNaN(second)) return Number.isNaN(first) - Number.isNaN(second);
          return (rises ? 1 : -1) * (first - second);
        });
        body.append(...rows.map(([, row]) => row));
      });
    }
  }

  // A table whose right edge is out of sight fades out there, so that it does not look complete.
  function markCut(box) {
    const update = () => {
      box.classList.toggle("cut", box.scrollLeft + box.clientWidth < box.scrollWidth - 1);
    };
    box.addEventListener("scroll", update, { passive: true });
    new ResizeObserver(update).observe(box);
  }

  // The cell whose pictures are shown is marked in the matrix and in the list.
  function markShown() {
    for (const link of document.querySelectorAll("a[aria-current]")) link.removeAttribute("aria-current");
    const target = document.querySelector(".cell:target");
    if (target === null) return;
    for (const link of document.querySelectorAll(`a[href="#${target.id}"]`)) link.setAttribute("aria-current", "true");
    target.focus();
  }

  if ($("slider") !== null) startSlider($("slider"));
  document.querySelectorAll("table[data-sortable]").forEach(makeSortable);
  document.querySelectorAll(".scroll").forEach(markCut);
  document.addEventListener("click", (event) => {
    const cell = event.target.closest?.("[data-cell]");
    if (cell) location.hash = `cell-${cell.dataset.cell}`;
  });
  addEventListener("hashchange", markShown);
  markShown();
})();
