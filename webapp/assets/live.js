// Shows new names on the newest page as they are registered. Without it, a page shows them when it is loaded again.
"use strict";

(() => {
  // So many rows, and the list is read anew: a page is left open for days.
  const ROWS_MAX = 200;
  const RETRY_MS = 2000;

  let source = null;
  let timer = null;
  let after = null;

  const list = () => document.getElementById("list");

  function stop() {
    clearTimeout(timer);
    if (source) source.close();
    source = null;
  }

  function again(what) {
    stop();
    timer = setTimeout(what, RETRY_MS);
  }

  function listen() {
    stop();
    // Browsers keep few connections to a site: a page that nobody sees needs none.
    if (document.hidden || after === null) return;
    source = new EventSource("/events?after=" + encodeURIComponent(after));
    source.addEventListener("names", (event) => {
      after = event.lastEventId;
      show(event.data);
    });
    source.addEventListener("missed", refresh);
    // A lost connection comes back by itself; a refusal does not.
    source.addEventListener("error", () => {
      if (source && source.readyState === EventSource.CLOSED) again(listen);
    });
  }

  function show(rows) {
    const body = list().querySelector("tbody");
    if (!body || body.rows.length >= ROWS_MAX) return refresh();
    const fragment = document.createElement("template");
    fragment.innerHTML = rows;
    const total = document.getElementById("total");
    if (total) {
      total.dataset.total = Number(total.dataset.total) + fragment.content.querySelectorAll("tr").length;
      total.textContent = `${total.dataset.total} registered, newest first`;
    }
    body.prepend(fragment.content);
  }

  // Takes the list, and nothing else, from the page as it is now: what was typed stays.
  async function refresh() {
    stop();
    try {
      const answer = await fetch("/", { headers: { accept: "text/html" } });
      if (!answer.ok) return again(refresh);
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      list().replaceWith(document.adoptNode(page.getElementById("list")));
      begin();
    } catch {
      again(refresh);
    }
  }

  function begin() {
    after = list()?.dataset.revision ?? null;
    listen();
  }

  document.addEventListener("visibilitychange", listen);
  // A page that comes back from the browser's memory has had no connection meanwhile.
  addEventListener("pageshow", (event) => event.persisted && listen());
  addEventListener("pagehide", stop);
  begin();
})();
