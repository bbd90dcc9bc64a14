// What the dashboard's pages gain by a script: charts, new calls as they come, the viewer's time zone, a
// choice of light and dark. The pages are whole without it. It makes no markup from texts: rows come
// from the server as the pages themselves do, and charts get names with their marks taken out.
"use strict";

(() => {
  const root = document.documentElement;
  const THEMES = ["auto", "light", "dark"];
  const LIVE_MS = 2000;
  const ROWS = 500;
  const SERIES = ["#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#a463f2", "#97bbf5", "#9c6b4e"];
  const OTHERS = "#9498a0";

  // Some browsers refuse to remember anything.
  const memory = {
    get(name) { try { return localStorage.getItem(name); } catch { return null; } },
    set(name, value) { try { localStorage.setItem(name, value); } catch { /* not remembered, then */ } },
  };

  function theme() {
    const known = memory.get("tokenmeter-theme");
    return THEMES.includes(known) ? known : "auto";
  }

  function show(chosen) {
    if (chosen === "auto") delete root.dataset.theme;
    else root.dataset.theme = chosen;
  }

  // Before anything is painted.
  root.classList.add("scripted");
  show(theme());

  // The server makes the page anew in the viewer's zone: once, and only if it can be remembered.
  function settleZone() {
    const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
    if (!zone || new URLSearchParams(location.search).has("tz")) return false;
    const cookie = `tokenmeter_tz=${zone}`;
    const isKnown = () => document.cookie.split("; ").includes(cookie);
    if (isKnown()) return false;
    document.cookie = `${cookie}; max-age=31536000; samesite=strict`;
    if (zone === root.dataset.zone || !isKnown()) return false;
    location.reload();
    return true;
  }

  function themeSwitch() {
    const button = document.getElementById("theme");
    if (!button) return;
    const name = () => { button.textContent = `Theme: ${theme()}`; };
    button.hidden = false;
    name();
    button.addEventListener("click", () => {
      memory.set("tokenmeter-theme", THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length]);
      show(theme());
      name();
      drawAll();
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  }

  // ---- charts

  // plotly reads some marks in texts; names have none that mean anything.
  const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

  // A colour as it is now, by day or by night.
  function colour(name) {
    const probe = document.createElement("i");
    probe.style.color = `var(--${name})`;
    document.body.append(probe);
    const found = getComputedStyle(probe).color;
    probe.remove();
    return found;
  }

  // So many names of places as there is room for.
  function ticks(names, width) {
    const room = Math.max(2, Math.floor(width / 90));
    const step = Math.max(1, Math.ceil(names.length / room));
    const at = names.map((_, index) => index).filter((index) => index % step === 0);
    return { tickmode: "array", tickvals: at, ticktext: at.map((index) => plain(names[index])) };
  }

  const of = (index) => SERIES[index] ?? OTHERS;

  // Beside the drawing, where it wraps as text does.
  function legend(place, chart) {
    if (chart.shape === "points" || chart.series.length < 2) return;
    const list = document.createElement("ul");
    list.className = "legend";
    list.setAttribute("aria-hidden", "true");
    chart.series.forEach((series, index) => {
      const item = document.createElement("li");
      const dot = document.createElement("span");
      dot.className = "dot";
      dot.style.background = of(index);
      const name = document.createElement("bdi");
      name.textContent = series.name;
      item.append(dot, name);
      list.append(item);
    });
    place.after(list);
  }

  function traces(chart) {
    if (chart.shape === "points") {
      return chart.series.map((series, index) => ({
        type: "scatter", mode: "markers+text", name: plain(series.name), x: series.x, y: series.values,
        // Names of more would lie upon each other; pointing at the others tells theirs.
        text: [index < SERIES.length ? plain(series.name) : ""], textposition: "top center", cliponaxis: false,
        marker: { size: 13, color: of(index) }, hovertext: [plain(`${series.name}: ${series.shown[0]}`)],
        hoverinfo: "text", customdata: series.links,
      }));
    }
    const places = chart.x.map((_, index) => index);
    const said = (series, at) => {
      if (series.shown[at] === "") return "";
      const whole = chart.totals[at] ? `<br>${plain(`${chart.totals[at]} in all`)}` : "";
      const name = chart.series.length > 1 ? `${series.name}: ` : "";
      // No other marks: for bold letters plotly sets a style attribute, which the page's policy forbids.
      return `${plain(chart.x[at])}<br>${plain(name + series.shown[at])}${whole}`;
    };
    return chart.series.map((series, index) => ({
      type: "bar", name: plain(series.name), x: places, y: series.values, marker: { color: of(index) },
      hovertext: places.map((at) => said(series, at)),
      // A bar of nothing has nothing to say.
      hoverinfo: series.shown.map((shown) => (shown === "" ? "skip" : "text")),
    }));
  }

  function layout(chart, width) {
    const [text, quiet, line, panel] = ["text", "quiet", "line", "panel"].map(colour);
    const axis = { gridcolor: line, zerolinecolor: line, linecolor: line, fixedrange: true, automargin: true };
    return {
      barmode: chart.shape === "beside" ? "group" : "stack",
      bargap: chart.x.length > 60 ? 0.05 : 0.2,
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: "system-ui, sans-serif", size: 12, color: quiet },
      margin: { l: 48, r: 12, t: 10, b: 32 },
      showlegend: false,
      hovermode: "closest",
      hoverlabel: { bgcolor: panel, bordercolor: line, font: { color: text } },
      xaxis: {
        ...axis, title: { text: chart.x_title },
        ...(chart.shape === "points" ? { rangemode: "tozero" } : { ...ticks(chart.x, width), showgrid: false, zeroline: false, tickangle: 0 }),
      },
      yaxis: { ...axis, title: { text: chart.y_title }, tickprefix: chart.unit, rangemode: "tozero", nticks: 6 },
      dragmode: false,
    };
  }

  async function draw(place) {
    const data = document.getElementById(place.dataset.chart);
    if (!data || !window.Plotly) return;
    const chart = JSON.parse(data.textContent);
    const options = { displayModeBar: false, responsive: true, doubleClick: false };
    await window.Plotly.react(place, traces(chart), layout(chart, place.clientWidth), options);
    if (place.dataset.drawn) return;
    place.dataset.drawn = "yes";
    legend(place, chart);
    place.on("plotly_click", (event) => {
      const point = event.points[0];
      const link = chart.shape === "points" ? point.customdata : chart.links[point.x];
      if (link) location.assign(link);
    });
  }

  function drawAll() {
    document.querySelectorAll("[data-chart]").forEach(draw);
  }

  // ---- new calls

  // The page's own first rows again, as the server makes them. Nothing moves under a reader: while the
  // table is looked at closely (a pointer or the focus in it, or its beginning scrolled away), new rows wait
  // behind a button.
  function live() {
    const table = document.querySelector("table[data-live]");
    if (!table) return;
    const body = table.tBodies[0];
    const [fresh, pause, status] = ["fresh", "pause", "live"].map((id) => document.getElementById(id));
    // Where calls are all that there is to see, older ones stay; elsewhere the table keeps its height.
    const most = pause ? ROWS : body.rows.length;
    let latest = [];
    let paused = false;
    let failures = 0;

    const isRead = () => body.matches(":hover, :focus-within") || table.getBoundingClientRect().top < 0
      || String(getSelection()) !== "";
    const say = (text) => { if (status && status.textContent !== text) status.textContent = text; };
    const known = () => new Map([...body.rows].map((row) => [row.dataset.id, row]));

    // Calls stand by the time they began and come when they end: a new one may belong between others. What
    // stands below all that is known is a page further.
    function added(here) {
      const last = latest.findLastIndex((row) => here.has(row.dataset.id));
      return (last < 0 ? latest : latest.slice(0, last)).filter((row) => !here.has(row.dataset.id));
    }

    function put() {
      const here = known();
      const fresh = new Set(added(here));
      let below = null;
      for (const row of [...latest].reverse()) {
        if (here.has(row.dataset.id)) {
          below = here.get(row.dataset.id);
        } else if (fresh.has(row)) {
          const copy = document.importNode(row, true);
          copy.classList.add("new");
          body.insertBefore(copy, below ?? body.rows[0] ?? null);
          below = copy;
        }
      }
      while (body.rows.length > most) body.rows[body.rows.length - 1].remove();
      offer(0);
    }

    function offer(count) {
      if (!fresh) return;
      fresh.hidden = count === 0;
      if (count > 0) fresh.textContent = `Show ${count} new`;
    }

    async function look() {
      const answer = await fetch(table.dataset.live, { headers: { accept: "text/html" } });
      if (!answer.ok) throw new Error(String(answer.status));
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      latest = [...page.querySelectorAll("table[data-live] tbody tr")];
      const here = known();
      if (isRead()) {
        offer(added(here).length);
        return;
      }
      // An estimate may have been amended meanwhile.
      for (const row of latest) {
        const old = here.get(row.dataset.id);
        if (old && old.innerHTML !== row.innerHTML) old.replaceChildren(...document.importNode(row, true).childNodes);
      }
      put();
    }

    async function turn() {
      if (!paused && document.visibilityState === "visible") {
        try {
          await look();
          failures = 0;
          say("Live: newest first");
        } catch {
          failures = Math.min(failures + 1, 5);
          say("Not live: tokenmeter does not answer");
        }
      }
      setTimeout(turn, LIVE_MS * 2 ** failures);
    }

    if (fresh) fresh.addEventListener("click", () => { put(); table.scrollIntoView({ block: "nearest" }); });
    if (pause) {
      pause.hidden = false;
      pause.addEventListener("click", () => {
        paused = !paused;
        pause.setAttribute("aria-pressed", String(paused));
        say(paused ? "Paused" : "Live: newest first");
      });
    }
    setTimeout(turn, LIVE_MS);
  }

  document.addEventListener("DOMContentLoaded", () => {
    if (settleZone()) return;
    themeSwitch();
    live();
    // The library comes in its own time.
    if (window.Plotly) drawAll();
    else document.getElementById("plotly")?.addEventListener("load", drawAll);
  });
})();
