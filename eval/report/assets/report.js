"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const SVG = "http://www.w3.org/2000/svg";

  const element = (name, attributes = {}, ...children) => {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  };
  const drawn = (name, attributes = {}, text = null) => {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== null) made.textContent = text;
    return made;
  };
  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

  // ---- state: what the address after # says, so that a view can be sent as a link

  const pictures = data.crops;
  const defaults = () => ({
    metric: data.metrics.length ? data.metrics[0].name : "", rate: data.logRate ? "log" : "linear", hide: new Set(),
    picture: 0, left: null, right: null, slider: 50, zoom: "fit",
  });
  let state = defaults();

  const readAddress = () => {
    const given = new URLSearchParams(location.hash.slice(1));
    state = defaults();
    if (data.metrics.some((m) => m.name === given.get("metric"))) state.metric = given.get("metric");
    if (["log", "linear"].includes(given.get("rate"))) state.rate = given.get("rate");
    state.hide = new Set(given.getAll("hide"));
    const picture = Number.parseInt(given.get("picture"), 10) - 1;
    if (picture >= 0 && picture < pictures.length) state.picture = picture;
    state.left = given.get("left");
    state.right = given.get("right");
    if (given.get("slider") !== null && Number.isFinite(Number(given.get("slider"))))
      state.slider = clamp(Number(given.get("slider")), 0, 100);
    if (["1", "2", "3", "4", "8"].includes(given.get("zoom"))) state.zoom = given.get("zoom");
  };

  const writeAddress = () => {
    const plain = defaults();
    const said = new URLSearchParams();
    if (state.metric !== plain.metric) said.set("metric", state.metric);
    if (state.rate !== plain.rate) said.set("rate", state.rate);
    for (const name of state.hide) said.append("hide", name);
    if (state.picture) said.set("picture", String(state.picture + 1));
    if (state.left) said.set("left", state.left);
    if (state.right) said.set("right", state.right);
    if (state.slider !== plain.slider) said.set("slider", String(state.slider));
    if (state.zoom !== plain.zoom) said.set("zoom", state.zoom);
    // a browser may refuse this for files; the page works without
    try { history.replaceState(null, "", `#${said}`); } catch { /* nothing to do */ }
  };

  // ---- curves

  const colour = (curve) => (curve.kind === "published" ? "var(--grey)" : `var(--c${curve.slot % data.colours})`);
  const marker = (curve) => data.markers[(curve.slot + Math.floor(curve.slot / data.colours)) % data.markers.length];

  const outline = (shape, x, y, r) => {
    const at = (points) => `M${points.map(([dx, dy]) => `${(x + dx * r).toFixed(2)} ${(y + dy * r).toFixed(2)}`).join("L")}Z`;
    switch (shape) {
      case "square": return at([[-.88, -.88], [.88, -.88], [.88, .88], [-.88, .88]]);
      case "triangle": return at([[0, -1.2], [1.1, .8], [-1.1, .8]]);
      case "down": return at([[0, 1.2], [1.1, -.8], [-1.1, -.8]]);
      case "diamond": return at([[0, -1.25], [1.25, 0], [0, 1.25], [-1.25, 0]]);
      case "plus": return at([[-.4, -1.2], [.4, -1.2], [.4, -.4], [1.2, -.4], [1.2, .4], [.4, .4], [.4, 1.2], [-.4, 1.2],
        [-.4, .4], [-1.2, .4], [-1.2, -.4], [-.4, -.4]]);
      case "cross": return at([[-1.1, -.6], [-.6, -1.1], [0, -.5], [.6, -1.1], [1.1, -.6], [.5, 0], [1.1, .6], [.6, 1.1],
        [0, .5], [-.6, 1.1], [-1.1, .6], [-.5, 0]]);
      case "star": return at(Array.from({ length: 10 }, (_, i) => {
        const angle = Math.PI * i / 5, long = i % 2 ? .6 : 1.4;
        return [long * Math.sin(angle), -long * Math.cos(angle)];
      }));
      default: return `M${(x - r).toFixed(2)} ${y.toFixed(2)}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0Z`;
    }
  };

  const linearTicks = (low, high, wanted) => {
    const raw = (high - low) / wanted;
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw * .999);
    const ticks = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i += 1) ticks.push(i * step);
    return ticks;
  };
  const logTicks = (low, high, wanted) => {
    if (high < low * 4) return linearTicks(low, high, wanted).filter((v) => v > 0);
    const parts = high > low * 1000 ? [1] : [1, 2, 5];
    const ticks = [];
    for (let e = Math.floor(Math.log10(low)); e <= Math.log10(high); e += 1)
      for (const m of parts) { const v = m * 10 ** e; if (v >= low * .9999 && v <= high * 1.0001) ticks.push(v); }
    return ticks;
  };
  const tickText = (value) => String(Number(value.toPrecision(6))).replace("-", "−");

  const scale = (values, log, from, to, pad) => {
    const move = log ? Math.log10 : (v) => v;
    let low = Math.min(...values.map(move)), high = Math.max(...values.map(move));
    const room = (high - low || Math.abs(high) * .1 || 1) * pad;
    low -= room; high += room;
    if (!log && Math.min(...values) >= 0) low = Math.max(0, low);
    const place = (v) => from + (move(v) - low) / (high - low) * (to - from);
    const back = log ? (v) => 10 ** v : (v) => v;
    return { place, low: back(low), high: back(high), ticks: (n) => (log ? logTicks : linearTicks)(back(low), back(high), n) };
  };

  let spots = []; // points as drawn: {x, y, curve, point}
  let focused = null;

  const drawChart = () => {
    const metric = data.metrics.find((m) => m.name === state.metric);
    const box = $("chart");
    box.querySelector("svg")?.remove();
    hideTip();
    spots = [];
    if (!metric) return;
    const width = Math.max(260, box.clientWidth), height = width < 520 ? 320 : 460;
    const left = 52, right = 12, top = 26, bottom = 44;
    const svg = drawn("svg", { viewBox: `0 0 ${width} ${height}`, width, height, "aria-hidden": "true" });
    const visible = data.series.filter((s) => !state.hide.has(s.label));
    const placed = visible.flatMap((s) => s.points).filter((p) => p.y[metric.name] !== null && p.y[metric.name] !== undefined);
    svg.append(drawn("text", { x: 0, y: 14, class: "title" }, metric.axis));
    if (!placed.length) {
      svg.append(drawn("text", { x: left, y: height / 2 }, "nothing to draw: every curve with this metric is hidden"));
      box.prepend(svg);
      notes(metric);
      return;
    }
    const xs = scale(placed.map((p) => p.rate), state.rate === "log", left, width - right, .05);
    const ys = scale(placed.map((p) => p.y[metric.name]), metric.log, height - bottom, top, .05);
    for (const v of ys.ticks(height / 60)) {
      const y = ys.place(v);
      svg.append(drawn("line", { x1: left, x2: width - right, y1: y, y2: y, class: "grid" }));
      svg.append(drawn("text", { x: left - 8, y: y + 4, "text-anchor": "end" }, tickText(v)));
    }
    let last = -Infinity;
    for (const v of xs.ticks(width / 90)) {
      const x = xs.place(v), text = tickText(v);
      svg.append(drawn("line", { x1: x, x2: x, y1: top, y2: height - bottom, class: "grid" }));
      if (x - last < 14 + 7 * text.length) continue;
      last = x;
      svg.append(drawn("text", { x, y: height - bottom + 18, "text-anchor": "middle" }, text));
    }
    svg.append(drawn("text", { x: width - right, y: height - 6, "text-anchor": "end", class: "title" }, data.rate.unit));

    const order = { published: 0, peer: 1, ours: 2 }; // ours on top
    for (const curve of [...visible].sort((a, b) => order[a.kind] - order[b.kind])) {
      const group = drawn("g", { class: `curve ${curve.kind} d${curve.slot % 4}`, "data-codec": curve.label });
      group.style.color = colour(curve);
      const whole = [];
      for (const point of curve.points) {
        const value = point.y[metric.name];
        if (value === undefined) continue;
        const x = xs.place(point.rate);
        if (value === null) { // perfect: a tick at its rate, where that is in view
          if (point.perfect.includes(metric.name) && x >= left && x <= width - right) {
            const foot = height - bottom;
            group.append(drawn("line", { x1: x, x2: x, y1: foot, y2: foot - 12, class: "lossless", stroke: "currentColor" }));
            group.append(drawn("text", { x: x + 4, y: foot - 18, transform: `rotate(-90 ${x + 4} ${foot - 18})` }, curve.name));
          }
          continue;
        }
        const y = ys.place(value);
        spots.push({ x, y, curve, point });
        if (point.complete) whole.push([x, y]);
      }
      if (whole.length > 1)
        group.append(drawn("path", { d: `M${whole.map(([x, y]) => `${x.toFixed(2)} ${y.toFixed(2)}`).join("L")}`, stroke: "currentColor" }));
      for (const spot of spots) {
        if (spot.curve !== curve) continue;
        const shape = spot.point.complete ? marker(curve) : "cross";
        const size = curve.kind === "published" ? 2.2 : curve.kind === "ours" ? 4.6 : 3.8;
        group.append(drawn("path", { d: outline(curve.kind === "published" ? "circle" : shape, spot.x, spot.y, size), class: "point", stroke: "currentColor" }));
      }
      svg.append(group);
    }
    svg.append(drawn("circle", { r: 9, class: "halo", hidden: "" }));
    svg.querySelector(".halo").style.display = "none";
    box.prepend(svg);
    notes(metric);
  };

  const notes = (metric) => {
    const words = [metric.about && metric.about.replace(/\.?$/, ".")];
    const perfect = data.series
      .map((s) => [s.label, s.points.filter((p) => p.perfect.includes(metric.name))])
      .filter(([, points]) => points.length)
      .map(([name, points]) => `${name} at ${points[0].rateText}`);
    if (perfect.length) words.push(`Without loss, so not on the scale: ${perfect.join(", ")}.`);
    if (data.series.some((s) => s.points.some((p) => !p.complete && typeof p.y[metric.name] === "number")))
      words.push("A cross without a line: some items failed there, so that its mean isn't comparable.");
    $("chart-notes").textContent = words.filter(Boolean).join(" ");
  };

  const hideTip = () => {
    focused = null;
    $("tip").hidden = true;
    const halo = document.querySelector("#chart .halo");
    if (halo) halo.style.display = "none";
  };
  const showTip = (spot) => {
    focused = spot;
    const tip = $("tip"), box = $("chart");
    const { curve, point } = spot;
    const lines = [element("b", {}, curve.label)];
    if (point.spec !== curve.name) lines.push(document.createElement("br"), point.spec);
    else if (point.setting) lines.push(document.createElement("br"), `setting ${point.setting}`);
    lines.push(document.createElement("br"), `${point.rateText}, ${point.text[state.metric]}`);
    if (curve.kind === "published") lines.push(document.createElement("br"), "published, not measured here");
    if (!point.complete) lines.push(document.createElement("br"), `only ${point.items ?? "some"} items`);
    tip.replaceChildren(...lines);
    tip.hidden = false;
    const x = spot.x + 14 + tip.offsetWidth > box.clientWidth ? spot.x - 14 - tip.offsetWidth : spot.x + 14;
    tip.style.left = `${Math.max(0, x)}px`;
    tip.style.top = `${Math.max(0, spot.y - tip.offsetHeight - 10)}px`;
    const halo = document.querySelector("#chart .halo");
    halo.setAttribute("cx", spot.x);
    halo.setAttribute("cy", spot.y);
    halo.style.display = "";
    $("chart-status").textContent = tip.innerText.replaceAll("\n", ", ");
  };

  const nearest = (x, y) => {
    let best = null, distance = 45;
    for (const spot of spots) {
      const d = Math.hypot(spot.x - x, spot.y - y);
      if (d < distance) { best = spot; distance = d; }
    }
    return best;
  };
  const point = (event) => {
    const frame = $("chart").getBoundingClientRect();
    const spot = nearest(event.clientX - frame.left, event.clientY - frame.top);
    if (spot) showTip(spot); else hideTip();
  };
  const walk = (event) => {
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (event.key === "Escape") hideTip();
    if (!step || !spots.length) return;
    event.preventDefault();
    const curves = data.series.filter((s) => spots.some((spot) => spot.curve === s));
    if (!focused) { showTip(spots.find((spot) => spot.curve === curves[0])); return; }
    const [down, along] = step;
    if (along) {
      const own = spots.filter((spot) => spot.curve === focused.curve);
      showTip(own[clamp(own.indexOf(focused) + along, 0, own.length - 1)]);
    } else {
      const next = curves[(curves.indexOf(focused.curve) + down + curves.length) % curves.length];
      const own = spots.filter((spot) => spot.curve === next);
      showTip(own.reduce((a, b) => (Math.abs(a.x - focused.x) <= Math.abs(b.x - focused.x) ? a : b)));
    }
  };

  const drawLegend = () => {
    const legend = $("legend");
    legend.replaceChildren();
    const headings = { ours: "Ours", peer: "Others, measured here", published: "Published, not measured here" };
    for (const [kind, heading] of Object.entries(headings)) {
      const curves = data.series.filter((s) => s.kind === kind && s.points.some((p) => p.y[state.metric] !== undefined));
      if (!curves.length) continue;
      legend.append(element("h3", {}, heading));
      for (const curve of curves) {
        const sample = drawn("svg", { width: 26, height: 14, viewBox: "0 0 26 14", "aria-hidden": "true" });
        sample.style.color = colour(curve);
        const dash = curve.kind === "published" ? ["6 3", "2 2", "9 3 2 3", "1 3"][curve.slot % 4] : "none";
        sample.append(drawn("path", { d: "M0 7H26", stroke: "currentColor", "stroke-width": kind === "ours" ? 3 : 1.5, "stroke-dasharray": dash }));
        if (kind !== "published")
          sample.append(drawn("path", { d: outline(marker(curve), 13, 7, 4), stroke: "currentColor", "stroke-width": 1.5, fill: kind === "ours" ? "currentColor" : "var(--bg)" }));
        const button = element("button", { type: "button", "data-codec": curve.label, "aria-pressed": String(!state.hide.has(curve.label)) });
        if (curve.source) button.title = curve.source;
        button.append(sample, element("span", {}, kind === "published" ? curve.name : curve.label));
        button.addEventListener("click", () => {
          if (!state.hide.delete(curve.label)) state.hide.add(curve.label);
          button.setAttribute("aria-pressed", String(!state.hide.has(curve.label)));
          drawChart();
          writeAddress();
        });
        const dim = (on) => {
          for (const group of document.querySelectorAll("#chart .curve"))
            group.classList.toggle("dim", on && !state.hide.has(curve.label) && group.dataset.codec !== curve.label);
        };
        button.addEventListener("pointerenter", () => dim(true));
        button.addEventListener("pointerleave", () => dim(false));
        legend.append(button);
      }
    }
  };

  const startChart = () => {
    if (!data.metrics.length) return;
    $("chart-block").hidden = false;
    $("metric").replaceChildren(...data.metrics.map((m) => element("option", { value: m.name }, m.name)));
    $("metric").addEventListener("change", (event) => { state.metric = event.target.value; drawLegend(); drawChart(); filterDeltas(); writeAddress(); });
    for (const radio of document.querySelectorAll('input[name="rate"]'))
      radio.addEventListener("change", () => { state.rate = radio.value; drawChart(); writeAddress(); });
    const box = $("chart");
    box.addEventListener("pointermove", point);
    box.addEventListener("pointerdown", point);
    box.addEventListener("pointerleave", hideTip);
    box.addEventListener("blur", hideTip);
    box.addEventListener("keydown", walk);
    let width = 0;
    new ResizeObserver(() => { if (box.clientWidth !== width) { width = box.clientWidth; drawChart(); } }).observe(box);
  };

  // ---- before and after

  const sides = ["left", "right"];
  const shown = (side) => {
    const views = pictures[state.picture].views;
    const wanted = views.find((v) => v.key === state[side]);
    return wanted ?? views[side === "left" ? 0 : Math.min(1, views.length - 1)];
  };
  const drawComparison = () => {
    const picture = pictures[state.picture];
    for (const side of sides) {
      const view = shown(side), select = $(side);
      select.replaceChildren(...picture.views.map((v) => element("option", { value: v.key }, v.key)));
      select.value = view.key;
      const image = $(`image-${side}`);
      if (image.getAttribute("src") !== data.images[view.image]) image.src = data.images[view.image];
      image.alt = `${picture.item}, ${view.key}`;
      const label = [element("b", {}, view.key)];
      for (const line of view.lines) label.push(document.createElement("br"), line);
      $(`label-${side}`).replaceChildren(...label);
    }
    $("picture").value = String(state.picture);
    $("zoom").value = state.zoom;
    $("compare-note").textContent = picture.note;
    sizeStage();
    moveCut();
  };
  const sizeStage = () => {
    const picture = pictures[state.picture];
    const room = $("compare").clientWidth - 2;
    const fits = Math.min(Math.floor(room / picture.width), Math.floor(innerHeight * .8 / picture.height));
    const zoom = state.zoom === "fit" ? clamp(fits, 1, 8) : Number(state.zoom);
    $("stage").style.width = `${picture.width * zoom}px`;
    $("stage").style.height = `${picture.height * zoom}px`;
    const frame = picture.width * zoom + 2; // with its border
    for (const below of ["slider", "sides"]) $(below).style.width = frame < 420 ? "" : `${frame}px`;
  };
  const moveCut = () => {
    $("slider").value = String(state.slider);
    $("image-left").style.clipPath = `inset(0 ${100 - state.slider}% 0 0)`;
    $("cut").style.left = `${state.slider}%`;
    $("slider").setAttribute("aria-valuetext", `${state.slider} % ${shown("left").key}, the rest ${shown("right").key}`);
  };
  const startComparison = () => {
    if (!pictures.length) return;
    $("compare").hidden = false;
    $("picture").replaceChildren(...pictures.map((p, i) => element("option", { value: i }, p.title)));
    $("picture").addEventListener("change", (event) => { state.picture = Number(event.target.value); drawComparison(); writeAddress(); });
    for (const side of sides)
      $(side).addEventListener("change", (event) => { state[side] = event.target.value; drawComparison(); writeAddress(); });
    $("swap").addEventListener("click", () => {
      [state.left, state.right] = [shown("right").key, shown("left").key];
      drawComparison();
      writeAddress();
    });
    $("zoom").addEventListener("change", (event) => { state.zoom = event.target.value; sizeStage(); writeAddress(); });
    $("slider").addEventListener("input", (event) => { state.slider = Number(event.target.value); moveCut(); });
    $("slider").addEventListener("change", writeAddress);
    const stage = $("stage");
    const drag = (event) => {
      const frame = stage.getBoundingClientRect();
      state.slider = clamp(Math.round((event.clientX - frame.left) / frame.width * 200) / 2, 0, 100);
      moveCut();
    };
    stage.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      event.preventDefault();
      stage.setPointerCapture(event.pointerId);
      drag(event);
    });
    stage.addEventListener("pointermove", (event) => { if (stage.hasPointerCapture(event.pointerId)) drag(event); });
    stage.addEventListener("pointerup", writeAddress);
    addEventListener("resize", sizeStage);
  };

  // ---- sounds: one at a time, and the next goes on where the last one was

  const startPlayers = () => {
    const players = [...document.querySelectorAll(".takes audio")];
    for (const player of players)
      player.addEventListener("play", () => {
        for (const other of players) {
          if (other === player || other.paused) continue;
          other.pause();
          if (other.closest(".takes") === player.closest(".takes")) player.currentTime = other.currentTime;
        }
      });
  };

  // ---- tables

  const startTables = () => {
    for (const table of document.querySelectorAll("table.sortable")) {
      const heads = [...table.tHead.rows[0].cells];
      heads.forEach((head, column) => {
        const button = element("button", { type: "button" });
        button.append(head.firstChild); // the name; the unit below it stays text
        head.prepend(button);
        button.addEventListener("click", () => {
          const up = head.getAttribute("aria-sort") !== "ascending";
          for (const other of heads) other.removeAttribute("aria-sort");
          head.setAttribute("aria-sort", up ? "ascending" : "descending");
          const body = table.tBodies[0];
          const rows = [...body.rows].map((row) => {
            const cell = row.cells[column];
            const value = cell?.dataset.v;
            return { row, text: cell?.textContent ?? "", value: value === undefined || value === "" ? null : Number(value), none: !cell || value === "" };
          });
          rows.sort((a, b) => {
            if (a.none !== b.none) return a.none ? 1 : -1; // what isn't known stays last
            const order = a.value !== null && b.value !== null ? (a.value === b.value ? 0 : a.value < b.value ? -1 : 1)
              : a.text.localeCompare(b.text, "en", { numeric: true });
            return up ? order : -order;
          });
          body.append(...rows.map((r) => r.row));
        });
      });
    }
  };
  const filterDeltas = () => {
    const all = $("bd-all");
    if (!all) return;
    let count = 0;
    for (const row of document.querySelectorAll("#bd tbody tr")) {
      row.hidden = !all.checked && row.dataset.metric !== state.metric;
      count += row.hidden ? 0 : 1;
    }
    $("bd-none").hidden = count > 0;
    $("bd-none").textContent = `No comparison was computed for ${state.metric}.`;
  };
  const startDeltas = () => {
    const all = $("bd-all");
    if (!all) return;
    $("bd-controls").hidden = false;
    all.checked = !data.metrics.length;
    all.addEventListener("change", filterDeltas);
  };

  const show = () => {
    if (data.metrics.length) {
      $("metric").value = state.metric;
      for (const radio of document.querySelectorAll('input[name="rate"]')) radio.checked = radio.value === state.rate;
      drawLegend();
      drawChart();
    }
    if (pictures.length) drawComparison();
    filterDeltas();
  };
  readAddress();
  startChart();
  startComparison();
  startPlayers();
  startTables();
  startDeltas();
  show();
  addEventListener("hashchange", () => {
    if (location.hash && !location.hash.includes("=")) return; // a jump to a section
    readAddress();
    show();
  });
})();
