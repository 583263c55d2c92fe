// What a browser adds to a page that works without it: the time zone, other views without a reload,
// figures as they change, and what a chart says under a pointer or an arrow key. Everything shown
// was written by the server.

const RECONNECT_MS = [500, 1000, 2000, 4000, 8000, 15000];
const RETRY_MS = 5000;
const SESSION_ENDED = 4401;

const view = () => document.getElementById("view");

// Makes `old` like `next` with what is already there: a link that has the focus keeps it, a table
// that was opened stays open, and what did not change is not touched.
function morph(old, next) {
  if (old.nodeType !== Node.ELEMENT_NODE || old.nodeName !== next.nodeName) {
    if (old.nodeType === next.nodeType && old.nodeName === next.nodeName) {
      if (old.data !== next.data) old.data = next.data;
    } else {
      old.replaceWith(document.importNode(next, true));
    }
    return;
  }
  for (const { name, value } of [...next.attributes]) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  for (const { name } of [...old.attributes]) {
    const isTheReaders = name === "open" && old.nodeName === "DETAILS";
    if (!next.hasAttribute(name) && !isTheReaders) old.removeAttribute(name);
  }
  if (old.nodeName === "INPUT" && document.activeElement !== old) old.value = next.value;
  morphChildren(old, next);
}

function morphChildren(old, next) {
  const before = [...old.childNodes];
  const after = [...next.childNodes];
  after.forEach((node, number) => {
    if (number < before.length) morph(before[number], node);
    else old.append(document.importNode(node, true));
  });
  before.slice(after.length).forEach((node) => node.remove());
}

// The time zone of this browser, for addresses that name none.
function tellTimeZone() {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  if (!zone || zone === view().dataset.zone) return false;
  if (new URLSearchParams(location.search).has("timezone")) return false;
  const secure = location.protocol === "https:" ? "; Secure" : "";
  document.cookie = `timezone=${zone}; Path=/; Max-Age=31536000; SameSite=Strict${secure}`;
  return document.cookie.includes(`timezone=${zone}`);
}

// Other views.
let loading = 0;

async function load(address, isNew) {
  const mine = ++loading;
  hideTip();
  let response;
  try {
    response = await fetch(address, { headers: { Accept: "text/html" } });
  } catch {
    if (isNew) location.assign(address);
    else timer = setTimeout(() => load(address, false), RETRY_MS);
    return;
  }
  if (response.status === 401) {
    location.assign(address);
    return;
  }
  const next = new DOMParser().parseFromString(await response.text(), "text/html");
  if (mine !== loading || !next.getElementById("view")) return;
  if (isNew) history.pushState(null, "", address);
  document.title = next.title;
  for (const open of document.querySelectorAll(".custom[open]")) open.open = false;
  morph(view(), next.getElementById("view"));
  showLive("", "");
  connect();
}

function addressOf(form) {
  const given = [...new FormData(form)].filter(([, value]) => value !== "");
  const query = new URLSearchParams(given).toString();
  return query ? `/?${query}` : "/";
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-view]");
  if (!link || event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  load(link.getAttribute("href"), true);
});
document.addEventListener("submit", (event) => {
  if (event.target.hasAttribute("data-plain")) return;
  event.preventDefault();
  load(addressOf(event.target), true);
});
document.addEventListener("change", (event) => {
  if (event.target.matches("#filters select")) load(addressOf(event.target.form), true);
});
document.addEventListener("keydown", (event) => {
  const custom = event.key === "Escape" && document.querySelector(".custom[open]");
  if (custom) {
    custom.open = false;
    custom.querySelector("summary").focus();
  }
});
addEventListener("popstate", () => load(location.pathname + location.search, false));

// Figures as they change.
let socket = null;
let attempts = 0;
let timer = 0;

function showLive(text, state) {
  const line = document.getElementById("live");
  if (line.textContent !== text) line.textContent = text;
  line.className = state;
}

