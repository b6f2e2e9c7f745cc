// What the cloud tells by itself: that a ticket, a vehicle or the platform has changed. Without it the page asks as often as its views say.

export class Events {
  constructor(onnews, onstate) {
    this.onnews = onnews;
    this.onstate = onstate;
    this.source = null;
  }

  open() {
    if (this.source) return;
    const source = (this.source = new EventSource("/api/events"));
    for (const kind of ["ticket", "vehicle"]) source.addEventListener(kind, () => this.onnews(kind));
    source.addEventListener("open", () => this.onstate(true));
    source.addEventListener("error", () => {
      this.onstate(false);
      if (source.readyState === EventSource.CLOSED) this.source = null; // refused: a browser does not try that again by itself
    });
  }

  close() {
    this.source?.close();
    this.source = null;
  }
}
