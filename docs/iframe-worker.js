/* Search on pages that are read from disk: browsers start no Worker from a file, so a hidden frame takes its place. */
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.appendChild(frame);
      addEventListener("message", (event) => {
        if (event.source === frame.contentWindow) {
          const copy = new MessageEvent("message", { data: event.data });
          this.dispatchEvent(copy);
          if (this.onmessage) this.onmessage(copy);
        }
      });
      const inner = frame.contentDocument;
      inner.open();
      inner.write(`<script>
        postMessage = (data) => parent.dispatchEvent(new MessageEvent("message", { data, source: window }));
        importScripts = (...names) => names.reduce((before, name) => before.then(() => new Promise((done) => {
          const script = document.createElement("script");
          script.src = name;
          script.onload = script.onerror = done;
          document.body.appendChild(script);
        })), Promise.resolve());
      <\/script><body><script src="${url}"><\/script>`);
      inner.close();
      this.ready = new Promise((done) => frame.addEventListener("load", done));
      this.frame = frame;
    }

    postMessage(data) {
      this.ready.then(() => this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data })));
    }

    terminate() {
      this.frame.remove();
    }
  };
}
