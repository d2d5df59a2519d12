"use strict";
const R = DATA.replay, RUNNERS = DATA.runners, COUNT = R.moments, LEVELS = 8, CELLS = 2 * LEVELS;
let T, priceAt, sizeAt, tradedAt, volumeAt, now = 0;

async function unpack() {
  const bytes = Uint8Array.from(atob(R.arrays), (c) => c.charCodeAt(0));
  const raw = new Uint8Array(await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"))).arrayBuffer());
  let at = COUNT * 8;
  T = new Float64Array(raw.buffer.slice(0, at));
  const take = (series, Kind) => {
    const width = Kind.BYTES_PER_ELEMENT, length = series * COUNT, values = new Kind(length);
    for (let byte = 0; byte < width; byte++) { const plane = at + byte * length; for (let n = 0; n < length; n++) values[n] |= raw[plane + n] << (8 * byte); }
    at += width * length;
    for (let s = 0; s < series; s++) for (let n = s * COUNT + 1; n < (s + 1) * COUNT; n++) values[n] += values[n - 1];
    return values;
  };
  priceAt = take(RUNNERS.length * CELLS, Uint16Array);
  sizeAt = take(RUNNERS.length * CELLS, Uint32Array);
  tradedAt = take(RUNNERS.length, Uint16Array);
  volumeAt = take(RUNNERS.length, Uint32Array);
}
const cell = (runner, side, level) => ((runner * 2 + side) * LEVELS + level) * COUNT;
const best = (runner, side) => { const from = cell(runner, side, 0); return Array.from({ length: COUNT }, (_, n) => R.prices[priceAt[from + n]] || null); };
const tone = (place) => colour("r" + (place % 10));
const drawn = new Set(DATA.order.slice(0, DATA.shown));
const placeOf = new Map(DATA.order.map((runner, place) => [runner, place]));

let charts = [], range = null;
function bands(u) {
  const { ctx, bbox } = u, x = (ms) => Math.min(Math.max(u.valToPos(ms / 1000, "x", true), bbox.left), bbox.left + bbox.width);
  ctx.save();
  ctx.fillStyle = colour("shade");
  for (const [a, b] of DATA.in_play) ctx.fillRect(x(a), bbox.top, x(b) - x(a), bbox.height);
  for (const [a, b] of DATA.gaps) {
    const left = x(a), width = Math.max(x(b) - left, 2 * devicePixelRatio);
    if (left >= bbox.left + bbox.width || x(b) <= bbox.left) continue;
    ctx.globalAlpha = 0.16; ctx.fillStyle = colour("hole"); ctx.fillRect(left, bbox.top, width, bbox.height);
    ctx.globalAlpha = 0.9; ctx.fillRect(left, bbox.top, width, 4 * devicePixelRatio);
  }
  ctx.restore();
}
function mark(u) {
  const x = u.valToPos(T[now] / 1000, "x", true), { ctx, bbox } = u;
  if (x < bbox.left || x > bbox.left + bbox.width) return;
  ctx.save(); ctx.strokeStyle = colour("accent"); ctx.lineWidth = 1.5 * devicePixelRatio;
  ctx.beginPath(); ctx.moveTo(x, bbox.top); ctx.lineTo(x, bbox.top + bbox.height); ctx.stroke(); ctx.restore();
}
function draw() {
  charts.forEach((chart) => chart.destroy());
  const x = Array.from(T, (ms) => ms / 1000), runners = DATA.order.filter((runner) => drawn.has(runner));
  const axis = { stroke: colour("soft"), grid: { stroke: colour("line"), width: 1 }, ticks: { stroke: colour("line") } };
  const narrow = innerWidth < 640, stepped = uPlot.paths.stepped({ align: 1 });
  const shared = (height) => ({
    width: $("prices").clientWidth, height, tzDate: (s) => uPlot.tzDate(new Date(s * 1000), "UTC"), legend: { show: false },
    cursor: { sync: { key: "replay", setSeries: false }, points: { show: false }, y: false, drag: { x: true, y: false } },
    hooks: { drawClear: [bands], draw: [mark], setCursor: [(u) => { if (u.cursor.idx !== null && u.cursor.event && !playing) show(u.cursor.idx); }],
      setScale: [(u, key) => { if (key === "x") { const { min, max } = u.scales.x; if (!range || range[0] !== min || range[1] !== max) { range = [min, max]; charts.forEach((other) => other !== u && other.setScale("x", { min, max })); pressed(); } } }] },
  });
  const time = { ...axis, space: narrow ? 70 : 90, values: clock }, side = (more) => ({ ...axis, size: narrow ? 48 : 64, ...more });
  const lines = runners.flatMap((runner) => {
    const stroke = tone(placeOf.get(runner));
    return [
      { stroke, width: 1.75, paths: stepped, points: { show: false } }, { stroke: stroke + "80", width: 1, paths: stepped, points: { show: false } },
      { stroke: null, paths: () => null, points: { show: true, size: 3, fill: stroke, stroke, width: 0, filter: tradedPoints } },
    ];
  });
  const values = runners.flatMap((runner) => [best(runner, 0), best(runner, 1), Array.from({ length: COUNT }, (_, n) => R.prices[tradedAt[runner * COUNT + n]] || null)]);
  const label = (value) => value === null || value === undefined ? "" : String(+value.toPrecision(4));
  charts = [
    new uPlot({ ...shared(narrow ? 280 : 400), scales: { y: { distr: 3, range: (u, low, high) => [Math.max(1, low * 0.985), Math.max(low * 1.03, high * 1.03)] } }, series: [{}, ...lines],
      axes: [time, side({ space: 34, filter: (u, splits) => splits, splits: (u, _, low, high) => LADDER.filter((price) => price >= low && price <= high), values: (u, splits) => thin(u, splits).map(label), grid: { show: false }, ticks: { show: false } })] }, [x, ...values], $("prices")),
    new uPlot({ ...shared(narrow ? 110 : 130), title: "Traded volume", series: [{}, ...runners.map((runner) => ({ stroke: tone(placeOf.get(runner)), width: 1.5, paths: stepped, points: { show: false } }))],
      axes: [time, side({ space: 30, values: (u, splits) => splits.map((v) => v >= 1e6 ? v / 1e6 + "M" : v >= 1e3 ? v / 1e3 + "k" : String(v)) })] },
      [x, ...runners.map((runner) => Array.from(volumeAt.subarray(runner * COUNT, (runner + 1) * COUNT)))], $("volumes")),
  ];
  if (range) charts.forEach((chart) => chart.setScale("x", { min: range[0], max: range[1] }));
}
const LADDER = [1, 2, 3, 4, 5, 6, 7, 8, 9].flatMap((n) => [n, n * 10, n * 100]).concat([1.01, 1.02, 1.05, 1.1, 1.15, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8, 1.9, 2.2, 2.4, 2.6, 2.8, 3.25, 3.5, 3.75, 4.5, 5.5, 12, 15, 25, 150, 250, 1000]).sort((a, b) => a - b);
function clock(u, splits, _, space, step) {
  return splits.map((s, n) => {
    const text = new Date(s * 1000).toISOString(), date = text.slice(0, 10), time = step < 60 ? text.slice(11, 19) : text.slice(11, 16);
    if (step >= 86400) return date.slice(5);
    return n === 0 || new Date(splits[n - 1] * 1000).toISOString().slice(0, 10) !== date ? time + "\n" + date : time;
  });
}
function thin(u, splits) { let last = -1e9; return splits.map((price) => { const y = u.valToPos(price, "y"); if (Math.abs(y - last) < 24) return null; last = y; return price; }); }
function tradedPoints(u, series, visible, gaps) {
  const [from, to] = u.series[0].idxs, runner = DATA.order.filter((one) => drawn.has(one))[Math.floor((series - 1) / 3)], found = [];
  const step = Math.max(1, Math.floor((to - from) / 1500)), base = runner * COUNT;
  for (let n = Math.max(from, 1); n <= to; n += step) if (volumeAt[base + n] !== volumeAt[base + n - 1] && tradedAt[base + n]) found.push(n);
  return found;
}

let rows = [];
function ladder() {
  const head = el("tr", {}, el("th", { scope: "col" }, "Runner"), ...Array.from({ length: CELLS }, (_, n) => n < LEVELS ? el("th", { scope: "col", class: n === LEVELS - 1 ? "of-back" : null }, n === LEVELS - 1 ? "Back" : String(LEVELS - n)) : el("th", { scope: "col", class: n === LEVELS ? "of-lay" : null }, n === LEVELS ? "Lay" : String(n - LEVELS + 1))));
  const body = el("tbody");
  rows = DATA.order.map((runner) => {
    const info = el("small"), cells = Array.from({ length: CELLS }, (_, n) => {
      const side = n < LEVELS ? 0 : 1, level = side ? n - LEVELS : LEVELS - 1 - n, td = el("td", { "data-cell": side + "." + level }, el("b"), el("i"));
      return { td, from: cell(runner, side, level), name: (side ? "lay" : "back") + (level ? "" : "1"), price: td.firstChild, size: td.lastChild };
    });
    body.append(el("tr", { "data-runner": RUNNERS[runner][0] }, el("th", { scope: "row" }, RUNNERS[runner][1], info), ...cells.map((one) => one.td)));
    return { runner, info, cells };
  });
  $("ladder").append(el("caption", { class: "unseen" }, "Best eight prices to back and to lay with sizes"), el("thead", {}, head), body);
}
const money = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });
let asked = false;
function show(n, immediately) {
  now = Math.min(Math.max(n, 0), COUNT - 1);
  if (immediately) return paint();
  if (!asked) { asked = true; requestAnimationFrame(() => { asked = false; paint(); }); }
}
function paint() {
  for (const { runner, info, cells } of rows) {
    for (const one of cells) {
      const price = R.prices[priceAt[one.from + now]];
      one.price.textContent = price ? price : "";
      one.size.textContent = price ? money.format(sizeAt[one.from + now] / 100) : "";
      one.td.className = price ? one.name : "none";
    }
    const last = R.prices[tradedAt[runner * COUNT + now]], volume = volumeAt[runner * COUNT + now];
    info.textContent = volume ? (last ? "traded " + last + ", " : "") + number(volume) : "nothing traded";
  }
  $("moment").textContent = moment(T[now], "ms") + " UTC";
  $("slider").value = now;
  $("slider").setAttribute("aria-valuetext", moment(T[now], "ms"));
  const playing = DATA.in_play.some(([a, b]) => T[now] >= a && T[now] < b);
  $("ladder-text").textContent = "As stored at " + moment(T[now], "ms") + " UTC" + (playing ? ", in play." : ".");
  charts.forEach((chart) => chart.redraw(false));
}

