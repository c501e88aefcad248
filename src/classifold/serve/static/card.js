// One picture on the page: its preview, its answer, and what explains it.
import { ask, kindOf, Line, readKey } from "./asking.js";
import * as words from "./words.js";

export const TOP = 5;
const PREVIEW = 640; // pixels of the longer side
const template = document.getElementById("card");
// A server has few cores: more requests at a time would only wait there.
const predicting = new Line(2);
const explaining = new Line(1);

export class Card {
  #find;
  #abort = new AbortController();
  #hooks;
  #state = "waiting";
  #isExplained;
  #isUnseen = false; // this browser cannot show it

  /** `hooks`: rule(), changed(card, said), refused(status), removed(card). */
  constructor(file, hooks, { isExplained }) {
    this.file = file;
    this.#isExplained = isExplained; // as soon as it is answered, without a click
    this.#hooks = hooks;
    this.element = template.content.cloneNode(true).firstElementChild;
    this.#find = (selector) => this.element.querySelector(selector);
    this.name = file.name || "pasted picture";
    this.#find(".file").textContent = `${this.name}, ${words.bytes(file.size)}`;
    this.#label(".remove", "Remove");
    this.#find(".remove").addEventListener("click", () => hooks.removed(this));
    this.#find(".again").addEventListener("click", () => this.predict());
    this.#find(".explain").addEventListener("click", () => this.explain());
    this.#find(".heat input").addEventListener("input", () => this.#blend());
    for (const what of ["curl", "json"]) {
      this.#find(`.copy-${what}`).addEventListener("click", () => this.#copy(what));
    }
  }

  /** "waiting", "answered", "unknown", "unreadable", "refused" (try again), or "locked" (a key is needed). */
  get state() {
    return this.#state;
  }

  predict() {
    this.#set("waiting");
    this.#title("Waiting…");
    this.#text(".why", "");
    this.element.classList.remove("failed");
    this.#find(".again").hidden = true;
    predicting.add(() => this.#predict());
  }

  async #predict() {
    if (this.#abort.signal.aborted) return;
    this.#title("Looking…");
    const [answer] = await Promise.all([this.#ask(`predict?top_k=${TOP}`), this.#preview()]);
    if (answer === null) return;
    this.#show(answer);
    if (this.#isExplained && this.#state !== "unreadable") this.explain();
  }

  /** Return the answer; null where there is none, which the card then says. */
  async #ask(path) {
    const { signal } = this.#abort;
    const onWait = (seconds) => this.#say(`The server is busy: trying again in ${Math.ceil(seconds)} s.`);
    try {
      return await ask(path, { file: this.file, signal, onWait });
    } catch (error) {
      if (error.name !== "AbortError") this.#fail(error);
      return null;
    }
  }

  #fail(error) {
    // The answer stands, where only its explanation failed.
    const isAnswered = this.#state === "answered" || this.#state === "unknown";
    this.#text(".why", error.message);
    if (isAnswered) this.#busy(false);
    else {
      const isFinal = [413, 415, 422].includes(error.status);
      this.element.classList.add("failed");
      this.#title(isFinal ? "Not read" : "No answer");
      this.#find(".again").hidden = isFinal;
      this.#set(error.status === 401 ? "locked" : isFinal ? "unreadable" : "refused");
    }
    this.#hooks.changed(this, `${this.name}: ${error.message}`);
    this.#hooks.refused(error.status);
  }

  async #preview() {
    const place = this.#find(".absent");
    try {
      const canvas = this.#find("canvas");
      const bitmap = await shrink(this.file);
      [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
      canvas.getContext("bitmaprenderer").transferFromImageBitmap(bitmap);
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `The picture ${this.name}`);
      if (place.isConnected) [canvas.hidden, place.hidden] = [false, true];
    } catch {
      this.#isUnseen = true;
      this.#showAbsent();
    }
  }

  /** Say why there is no picture: the browser lacks its format, or it is none. */
  #showAbsent() {
    if (!this.#isUnseen) return;
    const place = this.#find(".absent");
    if (place === null) return;
    place.textContent =
      this.#state === "unreadable" ? words.NO_PREVIEW : "This browser has no preview of this picture.";
  }

  #show(answer) {
    const prediction = answer.predictions[0];
    this.#text(".why", "");
    if (prediction.error !== null) {
      this.#fail(Object.assign(new Error(words.refusal(422, prediction)), { status: 422 }));
      return;
    }
    const best = prediction.predicted_class;
    const sure = words.share(prediction.confidence);
    if (prediction.unknown) this.#title("Unknown", `best guess: ${best}, ${sure}`);
    else this.#title(best, sure);
    const rule = this.#hooks.rule();
    const isFar = prediction.unknown && words.isFar(prediction, rule);
    if (prediction.unknown) this.#text(".why", words.unknown(prediction, rule));
    this.#showClasses(prediction.classes);
    this.#text(".near", prediction.distance === null || isFar ? "" : words.distance(prediction.distance));
    this.#showForPrograms(answer);
    this.#label(".explain", "Show why");
    this.#find(".explain").hidden = false;
    this.#set(prediction.unknown ? "unknown" : "answered");
    const said = prediction.unknown ? `unknown, best guess ${best}` : best;
    this.#hooks.changed(this, `${this.name}: ${said}, ${sure}`);
  }