function connect() {
  clearTimeout(timer);
  if (socket) {
    socket.onclose = null;
    socket.close();
  }
  if ("retry" in view().dataset) timer = setTimeout(() => load(location.pathname + location.search, false), RETRY_MS);
  if (!view().dataset.asOf) return;
  const mine = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/live`);
  socket = mine;
  mine.onopen = () => {
    mine.send(JSON.stringify({ query: location.search.slice(1), as_of: view().dataset.asOf }));
    attempts = 0;
    showLive("live", "on");
  };
  mine.onmessage = (event) => {
    const message = JSON.parse(event.data);
    if (message.failure) showLive(message.failure, "off");
    else show(message);
  };
  mine.onclose = (event) => {
    socket = null;
    if (event.code === SESSION_ENDED) {
      showLive("not live: sign in again", "off");
      return;
    }
    showLive(event.reason ? `not live: ${event.reason}` : "not live, trying again", "off");
    const longest = RECONNECT_MS[Math.min(attempts++, RECONNECT_MS.length - 1)];
    timer = setTimeout(connect, longest * (0.5 + Math.random() / 2));
  };
}

function show({ as_of: asOf, html }) {
  // Both are what Python writes of a time in UTC: their order is that of the text, but for a missing
  // fraction of a second, which never is.
  if (Date.parse(asOf) < Date.parse(view().dataset.asOf)) return;
  view().dataset.asOf = asOf;
  for (const [id, text] of Object.entries(html)) {
    const part = document.getElementById(id);
    if (!part) {
      load(location.pathname + location.search, false);
      return;
    }
    const next = new DOMParser().parseFromString(`<div>${text}</div>`, "text/html");
    morphChildren(part, next.body.firstChild);
  }
  if (pointed !== null) point(pointed);
  showLive("live", "on");
}

addEventListener("online", connect);
addEventListener("pageshow", (event) => event.persisted && connect());

// What the chart says. The table below it has the words.
let pointed = null;

const tip = () => document.getElementById("tip");

function geometry() {
  const drawing = [...document.querySelectorAll(".plot svg")].find((svg) => svg.getClientRects().length);
  if (!drawing) return null;
  const { left, right, count } = drawing.dataset;
  const scale = drawing.getBoundingClientRect().width / drawing.viewBox.baseVal.width;
  return { drawing, left: left * scale, right: right * scale, count: Number(count) };
}

function point(number, isTold = false) {
  const where = geometry();
  const row = document.querySelectorAll("#chart .twin tbody tr")[number];
  if (!where || !row) return hideTip();
  pointed = number;
  const step = where.count > 1 ? (where.right - where.left) / (where.count - 1) : 0;
  const x = where.count > 1 ? where.left + number * step : (where.left + where.right) / 2;
  const guide = document.querySelector(".plot .guide");
  guide.hidden = false;
  guide.style.left = `${x}px`;
  const [period, now, before] = row.children;
  const name = document.createElement("strong");
  name.textContent = period.textContent.trim().replace(/\s+/g, " ");
  const lines = [name, now.textContent.trim()];
  if (before?.textContent.trim()) lines.push(document.createElement("br"), `before: ${before.textContent.trim()}`);
  tip().replaceChildren(...lines);
  tip().hidden = false;
  const plot = document.querySelector(".plot").getBoundingClientRect();
  const width = tip().offsetWidth;
  const ahead = plot.left + x + 12 + width < innerWidth - 8;
  tip().style.left = `${Math.max(8, scrollX + plot.left + x + (ahead ? 12 : -12 - width))}px`;
  tip().style.top = `${scrollY + plot.top + 12}px`;
  if (isTold) document.getElementById("told").textContent = tip().innerText.replace(/\n/g, ", ");
}

function hideTip() {
  pointed = null;
  tip().hidden = true;
  const guide = document.querySelector(".plot .guide");
  if (guide) guide.hidden = true;
}

document.addEventListener("pointermove", (event) => {
  const plot = event.target.closest?.(".plot");
  if (!plot) {
    if (pointed !== null && !document.activeElement.matches(".plot")) hideTip();
    return;
  }
  const where = geometry();
  if (!where || !where.count) return;
  const x = event.clientX - where.drawing.getBoundingClientRect().left;
  const share = (x - where.left) / (where.right - where.left || 1);
  point(Math.min(where.count - 1, Math.max(0, Math.round(share * (where.count - 1)))));
});
document.addEventListener("keydown", (event) => {
  if (!event.target.matches(".plot")) return;
  const last = (geometry()?.count ?? 0) - 1;
  const from = pointed ?? last + (event.key === "ArrowLeft" ? 1 : 0);
  const to = { ArrowLeft: from - 1, ArrowRight: pointed === null ? last : from + 1, Home: 0, End: last }[event.key];
  if (event.key === "Escape") hideTip();
  if (to === undefined || last < 0) return;
  event.preventDefault();
  point(Math.min(last, Math.max(0, to)), true);
});
document.addEventListener("focusout", (event) => event.target.matches(".plot") && hideTip());

if (tellTimeZone()) load(location.pathname + location.search, false);
else connect();
