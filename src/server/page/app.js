// The page: its views, its language and light, and what stands between a visitor and the server.

import * as api from "./api.js";
import * as form from "./form.js";
import * as gallery from "./gallery.js";
import { kiosk, start as startKiosk } from "./kiosk.js";
import * as make from "./make.js";
import * as operator from "./operator.js";
import * as text from "./text.js";
import * as tree from "./tree.js";

const VIEW = "kiln.view";
const THEME = "kiln.theme";
const find = (id) => document.getElementById(id);
const views = ["make", "gallery", "tree", "operator"];
let models = [];

const failure = (error, offline) => text.t(error.code === "offline" ? offline : "failed", { message: error.message });

async function show(name) {
  for (const view of views) find(view).hidden = view !== name;
  for (const button of document.querySelectorAll("nav [data-view]")) {
    if (button.dataset.view === name) button.setAttribute("aria-current", "page");
    else button.removeAttribute("aria-current");
  }
  sessionStorage.setItem(VIEW, name);
  find("trouble").hidden = true;
  gallery.close();
  operator.leave();
  tree.leave();
  try {
    if (name === "gallery") await gallery.show();
    else if (name === "tree") await tree.show(models);
    else if (name === "operator") operator.show();
  } catch (error) {
    if (error.status === 401) return entrance();
    // What comes late is not about the view that is seen by now.
    if (!find(name).hidden) Object.assign(find("trouble"), { textContent: failure(error, "unreachable"), hidden: false });
  }
}

/** Asks for the token until the server takes it. */
function entrance() {
  const dialog = find("entrance");
  if (!dialog.open) dialog.showModal();
  return new Promise((resolve) => {
    find("entrance-form").onsubmit = async (event) => {
      event.preventDefault();
      api.rememberToken(find("token").value);
      try {
        await api.bundles();
        dialog.close();
        resolve();
      } catch (error) {
        find("token-wrong").textContent = error.status === 401 ? text.t("token_wrong") : error.message;
      }
    };
  });
}

function language() {
  const button = find("language");
  const names = text.languages();
  const next = () => names[(names.findIndex(({ name }) => name === text.current()) + 1) % names.length];
  const write = () => {
    button.textContent = next().name;
    button.setAttribute("aria-label", `${text.t("choose_language")}: ${next().title}`);
    button.title = next().title;
  };
  button.addEventListener("click", () => text.choose(next().name));
  document.addEventListener("kiln:language", write);
  write();
}

function theme() {
  const root = document.documentElement;
  const asked = new URLSearchParams(location.search).get("theme") ?? sessionStorage.getItem(THEME);
  if (asked === "light" || asked === "dark") root.dataset.theme = asked;
  find("theme").addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    sessionStorage.setItem(THEME, root.dataset.theme);
  });
}

/** The server's models; a server that is on its way up, or asks for a token, is waited for. */
async function reached() {
  for (;;) {
    try {
      return await api.bundles();
    } catch (error) {
      if (error.status === 401) await entrance();
      else {
        find("status").textContent = failure(error, "offline");
        await new Promise((resolve) => setTimeout(resolve, 2000));
      }
    }
  }
}

async function start() {
  api.takeToken();
  theme();
  await text.load();
  if (kiosk) {
    // What a page before this one kept is another visitor's.
    sessionStorage.removeItem(form.KEPT);
    make.forget();
    text.forget();
  }
  language();
  models = (await reached()).map(({ name }) => name);
  find("status").textContent = "";
  await form.start();
  await make.start();
  gallery.start((job, seed) => {
    form.use(job, seed);
    show("make");
  }, kiosk ? () => make.visit : null);
  document.addEventListener("kiln:token", entrance);
  document.addEventListener("kiln:made", () => {
    if (!find("gallery").hidden) gallery.show();
  });
  find("nav").addEventListener("click", ({ target }) => {
    const button = target.closest("[data-view]");
    if (button) show(button.dataset.view);
  });
  const kept = sessionStorage.getItem(VIEW);
  if (!kiosk) await show(views.includes(kept) ? kept : "make");
  else {
    startKiosk(() => {
      make.reset();
      tree.reset();
      text.forget();
      show("make");
    }, make.busy);
  }
  document.documentElement.dataset.ready = "yes";
}

start();