  #showClasses(classes) {
    const rows = classes.slice(0, TOP).map(({ class_name: name, confidence }) => {
      const row = make("li", "", make("span", "", name), make("span", "", words.share(confidence)));
      const fill = make("span", "fill");
      fill.style.width = `${100 * confidence}%`;
      const track = make("span", "track", fill);
      track.setAttribute("aria-hidden", "true");
      row.append(track);
      return row;
    });
    const list = this.#find(".classes");
    list.replaceChildren(...rows);
    list.setAttribute("aria-label", "Classes, the most probable first");
    list.hidden = false;
  }

  #showForPrograms(answer) {
    const address = new URL(`predict?top_k=${TOP}`, document.baseURI).href;
    this.#find(".curl").textContent = words.curl(this.name, kindOf(this.file), address, readKey() !== "");
    this.#find(".json").textContent = JSON.stringify(answer, null, 2);
    this.#find(".curl").setAttribute("aria-label", "Command");
    this.#find(".json").setAttribute("aria-label", "Answer as JSON");
    this.#find("details").hidden = false;
  }

  explain() {
    if (this.#find(".explain").ariaDisabled === "true") return;
    this.#busy(true);
    explaining.add(async () => {
      if (this.#abort.signal.aborted) return;
      const answer = await this.#ask("explain?neighbours=5");
      if (answer === null) return;
      this.#showPicture(answer.explanation);
      this.#showNeighbours(answer.explanation);
      const explained = answer.explanation.is_faithful ? "its heat map is shown" : "it has no heat map";
      // The button is gone now: who pressed it goes on where the explanation is.
      const hadFocus = document.activeElement === this.#find(".explain");
      this.#busy(false);
      this.#find(".explain").hidden = true;
      if (hadFocus) this.#find(answer.explanation.overlay ? ".heat input" : ".remove").focus();
      this.#hooks.changed(this, `${this.name}: ${explained}`);
    });
  }

  #showPicture(explanation) {
    const picture = make("img", "");
    picture.src = explanation.picture;
    picture.alt = `The picture ${this.name}`;
    const shown = [picture];
    if (explanation.overlay !== null) {
      const overlay = make("img", "overlay");
      overlay.src = explanation.overlay;
      overlay.alt = `Heat map: the bright places speak for ${explanation.class_name}`;
      shown.push(overlay);
      this.#find(".heat").hidden = false;
    }
    this.#find(".picture").replaceChildren(...shown);
    if (explanation.overlay !== null) this.#blend();
  }

  #blend() {
    const slider = this.#find(".heat input");
    this.#find(".overlay").style.opacity = String(slider.value / 100);
    this.#find(".heat output").textContent = slider.value === "0" ? "off" : `${slider.value}\u00a0%`;
  }

  #showNeighbours(explanation) {
    const box = this.#find(".explanation");
    const rows = explanation.neighbours.map((one) => {
      const name = make("strong", one.class_name === explanation.class_name ? "" : "other", one.class_name);
      const row = make("li", "", make("span", "", name, ` ${one.distance.toFixed(2)}`));
      if (one.thumbnail) {
        const picture = make("img", "");
        picture.src = one.thumbnail;
        picture.alt = `Training picture of ${one.class_name}`;
        row.prepend(picture);
      }
      // A long name is broken where a person would: copied, it is still in one piece.
      const parts = one.name.split(/(?<=[/_-])/).flatMap((part) => [part, document.createElement("wbr")]);
      const key = make("span", "key", ...parts);
      row.append(key);
      return row;
    });
    this.#find(".neighbours").replaceChildren(...rows);
    this.#find(".explanation h3").hidden = rows.length === 0;
    const areUnseen = rows.length > 0 && explanation.neighbours.every((one) => one.thumbnail === null);
    this.#find(".neighbours").classList.toggle("named", areUnseen);
    this.#find(".unseen").hidden = !areUnseen;
    this.#find(".faith").textContent = explanation.note;
    box.hidden = false;
  }

  async #copy(what) {
    const text = this.#find(`.${what}`);
    // Without https the browser gives no clipboard; the text is then selected, to be copied by hand.
    try {
      await navigator.clipboard.writeText(text.textContent);
      this.#say(what === "json" ? "The JSON is copied." : "The command is copied.");
    } catch {
      getSelection().selectAllChildren(text);
      this.#say("The text is selected: copy it with Ctrl C.");
    }
  }

  remove() {
    this.#abort.abort();
    this.element.remove();
  }

  #busy(isBusy) {
    const button = this.#find(".explain");
    button.ariaDisabled = isBusy ? "true" : "false";
    button.textContent = isBusy ? "Working, some seconds…" : "Show why";
    this.#label(".explain", button.textContent);
  }

  #set(state) {
    this.#state = state;
    this.#showAbsent();
    this.element.dataset.state = state;
  }

  #say(text) {
    this.#hooks.changed(this, text);
  }

  #title(text, detail = "") {
    const title = this.#find("h2");
    title.replaceChildren(make("span", "", text));
    if (detail) title.append(" ", make("span", "share", detail));
  }

  #text(selector, text) {
    this.#find(selector).textContent = text;
    this.#find(selector).hidden = text === "";
  }

  /** A screen reader that lists the buttons tells those of several pictures apart. */
  #label(selector, text) {
    this.#find(selector).setAttribute("aria-label", `${text}: ${this.name}`);
  }
}

/** Return a bitmap that is upright and small, so that many photos do not fill the memory. */
async function shrink(file) {
  const whole = await createImageBitmap(file);
  const scale = Math.min(1, PREVIEW / Math.max(whole.width, whole.height));
  const size = { resizeWidth: Math.ceil(whole.width * scale), resizeHeight: Math.ceil(whole.height * scale) };
  const small = await createImageBitmap(whole, { ...size, resizeQuality: "medium" });
  whole.close();
  return small;
}

export function make(tag, kind, ...content) {
  const element = document.createElement(tag);
  if (kind) element.className = kind;
  element.append(...content);
  return element;
}
