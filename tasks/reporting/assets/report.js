"use strict";
const M = DATA.markets, CONDITIONS = DATA.conditions, ROWS = 25, DAYS = 35;
const DAY_MS = 86400000;

function said(day) {
  const texts = day.told.replace(/^(degraded|partial|missing)(; |$)/, "").split("; ").filter(Boolean);
  return texts.map((text) => {
    const plain = text.replace(/(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)\.\d+Z/g, (_, date, time) => date === day.date ? time : date + " " + time).replace(/^and /, "").replace(/_/g, " ");
    return plain[0].toUpperCase() + plain.slice(1);
  });
}
function atAGlance() {
  const t = DATA.totals;
  $("period").textContent = t.first === null ? "No ticks" : moment(t.first) + " to " + moment(t.last) + " UTC";
  const days = DATA.days, newest = days[days.length - 1];
  if (newest) {
    const name = CONDITIONS[newest.condition];
    $("verdict").className = "verdict " + name;
    $("verdict").append(el("strong", {}, newest.date + " is " + name),
      newest.told ? el("ul", {}, ...said(newest).map((text) => el("li", {}, text))) : el("span", {}, many(newest.markets, "market") + ", " + many(newest.ticks, "tick") + ". No hole was found in the recording."));
  }
  const byCondition = CONDITIONS.map((_, c) => days.filter((day) => day.condition === c).length);
  for (const [name, value] of [
    ["Markets", number(t.markets)], ["Ticks", number(t.ticks)], ["Messages", number(t.messages)],
    ["Size", size(t.bytes)], ["Days", number(days.filter((day) => day.ticks).length)], ["Good days", byCondition[0] + " of " + days.length],
  ]) $("totals").append(el("div", {}, el("dt", {}, name), el("dd", {}, value)));
  if (DATA.changes.length) $("changes").textContent = "The last run that wrote: " + DATA.changes.map(([name, count]) => number(count) + " " + name).join(", ") + ".";
}

let allDays = false;
function coverage() {
  const of = DATA.types[$("coverage-type").selectedIndex][1];
  const most = Math.max(1, ...Object.values(of).flat());
  const step = (ticks) => ticks ? 1 + Math.min(5, Math.floor(6 * Math.log(ticks + 1) / Math.log(most + 1))) : 0;
  const heat = $("heat");
  heat.replaceChildren(el("caption", { class: "unseen" }, "Ticks by day and hour"),
    el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Day"), ...Array.from({ length: 24 }, (_, hour) => el("th", { scope: "col", class: "hour" }, twoDigits(hour))),
      el("th", { scope: "col", class: "sum" }, "Ticks"), el("th", { scope: "col", class: "state" }, "Condition"))));
  const body = el("tbody");
  const order = DATA.days.map((_, position) => position).reverse();
  for (const position of allDays ? order : order.slice(0, DAYS)) {
    const day = DATA.days[position], hours = of[position] || Array(24).fill(0), start = Date.parse(day.date + "T00:00Z");
    body.append(el("tr", {},
      el("th", { scope: "row" }, el("button", { type: "button", title: "Show the markets of this day", on: { click: () => chooseDay(position) } }, day.date)),
      ...hours.map((ticks, hour) => {
        const from = start + hour * 3600000, hole = day.gaps.find(([a, b]) => a < from + 3600000 && b > from);
        const text = twoDigits(hour) + ":00 " + many(ticks, "tick") + (hole ? ", nothing from " + moment(hole[0], "second") + " to " + moment(hole[1], "second") : "");
        return el("td", { class: "h h" + step(ticks) + (hole ? " hole" : ""), title: text }, el("span", { class: "unseen" }, number(ticks) + (hole ? " with a gap" : "")));
      }),
      el("td", { class: "sum" }, number(hours.reduce((a, b) => a + b, 0))),
      el("td", { class: "state" }, el("span", { class: "badge " + CONDITIONS[day.condition], title: day.told || null }, CONDITIONS[day.condition]))));
  }
  heat.append(body);
  $("more-days").hidden = allDays || DATA.days.length <= DAYS;
  $("more-days").textContent = "Show all " + number(DATA.days.length) + " days";
}
function legend() {
  const box = $("legend");
  box.append("fewer");
  for (let step = 0; step < 7; step++) box.append(el("i", { style: "background: var(--h" + step + ")" }));
  box.append("more ticks ", el("i", { style: "box-shadow: inset 0 0 0 2px var(--hole)" }), "gap in the recording");
}
function chooseDay(position) {
  $("by-day").value = String(position);
  filter();
  $("markets").scrollIntoView();
  $("by-day").focus({ preventScroll: true });
}