let playing = false, began = 0, beganAt = 0, stepTimer = 0;
function play(on) {
  playing = on;
  $("play").textContent = on ? "Pause" : "Play";
  if (on && now === COUNT - 1) show(0, true);
  began = performance.now(); beganAt = T[now];
  if (on) requestAnimationFrame(tick);
}
function tick(at) {
  if (!playing) return;
  const speed = +$("speed").value;
  if (!speed) { if (at - stepTimer > 60) { stepTimer = at; show(now + 1, true); } }
  else {
    let n = now;
    const reached = beganAt + (at - began) * speed;
    while (n < COUNT - 1 && T[n + 1] <= reached) n++;
    if (n === now && T[n + 1] - reached > 3000 * speed) { beganAt = T[n + 1] - 1000 * speed; began = at; } // nothing happens for long
    if (n !== now) show(n, true);
  }
  if (now >= COUNT - 1) play(false); else requestAnimationFrame(tick);
}

const RANGES = [["All", () => [T[0] / 1000, T[COUNT - 1] / 1000]]];
const off = DATA.in_play.length ? DATA.in_play[0][0] : DATA.start ? Date.parse(DATA.start) : null;
function ranges() {
  if (off !== null && T[0] < off - 3600000 && T[COUNT - 1] > off - 3600000) RANGES.push(["From an hour before the off", () => [off / 1000 - 3600, T[COUNT - 1] / 1000]]);
  if (DATA.in_play.length && T[COUNT - 1] > DATA.in_play[0][0] + 1000) RANGES.push(["In play", () => [Math.max(DATA.in_play[0][0], T[0]) / 1000, Math.min(DATA.in_play[DATA.in_play.length - 1][1], T[COUNT - 1]) / 1000]]);
  $("ranges").append(...RANGES.map(([name, of]) => el("button", { type: "button", on: { click: () => { const [min, max] = of(); charts[0].setScale("x", { min, max }); if (T[now] / 1000 < min || T[now] / 1000 > max) { let n = 0; while (n < COUNT - 1 && T[n] / 1000 < min) n++; show(n); } } } }, name)));
}
function pressed() {
  [...$("ranges").children].forEach((button, n) => { const [min, max] = RANGES[n][1](); button.setAttribute("aria-pressed", range && Math.abs(range[0] - min) < 1 && Math.abs(range[1] - max) < 1 ? "true" : "false"); });
}
function chips() {
  $("chips").append(...DATA.order.map((runner, place) => el("button", { type: "button", "aria-pressed": String(drawn.has(runner)), style: "--of: var(--r" + (place % 10) + ")", on: { click: (event) => {
    drawn.has(runner) ? drawn.delete(runner) : drawn.add(runner);
    event.currentTarget.setAttribute("aria-pressed", String(drawn.has(runner)));
    draw();
  } } }, RUNNERS[runner][1])));
}
function about() {
  const start = DATA.start ? "start " + moment(Date.parse(DATA.start)) + " UTC" : null;
  $("about").append([DATA.type, DATA.market, start].filter(Boolean).join(" · ") + " ", el("span", { class: "badge " + DATA.condition, title: DATA.reasons.map(([title, count]) => title + " × " + count).join(", ") || null }, DATA.condition));
  $("chart-text").textContent = "Best back (strong), best lay (pale) and traded price (dots)" + (DATA.in_play.length ? "; in play shaded" : "") + (DATA.gaps.length ? "; gaps red" : "") + ". Move over it to see the ladder at that moment; drag to zoom, double-click to zoom out. "
    + (R.messages > COUNT ? number(COUNT) + " moments of " + number(R.messages) + " messages, evenly chosen." : many(COUNT, "message") + ".");
}
(async () => {
  about();
  if (!COUNT) { $("wait").textContent = "This market has no ticks."; return; }
  await unpack();
  $("wait").hidden = true; $("chart-card").hidden = false; $("ladder-card").hidden = false;
  $("slider").max = COUNT - 1;
  ranges();
  if (RANGES.length > 1 && RANGES[1][0].startsWith("From") && T[COUNT - 1] - T[0] > 4 * 3600000) range = RANGES[1][1]();
  chips(); draw(); ladder();
  $("ladder-scroll").scrollLeft = ($("ladder").scrollWidth - $("ladder-scroll").clientWidth) / 2 + 10;
  show(off !== null && off > T[0] && off < T[COUNT - 1] ? T.findIndex((ms) => ms >= off - 60000) : COUNT - 1, true);
  pressed();
  $("slider").addEventListener("input", () => { play(false); show(+$("slider").value); });
  $("back").addEventListener("click", () => { play(false); show(now - 1); });
  $("forth").addEventListener("click", () => { play(false); show(now + 1); });
  $("play").addEventListener("click", () => play(!playing));
  $("speed").addEventListener("input", () => { began = performance.now(); beganAt = T[now]; });
  onTheme(draw);
  let width = innerWidth;
  addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; draw(); } });
  document.documentElement.dataset.ready = "true";
})();
