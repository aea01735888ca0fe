// The connection to the server, made again whenever it ends: after 1, 2, 4 … 15 s.

const LONGEST = 15000;
const SILENCE = 6000;

export class Socket {
  constructor(heard, lost) {
    this.heard = heard;
    this.lost = lost;
    this.pause = 1000;
    this.open();
  }

  open() {
    const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`);
    this.socket = socket;
    this.watch(socket);
    socket.addEventListener("message", (event) => {
      if (socket !== this.socket) return;
      this.pause = 1000;
      this.watch(socket);
      this.heard(JSON.parse(event.data));
    });
    socket.addEventListener("close", () => this.again(socket));
  }

  /** The server speaks every second: silence is a lost connection that nobody told of. */
  watch(socket) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      socket.close();
      this.again(socket);
    }, SILENCE);
  }

  again(socket) {
    if (socket !== this.socket) return;
    this.socket = null;
    clearTimeout(this.timer);
    this.lost(this.pause);
    setTimeout(() => this.open(), this.pause);
    this.pause = Math.min(2 * this.pause, LONGEST);
  }

  send(message) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }
}