let plot = null;
function latency() {
  const rows = DATA.latency, box = $("latency");
  if (plot) plot.destroy();
  const worst = rows.reduce((a, b) => (b[3] > a[3] ? b : a), rows[0] || [0, 0, 0, 0]);
  $("latency-text").textContent = rows.length
    ? "From publish time to arrival at the recorder, by hour with ticks. At its worst " + duration(worst[3]) + " on " + moment(worst[0] * 3600000) + "."
    : "No messages.";
  if (!rows.length) { box.hidden = true; return; }
  const x = rows.map((_, position) => position), label = (position) => rows[position] ? moment(rows[position][0] * 3600000) : "";
  const axis = { stroke: colour("soft"), grid: { stroke: colour("line"), width: 1 }, ticks: { stroke: colour("line") } };
  const ms = (u, value) => value === null || value === undefined ? "–" : value < 1000 ? Math.round(value) + " ms" : (value / 1000).toFixed(1) + " s";
  const line = (name, shade, dash) => ({ label: name, stroke: colour(shade), width: 2, dash, value: ms, points: { show: rows.length < 40 } });
  plot = new uPlot({
    width: box.clientWidth, height: 220, scales: { x: { time: false }, y: { distr: 3 } }, cursor: { y: false, drag: { setScale: true } },
    series: [{ label: "Hour", value: (u, value) => value === null ? "–" : label(value) }, line("Median", "back"), line("95 %", "traded"), line("Greatest", "partial", [4, 3])],
    axes: [{ ...axis, space: 110, values: (u, splits) => splits.map((at) => Number.isInteger(at) ? label(at).slice(5) : "") },
      { ...axis, size: 64, values: (u, splits) => splits.map((at) => at === null ? "" : ms(u, at)) }],
  }, [x, rows.map((row) => row[1] || 0.5), rows.map((row) => row[2] || 0.5), rows.map((row) => row[3] || 0.5)], box);
}

const COLUMNS = [
  ["Market", (i) => M.name[i] || M.id[i]], ["Type", (i) => M.types[M.type[i]]], ["Start", (i) => M.start[i] || ""],
  ["Ticks", (i) => M.ticks[i], true], ["Messages", (i) => M.messages[i], true], ["Recorded", (i) => M.first[i] || 0], ["Favourite’s price", null], ["Condition", (i) => M.condition[i]], ["Open", null],
];
let shown = [], page = 0, sortedBy = 3, descending = true, open = new Set();
const texts = M.id.map((id, i) => [id, M.event[i], M.name[i], M.types[M.type[i]], M.runners[i]].join(" ").toLowerCase());

