// The findings of check.html: filters, pages of 50, what to do with each picture, and the plan as a file.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const PER_PAGE = 50, PER_CASE = 12, ACTIONS = ["keep", "quarantine", "move"];
  const $ = (id) => document.getElementById(id);
  const number = new Intl.NumberFormat("en").format;

  // What the plan suggests, and what the user chose instead, both by number of the file: [action, class].
  const suggested = new Map(data.steps.map(([file, action, to]) => [file, [action, to]]));
  const chosen = new Map();
  const places = new Map(data.keys.map((key, file) => [key, file]));
  const absent = new Set(data.absent);
  let shown = [], page = 0, current = -1;

  const planned = (file) => chosen.get(file) ?? suggested.get(file) ?? ["keep", ""];
  const fileOf = (entry) => (Array.isArray(entry) ? entry[0] : entry);
  const noteOf = (entry) => (Array.isArray(entry) ? entry[1] : "");
  // Control characters and marks of direction in names would hide what a name is.
  const printable = (text) => text.replace(/[\p{Cc}\p{Cf}\p{Co}\p{Cs}\u2028\u2029]/gu,
    (char) => `\\u{${char.codePointAt(0).toString(16)}}`);

  // All text becomes text nodes and attributes: a name can never become markup.
  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value !== false && value !== null) element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children.filter((child) => child !== null));
    return element;
  }

  // Choices are kept in this browser until they are forgotten. A browser may forbid that, or be full.
  function load() {
    try {
      const kept = JSON.parse(localStorage.getItem(data.store) ?? "{}");
      for (const [key, choice] of Object.entries(kept)) {
        if (places.has(key) && ACTIONS.includes(choice[0])) chosen.set(places.get(key), [choice[0], String(choice[1])]);
      }
    } catch { /* nothing was kept */ }
  }
  let waiting = null;
  function keep() {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      const kept = Object.fromEntries([...chosen].map(([file, choice]) => [data.keys[file], choice]));
      try { localStorage.setItem(data.store, JSON.stringify(kept)); } catch {
        say("This browser cannot keep your choices: save the plan before you close the page.");
      }
    }, 200);
  }
  const say = (text) => { $("status").textContent = text; };

  function choose(file, action, to = planned(file)[1]) {
    const before = suggested.get(file);
    const target = action === "move" ? to || (before ? before[1] : "") : before && before[0] === action ? before[1] : "";
    if (before ? before[0] === action && before[1] === target : action === "keep") chosen.delete(file);
    else chosen.set(file, [action, target]);
    keep();
  }

  // Filters

  const lower = new Map();
  function matches(item) {
    const [kind, , , files] = item;
    const wanted = $("filter-kind").value, label = $("filter-class").value;
    const set = $("filter-set").value, action = $("filter-plan").value, text = $("filter-text").value.trim().toLowerCase();
    if (wanted && data.kinds[kind][0] !== wanted) return false;
    return files.some((entry) => {
      const file = fileOf(entry);
      if (label && data.classes[data.classOf[file]] !== label) return false;
      if (set && data.sets[data.setOf[file]] !== set) return false;
      if (action && planned(file)[0] !== action) return false;
      if (!text) return true;
      if (!lower.has(file)) lower.set(file, data.keys[file].toLowerCase());
      return lower.get(file).includes(text);
    });
  }
  function filter() {
    shown = data.cases.filter(matches);
    page = 0;
    current = -1;
    render();
    say(`${number(shown.length)} of ${number(data.cases.length)} findings`);
  }

  // Cards

  const hrefOf = (file) => data.urls[file]
    ?? (data.base === "" || absent.has(file) ? null : data.base + data.keys[file].split("/").map(encodeURIComponent).join("/"));

  function picture(file) {
    const jpeg = data.thumbs[file];
    return jpeg
      ? make("img", { src: `data:image/jpeg;base64,${jpeg}`, alt: "", decoding: "async" })
      : make("div", { class: "absent" }, "no thumbnail");
  }
  function caption(file, note) {
    const name = printable(data.keys[file]), href = hrefOf(file);
    const words = [data.classes[data.classOf[file]], data.sets[data.setOf[file]]].filter(Boolean).map(printable);
    return make("figcaption", {},
      make("p", {}, make("strong", {}, words.join(" · ") || "—"), note ? ` ${printable(note)}` : ""),
      href ? make("a", { class: "file", href, title: name }, name) : make("span", { class: "file", title: name }, name));
  }
  function actionButtons(file) {
    const name = printable(data.keys[file]);
    const group = make("div", { class: "actions", role: "group", "aria-label": `What to do with ${name}` });
    const update = () => {
      const [action, to] = planned(file);
      group.closest("li")?.setAttribute("data-action", action);
      for (const button of group.querySelectorAll("button")) {
        button.setAttribute("aria-pressed", String(button.dataset.action === action));
      }
      field.hidden = action !== "move";
      if (document.activeElement !== field) field.value = to;
    };
    const field = make("input", { type: "text", list: "class-names", "aria-label": `New class of ${name}`, placeholder: "class" });
    field.addEventListener("input", () => { choose(file, "move", field.value.trim()); count(); });
    for (const action of ACTIONS) {
      const button = make("button", { type: "button", "data-action": action }, action[0].toUpperCase() + action.slice(1));
      button.addEventListener("click", () => {
        decide(file, action);
        if (action === "move") field.focus();
      });
      group.append(button);
    }
    group.append(field);
    group.update = update;
    return group;
  }
  function fileItem(entry) {
    const file = fileOf(entry), buttons = actionButtons(file);
    const item = make("li", { class: "picture", "data-file": file },
      make("figure", {}, picture(file), caption(file, noteOf(entry))), buttons);
    buttons.update();
    return item;
  }
  // The first picture with another one laid over it; what a mirror or a turn did is undone first.
  function difference(first, entry) {
    const file = fileOf(entry), note = noteOf(entry).toLowerCase();
    if (!data.thumbs[first] || !data.thumbs[file] || /crop|equal bytes/.test(note)) return null;
    const over = picture(file), turn = /turned\D*(\d+)/.exec(note);
    const back = [turn ? `rotate(${-Number(turn[1])}deg)` : "", /mirror/.test(note) ? "scaleX(-1)" : ""].join(" ").trim();
    if (back) over.style.transform = back;
    return make("li", { class: "picture" }, make("figure", {},
      make("div", { class: "difference" }, picture(first), over),
      make("figcaption", {}, make("p", {}, "difference; black is equal"))));
  }
  function card(item, place) {
    const [kind, title, reason, files, beside] = item;
    const list = make("ul", { class: "pictures" }, ...files.slice(0, PER_CASE).map(fileItem));
    if (["leak", "near", "conflict"].includes(data.kinds[kind][0])) {
      list.append(...files.slice(1, 4).map((entry) => difference(fileOf(files[0]), entry)).filter(Boolean));
    }
    const parts = [
      make("h3", { id: `title-${place}` }, printable(title), make("span", { class: "count" }, ` ${number(place + 1)} of ${number(shown.length)}`)),
      make("p", { class: "note" }, printable(reason)), list];
    if (files.length > PER_CASE) {
      const more = make("button", { type: "button", class: "more" }, `Show the other ${number(files.length - PER_CASE)} pictures`);
      more.addEventListener("click", () => {
        list.append(...files.slice(PER_CASE).map(fileItem));
        more.remove();
      });
      parts.push(more);
    }
    if (beside.length) {
      parts.push(make("p", { class: "beside-title" }, "Most similar pictures"),
        make("ul", { class: "pictures small" }, ...beside.slice(0, PER_CASE).map((entry) => make("li", { class: "picture" },
          make("figure", {}, picture(fileOf(entry)), caption(fileOf(entry), noteOf(entry)))))));
    }
    const article = make("article", { class: "case", tabindex: "-1", "aria-labelledby": `title-${place}`, "data-place": place }, ...parts);
    article.addEventListener("focusin", () => mark(place));
    return make("li", {}, article);
  }
  function render() {
    const start = page * PER_PAGE, cards = shown.slice(start, start + PER_PAGE);
    $("cases").replaceChildren(...cards.map((item, index) => card(item, start + index)));
    if (!cards.length) $("cases").append(make("li", { class: "note" }, "No finding matches these filters."));
    const pages = Math.max(1, Math.ceil(shown.length / PER_PAGE));
    for (const part of document.querySelectorAll("[data-pages]")) part.textContent = `Page ${number(page + 1)} of ${number(pages)}`;
    for (const button of document.querySelectorAll("[data-turn]")) {
      button.disabled = button.dataset.turn < 0 ? page === 0 : page + 1 >= pages;
    }
    mark(Math.min(current, shown.length - 1));
    count();
  }
  function turn(step, { focus = true } = {}) {
    page += step;
    current = page * PER_PAGE;
    render();
    if (focus) go(current);
  }
  function mark(place) {
    current = place;
    document.querySelector("article.current")?.classList.remove("current");
    document.querySelector(`article[data-place="${place}"]`)?.classList.add("current");
  }

  // What is done with a picture

  function decide(file, action) {
    choose(file, action);
    for (const item of document.querySelectorAll(`li[data-file="${file}"] .actions`)) item.update();
    count();
    const to = action === "move" ? ` to ${printable(planned(file)[1]) || "a class to be named"}` : "";
    say(`${printable(data.keys[file])}: ${action}${to}`);
  }
  const totals = { quarantine: 0, move: 0 };
  function count() {
    totals.quarantine = totals.move = 0;
    for (const file of new Set([...suggested.keys(), ...chosen.keys()])) {
      const action = planned(file)[0];
      if (action !== "keep") totals[action] += 1;
    }
    $("totals").textContent = `${number(totals.quarantine)} to quarantine, ${number(totals.move)} to move`;
  }
  function decideAll() {
    const way = $("bulk").value;
    if (!way) return;
    for (const [, , , files] of shown) {
      files.forEach((entry, index) => {
        const file = fileOf(entry);
        if (way === "suggested") chosen.delete(file);
        else if (way === "move") {
          const to = suggested.get(file)?.[1];
          if (to) choose(file, "move", to);
        }
        else choose(file, way === "keep" || (index === 0 && files.length > 1) ? "keep" : "quarantine");
      });
    }
    $("bulk").value = "";
    keep();
    render();
    say(`${number(shown.length)} findings changed`);
  }

  // Keys

  function go(place) {
    if (place < 0 || place >= shown.length) { say(place < 0 ? "This is the first finding." : "This is the last finding."); return; }
    const wanted = Math.floor(place / PER_PAGE);
    if (wanted !== page) { page = wanted; render(); }
    const article = document.querySelector(`article[data-place="${place}"]`);
    article.focus({ preventScroll: true });
    article.scrollIntoView({ block: "start" });
    mark(place);
  }
  function toggle() {
    const item = shown[current];
    if (!item) { say("Go to a finding first."); return; }
    const inside = document.activeElement?.closest("li[data-file]");
    const files = item[3].map(fileOf);
    const file = inside ? Number(inside.dataset.file)
      : files.find((one) => (suggested.get(one) ?? ["keep"])[0] !== "keep") ?? files[files.length - 1];
    const change = data.kinds[item[0]][0] === "label" && suggested.get(file)?.[1] ? "move" : "quarantine";
    decide(file, planned(file)[0] === change ? "keep" : change);
  }
  const commands = { j: () => go(current + 1), k: () => go(current - 1), x: toggle };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || !$("use-keys").checked) return;
    if (event.target.closest("input:not([type=checkbox]), select, textarea")) return;
    const command = commands[event.key.toLowerCase()];
    if (command) { event.preventDefault(); command(); }
  });

  // The plan as classifold reads it: see datacheck/plan.py, which writes the same.

  const FORMULA = /^[=+\-@\uff1d\uff0b\uff0d\uff20'\t\r\n ]/;
  function cell(text) {
    const safe = FORMULA.test(text) ? `'${text}` : text;
    return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  }
  function writePlan() {
    const rows = [["file", "action", "to", "reason", "certainty"]];
    const seen = new Set();
    for (const [file, , , reason, certainty] of data.steps) {
      seen.add(file);
      const changed = chosen.has(file);
      rows.push([data.keys[file], ...planned(file), reason, changed ? "" : certainty]);
    }
    for (const file of chosen.keys()) {
      if (!seen.has(file)) rows.push([data.keys[file], ...planned(file), "chosen on the page", ""]);
    }
    return `\ufeff${rows.map((row) => row.map(cell).join(",")).join("\r\n")}\r\n`;
  }
  function save() {
    const nameless = [...chosen].filter(([, [action, to]]) => action === "move" && !to);
    if (nameless.length) {
      const [[file]] = nameless;
      say(`Name the new class of ${printable(data.keys[file])}${nameless.length > 1 ? ` and ${nameless.length - 1} more` : ""} first.`);
      return;
    }
    const url = URL.createObjectURL(new Blob([writePlan()], { type: "text/csv;charset=utf-8" }));
    const link = make("a", { href: url, download: "plan.csv" });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(url), 60000);
    say(`plan.csv is saved: ${$("totals").textContent}. Next: ${data.command} --apply plan.csv`);
  }
  function forget() {
    chosen.clear();
    try { localStorage.removeItem(data.store); } catch { /* nothing was kept */ }
    render();
    say("Your choices are forgotten; the plan is the suggested one again.");
  }

  // Start

  load();
  for (const name of data.classes) $("class-names").append(make("option", { value: name }));
  for (const [kind, title, times] of data.kinds) $("filter-kind").append(make("option", { value: kind }, `${printable(title)} (${number(times)})`));
  for (const name of data.classes) $("filter-class").append(make("option", { value: name }, printable(name)));
  for (const name of data.sets) $("filter-set").append(make("option", { value: name }, printable(name)));
  $("filter-set").closest("label").hidden = data.sets.length === 0;
  for (const id of ["filter-kind", "filter-class", "filter-set", "filter-plan"]) $(id).addEventListener("change", filter);
  let typing = null;
  $("filter-text").addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(filter, 150); });
  for (const link of document.querySelectorAll("a[data-kind]")) {
    link.addEventListener("click", () => {
      for (const id of ["filter-class", "filter-set", "filter-plan", "filter-text"]) $(id).value = "";
      $("filter-kind").value = link.dataset.kind;
      filter();
    });
  }
  for (const button of document.querySelectorAll("[data-turn]")) button.addEventListener("click", () => turn(Number(button.dataset.turn)));
  for (const button of document.querySelectorAll("[data-command]")) {
    // The button keeps the focus, so that it can be pressed again; the finding is scrolled to and marked.
    button.addEventListener("click", (event) => { commands[button.dataset.command](); if (event.detail === 0) button.focus({ preventScroll: true }); });
  }
  $("bulk-apply").addEventListener("click", decideAll);
  $("save").addEventListener("click", save);
  $("forget").addEventListener("click", forget);
  for (const part of document.querySelectorAll(".scripted")) part.hidden = false;
  shown = data.cases.slice();
  render();
})();
