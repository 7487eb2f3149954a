
"use strict";
(() => {
  const live = document.getElementById("live");
  const parts = (root) => root.querySelectorAll("[id]:not(#live)");
  const say = (text) => { if (live.textContent !== text) live.textContent = text; };
  async function update() {
    try {
      const reply = await fetch("/", { cache: "no-store" });
      if (!reply.ok) throw new Error(String(reply.status));
      const fresh = new DOMParser().parseFromString(await reply.text(), "text/html");
      const ids = (root) => [...parts(root)].map((part) => part.id).join();
      if (ids(fresh) !== ids(document)) {
        document.querySelector("main").replaceWith(fresh.querySelector("main"));
      }
      for (const part of parts(fresh)) {
        const old = document.getElementById(part.id);
        if (old && old.outerHTML !== part.outerHTML && !part.querySelector("[id]")) {
          old.replaceWith(part);
        }
      }
      document.title = fresh.title;
      say("Updates itself");
    } catch {
      say("The proxy does not answer");
    }
    setTimeout(update, document.hidden ? 10000 : 2000);
  }
  say("Updates itself");
  setTimeout(update, 2000);
})();