function filter() {
  const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean), condition = $("by-condition").value, type = $("by-type").value, day = $("by-day").value;
  const from = day === "" ? 0 : Date.parse(DATA.days[day].date + "T00:00Z"), to = from + DAY_MS;
  shown = M.id.map((_, i) => i).filter((i) => words.every((word) => texts[i].includes(word)) && (condition === "" || M.condition[i] === +condition)
    && (type === "" || M.type[i] === +type) && (day === "" || (M.first[i] !== null && M.first[i] < to && M.last[i] >= from)));
  page = 0;
  order();
}
function order() {
  const key = COLUMNS[sortedBy][1], sign = descending ? -1 : 1;
  shown.sort((a, b) => { const x = key(a), y = key(b); return (x < y ? -1 : x > y ? 1 : M.id[a] < M.id[b] ? -1 : 1) * sign; });
  draw();
}
function sort(column) {
  descending = sortedBy === column ? !descending : column === 3 || column === 4;
  sortedBy = column;
  page = 0;
  order();
  $("table").querySelectorAll("thead th")[column].querySelector("button").focus();
}
function picture(text) {
  if (!text) return el("span", { class: "quiet" }, "–");
  const shades = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg"), line = document.createElementNS(space, "polyline");
  svg.setAttribute("viewBox", "0 0 128 34"); svg.setAttribute("aria-hidden", "true");
  line.setAttribute("points", [...text].map((shade, n) => (2 + n * 124 / (text.length - 1)).toFixed(1) + "," + (31 - 28 * shades.indexOf(shade) / (shades.length - 1)).toFixed(1)).join(" "));
  svg.append(line);
  return svg;
}
function why(i) {
  const list = M.reasons[i].map(([reason, count, note, intervals]) => {
    const [, title, text] = DATA.reasons[reason];
    return el("li", {}, el("strong", {}, title), " × " + number(count) + (note ? " (a note). " : ". ") + text,
      intervals.length ? el("small", {}, intervals.map(([a, b]) => a === b ? moment(a, "ms") : moment(a, "ms") + " to " + moment(b, "ms") + " (" + duration(b - a) + ")").join("; ")) : null);
  });
  return el("tr", { class: "why", id: "why-" + M.id[i] }, el("td", { colspan: COLUMNS.length }, list.length ? el("ul", {}, ...list) : "No reason against it was found."));
}
function row(i) {
  const name = CONDITIONS[M.condition[i]], id = M.id[i], file = "markets/marketId=" + id + "." + DATA.format;
  const line = el("tr", { class: "row" },
    el("td", {}, el("span", { class: "name" }, M.name[i] || "(no name)"), el("span", { class: "id" }, id + (M.event[i] ? " · event " + M.event[i] : ""))),
    el("td", { class: "wide type" }, M.types[M.type[i]].replaceAll("_", "_\u200b")), el("td", { class: "wide id" }, M.start[i] ? M.start[i].slice(0, 10) + " " + M.start[i].slice(11, 16) : "–"),
    el("td", { class: "number" }, number(M.ticks[i])), el("td", { class: "number wide" }, number(M.messages[i])),
    el("td", { class: "wide id" }, M.first[i] === null ? "–" : duration(M.last[i] - M.first[i])),
    el("td", { class: "picture" }, picture(M.picture[i])),
    el("td", { class: "state" }, el("button", { type: "button", class: "badge " + name, "aria-expanded": open.has(i) ? "true" : "false", "aria-controls": open.has(i) ? "why-" + id : null,
      on: { click: () => { open.has(i) ? open.delete(i) : open.add(i); draw(); document.querySelector('[data-of="' + id + '"]').focus(); } }, "data-of": id }, name)),
    el("td", { class: "links" }, M.plot[i] ? el("a", { href: "plots/marketId=" + encodeURIComponent(id) + ".html", "aria-label": "Plot of market " + id }, "Plot") : null,
      el("a", { href: file, "aria-label": "File of market " + id, download: true }, "File")));
  return open.has(i) ? [line, why(i)] : [line];
}
function draw() {
  const table = $("table"), pages = Math.max(1, Math.ceil(shown.length / ROWS));
  page = Math.min(page, pages - 1);
  table.replaceChildren(el("caption", { class: "unseen" }, "Markets"),
    el("thead", {}, el("tr", {}, ...COLUMNS.map(([name, key, isNumber], n) => el("th", { scope: "col", class: isNumber ? "number" : null, "aria-sort": key && sortedBy === n ? (descending ? "descending" : "ascending") : null },
      key ? el("button", { type: "button", on: { click: () => sort(n) } }, name) : el("span", {}, name))))),
    el("tbody", {}, ...shown.slice(page * ROWS, page * ROWS + ROWS).flatMap(row)));
  $("found").textContent = shown.length === M.id.length ? many(shown.length, "market") : number(shown.length) + " of " + many(M.id.length, "market");
  const step = (by, text) => el("button", { type: "button", disabled: page + by < 0 || page + by >= pages, on: { click: () => { page += by; draw(); $("markets").scrollIntoView(); } } }, text);
  $("pages").replaceChildren(...(pages > 1 ? [step(-1, "Previous"), el("span", {}, "Page " + number(page + 1) + " of " + number(pages)), step(1, "Next")] : []));
}
function choices() {
  $("coverage-type").append(...DATA.types.map(([name]) => el("option", {}, name || "all")));
  const options = (id, entries) => $(id).append(el("option", { value: "" }, "all"), ...entries.map(([value, text]) => el("option", { value }, text)));
  options("by-condition", CONDITIONS.map((name, n) => [n, name]).filter(([n]) => M.condition.includes(n)));
  options("by-type", M.types.map((name, n) => [n, name]));
  options("by-day", DATA.days.map((day, n) => [n, day.date]).reverse());
  for (const id of ["search", "by-condition", "by-type", "by-day"]) $(id).addEventListener("input", filter);
  $("coverage-type").addEventListener("input", coverage);
  $("more-days").addEventListener("click", () => { allDays = true; coverage(); });
}
function reasons() {
  const met = new Set(M.reasons.flat().map(([reason]) => reason));
  $("reasons").append(...DATA.reasons.map(([, title, text, note], n) => el("div", {}, el("dt", {}, title[0].toUpperCase() + title.slice(1), note ? el("small", {}, "a note") : null, met.has(n) ? el("small", {}, "met here") : null), el("dd", {}, text))));
}
function wanted() {  // report.html#1.200806927 shows that market
  const id = decodeURIComponent(location.hash.slice(1));
  if (!M.id.includes(id)) return;
  $("search").value = id;
  filter();
  $("markets").scrollIntoView();
}
atAGlance(); choices(); coverage(); legend(); filter(); reasons(); latency(); wanted();
addEventListener("hashchange", wanted);
onTheme(latency);
let width = innerWidth;
addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; plot && plot.setSize({ width: $("latency").clientWidth, height: 220 }); } });
