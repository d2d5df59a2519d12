"use strict";
const DATA = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
function el(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name === "on") for (const [event, act] of Object.entries(value)) node.addEventListener(event, act);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}
const whole = new Intl.NumberFormat("en");
const number = (value) => whole.format(value);
const twoDigits = (value) => String(value).padStart(2, "0");
function moment(ms, parts = "minute") {
  const text = new Date(ms).toISOString();
  return text.slice(0, 10) + " " + text.slice(11, parts === "ms" ? 23 : parts === "second" ? 19 : 16);
}
function size(bytes) {
  for (const unit of ["bytes", "kB", "MB", "GB"]) {
    if (bytes < 1000 || unit === "GB") return (bytes < 10 && unit !== "bytes" ? bytes.toFixed(1) : Math.round(bytes)) + " " + unit;
    bytes /= 1000;
  }
}
function duration(ms) {
  const s = Math.round(ms / 1000);
  if (s < 60) return (ms / 1000).toFixed(ms < 10000 ? 1 : 0) + " s";
  if (s < 3600) return Math.floor(s / 60) + " min " + (s % 60) + " s";
  return number(Math.floor(s / 3600)) + " h " + Math.floor((s % 3600) / 60) + " min";
}
const many = (count, thing) => number(count) + " " + thing + (count === 1 ? "" : "s");
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
const onTheme = (act) => matchMedia("(prefers-color-scheme: dark)").addEventListener("change", act);
