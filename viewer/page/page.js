// The page: what the controls and the keyboard do. An address may end in #frame=3&background=black&up=z&azimuth=30
// &elevation=10&zoom=1.5&speed=0.5&play=1, all of it optional.

import { Player } from "./player.js";

const HARMONICS_A_FRAME = 600_000; // words; a sequence with more in a frame is played in the colours of f_dc
const $ = (id) => document.getElementById(id);

function say(words) {
  $("message").textContent = words;
  $("message").hidden = !words;
  if (words) document.body.dataset.failed = words;
}

function bytes(n) {
  if (n === null) return "–";
  const power = Math.min(3, Math.floor(Math.log10(Math.max(n, 1)) / 3));
  return `${(n / 1000 ** power).toLocaleString("en", { maximumFractionDigits: 1 })} ${["bytes", "kB", "MB", "GB"][power]}`;
}

function facts(scene) {
  document.title = `${scene.name} – codec view`;
  $("name").textContent = $("name").title = scene.name;
  const each = scene.frames > 1 && scene.bytes !== null ? `, ${bytes(scene.bytes / scene.frames)} a frame` : "";
  $("size").textContent = bytes(scene.bytes) + each;
  $("count").textContent = scene.count.toLocaleString("en");
  $("frames").textContent = `${scene.frames} at ${Number(scene.fps.toFixed(3))} a second`;
  $("scrub").max = scene.frames - 1;
  document.body.toggleAttribute("data-still", scene.frames === 1);
}

async function begin() {
  const answer = await fetch("scene.json");
  if (!answer.ok) throw new Error(await answer.text());
  const scene = await answer.json();
  facts(scene);
  let Stage;
  try {
    ({ Stage } = await import("./stage.js"));
  } catch (error) {
    throw new Error(`The renderer can't be loaded: ${error.message}`);
  }
  let stage;
  try {
    stage = new Stage($("stage"), scene);
  } catch (error) {
    throw new Error(`This browser can't draw the scene: it has no WebGL 2, or it is switched off. (${error.message})`);
  }
  const coefficients = scene.count * ((Math.min(scene.degree, 3) + 1) ** 2 - 1);
  const player = new Player(scene, {
    harmonics: scene.frames === 1 || coefficients <= HARMONICS_A_FRAME,
    fails: (error) => say(error.message),
  });
  run(scene, stage, player);
}

function run(scene, stage, player) {
  let [shown, drawn, since] = [null, 0, performance.now()];
  const view = { up: scene.up, background: scene.background };

  const look = (given = {}) => stage.look(view.up, given.azimuth, given.elevation, given.zoom);
  const paint = (name) => {
    view.background = document.body.dataset.background = name === "black" ? "black" : "white";
    stage.background(view.background);
  };
  const play = (on) => {
    player.playing = on && scene.frames > 1;
    $("play").toggleAttribute("data-playing", player.playing);
    $("play").setAttribute("aria-label", player.playing ? "Pause" : "Play");
    if (!player.playing) $("rate").textContent = "–";
    [drawn, since] = [0, performance.now()];
  };
  const seek = (frame) => {
    play(false);
    player.seek(frame);
    history.replaceState(null, "", `#frame=${player.wanted}`);
  };

  function obey() {
    const words = new URLSearchParams(location.hash.slice(1));
    const number = (name, fallback) => {
      const value = words.has(name) ? Number(words.get(name)) : fallback;
      return Number.isFinite(value) ? value : fallback;
    };
    view.up = words.get("up") ?? view.up;
    $("up").value = view.up;
    paint(words.get("background") ?? view.background);
    const given = ["azimuth", "elevation", "zoom"].filter((name) => words.has(name));
    if (given.length || !stage.controls || words.has("up")) {
      look({ azimuth: number("azimuth", 0), elevation: number("elevation", 0), zoom: Math.max(0.01, number("zoom", 1)) });
    }
    if (words.has("speed")) $("speed").value = String((player.speed = Math.min(10, Math.max(0.01, number("speed", 1)))));
    if (words.has("frame")) player.seek(Math.max(0, Math.floor(number("frame", 0))));
    if (words.has("play")) play(words.get("play") !== "0");
  }

  $("play").onclick = () => play(!player.playing);
  $("scrub").oninput = () => seek(Number($("scrub").value));
  $("speed").onchange = () => (player.speed = Number($("speed").value));
  $("up").onchange = () => {
    view.up = $("up").value;
    look();
  };
  $("background").onclick = () => paint(view.background === "white" ? "black" : "white");
  $("reset").onclick = () => look();
  for (const button of document.querySelectorAll("button")) button.addEventListener("pointerup", () => button.blur());

  const keys = {
    " ": () => play(!player.playing),
    ArrowLeft: () => seek(player.wanted - 1),
    ArrowRight: () => seek(player.wanted + 1),
    Home: () => seek(0),
    End: () => seek(scene.frames - 1),
    b: $("background").onclick,
    r: $("reset").onclick,
  };
  window.addEventListener("keydown", (event) => {
    const act = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    const busy = event.target.closest?.("select") || (event.key === " " && event.target.closest?.("button"));
    if (!act || busy || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    act();
  });
  window.addEventListener("hashchange", obey);

  let last = performance.now();
  function tick(now) {
    requestAnimationFrame(tick);
    const frame = player.advance((now - last) / 1000);
    last = now;
    if (frame && frame !== shown) {
      stage.show(frame);
      shown = frame;
      drawn += 1;
      $("scrub").value = frame.frame;
      $("frame").textContent = `${frame.frame} / ${scene.frames - 1}`;
      $("message").hidden = true;
    }
    if (player.playing && now - since > 1000) {
      $("rate").textContent = `${((1000 * drawn) / (now - since)).toFixed(1)} a second`;
      [drawn, since] = [0, now];
    }
    stage.controls.update();
    stage.draw();
    document.body.dataset.shown = shown && stage.settled ? shown.frame : "";
  }

  obey();
  player.fetch();
  requestAnimationFrame(tick);
}

begin().catch((error) => say(error.message));
