// The page at /: takes pictures by drop, paste, choice or camera, and lists their answers.
import { ask, keepKey, readKey } from "./asking.js";
import { Card } from "./card.js";
import * as words from "./words.js";

const MOST = 100; // pictures on the page
const $ = (id) => document.getElementById(id);
const cards = [];
let rule = null;
let keyWasRefused = false;

const hooks = {
  rule: () => rule,
  changed: (_card, said) => {
    $("status").textContent = said;
    showCounts();
  },
  refused: (status) => {
    if (status === 401) askForKey();
  },
  removed: (card) => {
    const place = cards.indexOf(card);
    cards.splice(place, 1);
    card.remove();
    // The focus goes to a neighbour of what is gone, not to the top of the page.
    const next = cards[Math.min(place, cards.length - 1)];
    (next ? next.element.querySelector(".remove") : $("choose")).focus();
    $("status").textContent = `${card.name} is removed`;
    showCounts();
  },
};

function add(files) {
  const given = [...files];
  if (given.length === 0) return;
  const taken = given.slice(0, Math.max(0, MOST - cards.length));
  const left = given.length - taken.length;
  tell(
    left === 0
      ? ""
      : `${words.count(left, "picture")} left out: the page holds ${MOST}. Remove some, or use classifold predict, which takes whole folders.`,
  );
  const made = taken.map((file) => new Card(file, hooks, { isExplained: given.length === 1 }));
  cards.unshift(...made);
  $("cards").prepend(...made.map((card) => card.element));
  for (const card of made) card.predict();
  showCounts();
}

function showCounts() {
  const number = (...states) => cards.filter((card) => states.includes(card.state)).length;
  const parts = [
    [number("answered"), "named"],
    [number("unknown"), "unknown"],
    [number("unreadable"), "not read"],
    [number("refused", "locked"), "without an answer"],
    [number("waiting"), "waiting"],
  ];
  const said = parts.filter(([many]) => many > 0).map(([many, what]) => `${many} ${what}`);
  $("counts").textContent = `${words.count(cards.length, "picture")}: ${said.join(", ")}`;
  $("bar").hidden = cards.length === 0;
}

function tell(text) {
  $("message").textContent = text;
  $("message").hidden = text === "";
  if (text) $("status").textContent = text;
}

// ---- the API key
function askForKey() {
  if (!$("key-form").hidden && !keyWasRefused) return;
  $("key-said").textContent = keyWasRefused
    ? "The server did not accept this key."
    : "The key is kept in this tab only, until it is closed.";
  keyWasRefused = false;
  $("key-form").hidden = false;
  $("key").focus();
}

$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  keepKey($("key").value.trim());
  $("key").value = "";
  $("key-form").hidden = true;
  keyWasRefused = true;
  $("choose").focus();
  loadMetadata();
  for (const card of cards) if (card.state === "locked") card.predict();
});

// ---- the model
async function loadMetadata() {
  try {
    showMetadata(await ask("metadata"));
    keyWasRefused = false;
  } catch (error) {
    if (error.status === 401) {
      if (readKey() && $("key-form").hidden) keyWasRefused = true;
      askForKey();
    } else tell(error.message);
  }
}

function showMetadata(about) {
  rule = about.rule;
  const names = about.model.class_names;
  $("model").textContent = about.model.name;
  if (names.length > 0) {
    const shown = names.slice(0, 12).join(", ");
    const more = names.length > 12 ? ` and ${names.length - 12} more` : "";
    $("classes").textContent = `This model tells ${names.length} classes apart: ${shown}${more}. Pictures are sent to this server and nowhere else.`;
  }
  $("version").textContent = ` ${about.classifold}`;
  $("limits").textContent = `Any size up to ${words.bytes(about.limits.max_bytes)}; it is sent as it is.`;
}

// ---- drop, paste, choose, photograph
function holdsFiles(event) {
  return [...(event.dataTransfer?.types ?? [])].includes("Files");
}

let depth = 0; // a drag enters an element before it leaves the one before
addEventListener("dragenter", (event) => {
  if (!holdsFiles(event)) return;
  depth += 1;
  $("drop").classList.add("over");
});
addEventListener("dragleave", (event) => {
  if (!holdsFiles(event)) return;
  depth = Math.max(0, depth - 1);
  if (depth === 0) $("drop").classList.remove("over");
});
addEventListener("dragover", (event) => {
  if (holdsFiles(event)) event.preventDefault();
});
addEventListener("drop", (event) => {
  depth = 0;
  $("drop").classList.remove("over");
  if (!holdsFiles(event)) return;
  event.preventDefault();
  const items = [...event.dataTransfer.items].filter((item) => item.kind === "file");
  const folders = items.filter((item) => item.webkitGetAsEntry?.()?.isDirectory).length;
  // A folder stands among the files under its own name, and cannot be read.
  const isFolder = (file) => items.some((item) => {
    const entry = item.webkitGetAsEntry?.();
    return entry?.isDirectory && entry.name === file.name;
  });
  const files = [...event.dataTransfer.files].filter((file) => !isFolder(file));
  add(files);
  if (folders > 0) {
    tell(`${words.count(folders, "folder")} passed over: drop the pictures in it, or use classifold predict, which takes folders.`);
  }
});
addEventListener("paste", (event) => {
  if (event.target.closest?.("input:not([type=file])")) return;
  const files = [...(event.clipboardData?.files ?? [])];
  if (files.length > 0) event.preventDefault();
  else tell("There is no picture in the clipboard: copy a picture, not its address.");
  add(files);
});
for (const id of ["choose", "photograph"]) {
  $(id).addEventListener("change", () => {
    add($(id).files);
    $(id).value = ""; // the same file can be chosen again
  });
}
$("clear").addEventListener("click", () => {
  for (const card of cards.splice(0)) card.remove();
  tell("");
  $("status").textContent = "All pictures are removed";
  showCounts();
  $("choose").focus();
});

loadMetadata();
