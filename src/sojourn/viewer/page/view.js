// The pages of `sojourn view`: forms that answer at once, pages that follow the run, keys.
const live = () => document.querySelectorAll("[data-live]");
let stamp = document.body.dataset.stamp;

async function load(address, push) {
  const answer = await fetch(address, {headers: {Accept: "text/html"}});
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const part of live()) {
    const fresh = page.getElementById(part.id);
    if (!fresh || fresh.innerHTML === part.innerHTML) continue;
    const open = [...part.querySelectorAll("details")].map(d => d.open);
    part.replaceChildren(...fresh.childNodes);
    const details = part.querySelectorAll("details");
    if (details.length === open.length) details.forEach((d, i) => { d.open = open[i]; });
  }
  stamp = page.body.dataset.stamp;
  if (push) history.replaceState(null, "", address);
  sift();
}

for (const form of document.querySelectorAll("form[data-auto]")) {
  const go = () => {
    const given = new URLSearchParams([...new FormData(form)].filter(([, value]) => value !== ""));
    load(`${location.pathname}?${given}`, true);
  };
  let waiting = 0;
  form.addEventListener("submit", event => { event.preventDefault(); clearTimeout(waiting); go(); });
  form.addEventListener("change", go);
  form.addEventListener("input", event => {
    if (event.target.type !== "search" && event.target.type !== "text") return;
    clearTimeout(waiting);
    waiting = setTimeout(go, 350);
  });
}

// Charts whose metric has what was typed in its name.
const sieve = document.getElementById("metric");
function sift() {
  if (!sieve) return;
  const wanted = sieve.value.toLowerCase();
  for (const figure of document.querySelectorAll("figure[data-name]")) figure.hidden = !figure.dataset.name.toLowerCase().includes(wanted);
  for (const room of document.querySelectorAll("details.room")) room.hidden = !room.querySelector("figure:not([hidden])");
}
if (sieve) sieve.addEventListener("input", sift);

// Names of tools are looked for in every message, so only when somebody asks.
const tools = document.getElementById("tools");
if (tools) document.querySelector("[list=tools]").addEventListener("focus", async () => {
  const names = await (await fetch(tools.dataset.from)).json();
  tools.replaceChildren(...names.map(name => Object.assign(document.createElement("option"), {value: name})));
}, {once: true});

async function follow() {
  if (document.hidden || !live().length || !document.body.dataset.watch) return;
  try {
    const now = await (await fetch(document.body.dataset.watch)).text();
    document.body.classList.remove("lost");
    if (now !== stamp) await load(location.href, false);
  } catch { document.body.classList.add("lost"); }
}
setInterval(follow, 2000);

const press = selector => { const found = document.querySelector(selector); if (found) found.click(); };
let chosen = -1;
function choose(step) {
  const rows = [...document.querySelectorAll("tr[data-href], li[data-href]")];
  if (!rows.length) return;
  rows[chosen]?.classList.remove("chosen");
  chosen = Math.max(0, Math.min(rows.length - 1, chosen + step));
  rows[chosen].classList.add("chosen");
  rows[chosen].scrollIntoView({block: "nearest"});
}
const keys = {
  "/": () => (document.querySelector("input[type=search]") || sieve)?.focus(), "d": () => themeButton.click(),
  "j": () => choose(1), "k": () => choose(-1), "n": () => press("[data-key=next]"), "p": () => press("[data-key=previous]"),
  "g": () => press("[data-key=group]"), "b": () => press("[data-key=task]"), "t": () => press("[data-key=tokens]"),
  "r": () => press("[data-key=runs]"), "o": () => press("[data-key=overview]"), "e": () => press("[data-key=episodes]"),
  "h": () => press("[data-key=health]"), "c": () => setColour({author: "advantage", advantage: "logp", logp: "author"}[document.body.dataset.color]),
  "?": () => { const help = document.getElementById("keys"); help.open ? help.close() : help.showModal(); },
};
document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.closest("input, select, textarea");
  if (typing) { if (event.key === "Escape") typing.blur(); return; }
  if (event.key === "Enter" && chosen >= 0 && event.target === document.body) return press(".chosen a");
  if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
});
document.getElementById("help").onclick = keys["?"];
