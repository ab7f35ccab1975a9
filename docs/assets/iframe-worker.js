// Browsers start no worker in a page that was opened from the disk, and the search runs in one. Here its script runs in a
// hidden frame instead, with the same messages. The theme would fetch a script of this name from elsewhere.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(address) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      this.inner = frame.contentWindow;
      this.inner.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      // Messages that are sent before the script runs would be lost.
      this.ready = new Promise((done) => {
        const script = frame.contentDocument.createElement("script");
        script.src = new URL(address, document.baseURI);
        script.onload = done;
        frame.contentDocument.body.append(script);
      });
    }

    postMessage(data) {
      this.ready.then(() => this.inner.dispatchEvent(new this.inner.MessageEvent("message", { data })));
    }
  };
}
