// What the page says: every sentence that depends on an answer.

const STATUS = {
  400: "The server did not understand what this page sent.",
  401: "The server requires an API key: enter it above.",
  403: "The server does not answer this page under this address.",
  408: "The picture arrived too slowly: the server stopped waiting.",
  413: "The picture is larger than this server takes.",
  415: "The server does not take this kind of file.",
  422: "The picture cannot be read.",
  429: "The server is busy with other pictures.",
  500: "The server failed at this picture; its log says why.",
  502: "The server behind this address does not answer.",
  503: "The server is starting or stopping.",
  504: "The server took too long.",
};

export const UNREACHABLE = "The server cannot be reached: it was stopped, or the network is gone.";
export const NO_PREVIEW = "No preview.";
export const GONE = "The browser cannot read this file: it was moved or changed, or it is a folder.";

export function share(number) {
  return `${(100 * number).toFixed(1)}\u00a0%`;
}

export function count(number, word) {
  return `${number.toLocaleString("en")} ${word}${number === 1 ? "" : "s"}`;
}

export function bytes(number) {
  if (number < 1e6) return `${Math.max(1, Math.round(number / 1e3))}\u00a0kB`;
  return `${Number((number / 1e6).toFixed(1))}\u00a0MB`;
}

/** Why a request has no answer: the server's own words where it has some, else those of a status. */
export function refusal(status, body) {
  // The server's own words are for programs, which send a header.
  if (status === 401) return STATUS[401];
  const said = typeof body?.error === "string" ? body.error : "";
  const hint = typeof body?.hint === "string" ? body.hint : "";
  const own = STATUS[status] ?? `The server answered with the status ${status}.`;
  return [said || own, hint].filter(Boolean).map(sentence).join(" ");
}

function sentence(text) {
  const first = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(first) ? first : `${first}.`;
}

export function isFar(prediction, rule) {
  return prediction.distance !== null && !(prediction.distance <= (rule?.max_distance ?? 1));
}

/** Why a picture is unknown; `rule` is the server's, where it is known. */
export function unknown(prediction, rule) {
  if (isFar(prediction, rule)) {
    return `Unlike the training pictures: distance ${prediction.distance.toFixed(2)}, and 1 is the limit.`;
  }
  const least = rule?.min_confidence;
  if (typeof least === "number" && least > 0) return `Unsure: below the minimum confidence, ${share(least)}.`;
  return "Unsure: below the minimum confidence.";
}

/** A distance in words: 1 is the limit that nearly all pictures like the training pictures keep. */
export function distance(number) {
  const figure = `distance ${number.toFixed(2)}; 1 is the limit`;
  if (!(number <= 1)) return `Unlike the training pictures (${figure}).`;
  if (number > 0.8) return `Hardly like the training pictures (${figure}).`;
  if (number > 0.5) return `Like the training pictures (${figure}).`;
  return `Much like the training pictures (${figure}).`;
}

/** A command that asks the same; a file's name is quoted for a shell. */
export function curl(name, type, address, hasKey) {
  const quote = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const key = hasKey ? ' -H "Authorization: Bearer $CLASSIFOLD_API_KEY"' : "";
  return `curl -H ${quote(`Content-Type: ${type}`)}${key} --data-binary ${quote(`@${name}`)} ${quote(address)}`;
}
