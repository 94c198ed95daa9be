// Frames from the server, ahead of when they are shown, and the clock that says which is next. Knows nothing of drawing.

const HEADER = 16; // bytes: tag, number of the frame, number of Gaussians, planes
const TAG = 0x46565347; // "GSVF", little-endian
const AT_ONCE = 2; // requests
const AHEAD = 12; // frames

// The planes of a message, each four words for every Gaussian.
export function parse(buffer) {
  const head = new DataView(buffer);
  if (buffer.byteLength < HEADER || head.getUint32(0, true) !== TAG) throw new Error("not a frame of codec view");
  const [frame, count, planes] = [4, 8, 12].map((at) => head.getUint32(at, true));
  if (buffer.byteLength !== HEADER + planes * count * 16) throw new Error(`frame ${frame} has another length than it says`);
  const plane = (k) => new Uint32Array(buffer, HEADER + k * count * 16, count * 4);
  return { frame, count, planes: Array.from({ length: planes }, (_, k) => plane(k)) };
}

async function get(path, signal) {
  const answer = await fetch(path, { signal });
  if (!answer.ok) throw new Error((await answer.text()).slice(0, 300) || `${path}: ${answer.status}`);
  return parse(await answer.arrayBuffer());
}

export class Player {
  // scene: of scene.json. harmonics: whether each frame comes with them. fails: what is called with an error.
  constructor(scene, { harmonics, fails, bytes = 256 << 20 }) {
    const words = 2 + (harmonics ? [0, 1, 2, 4][Math.min(scene.degree, 3)] : 0);
    this.n = scene.frames;
    this.fps = scene.fps;
    this.harmonics = harmonics && scene.degree > 0;
    this.fails = fails;
    this.room = Math.max(4, Math.min(this.n, Math.floor(bytes / (words * 16 * Math.max(1, scene.count)))));
    this.speed = 1;
    this.playing = false;
    this.clock = 0; // frames since the first, with fractions
    this.kept = new Map();
    this.asked = new Map(); // AbortController of each request
  }

  get wanted() {
    return Math.floor(this.clock) % this.n;
  }

  seek(frame) {
    this.clock = ((frame % this.n) + this.n) % this.n;
    this.fetch();
  }

  // The frame to show after so many seconds, or null while it isn't here: then the clock waits for it.
  advance(seconds) {
    const before = this.clock;
    if (this.playing) this.clock = (this.clock + Math.min(seconds, 1) * this.fps * this.speed) % this.n;
    const frame = this.kept.get(this.wanted);
    if (frame === undefined) this.clock = before;
    this.fetch();
    return frame ?? null;
  }

  // Ask for what comes next, forget what was shown long ago.
  fetch() {
    const first = this.wanted;
    const ahead = Math.min(AHEAD, this.room - 1, this.n - 1);
    const near = Array.from({ length: ahead + 1 }, (_, k) => (first + k) % this.n);
    for (const [frame, request] of this.asked) if (!near.includes(frame)) request.abort();
    for (const frame of near) {
      if (this.asked.size >= AT_ONCE) break;
      if (!this.kept.has(frame) && !this.asked.has(frame)) this.ask(frame);
    }
    for (const frame of this.kept.keys()) {
      if (this.kept.size <= this.room) break;
      if (!near.includes(frame)) this.kept.delete(frame);
    }
  }

  async ask(frame) {
    const request = new AbortController();
    this.asked.set(frame, request);
    try {
      const message = await get(`frames/${frame}`, request.signal);
      const more = this.harmonics ? await get(`frames/${frame}/harmonics`, request.signal) : { planes: [] };
      this.kept.set(frame, { frame, count: message.count, planes: message.planes, harmonics: more.planes });
    } catch (error) {
      if (error.name !== "AbortError") this.fails(error);
    } finally {
      this.asked.delete(frame);
    }
    if (!request.signal.aborted) this.fetch();
  }
}
