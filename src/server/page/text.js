// The page's words in the chosen language, out of texts.json.

const CHOICE = "kiln.language";
let texts = { languages: {}, ideas: [], styles: {} };
let language = "en";

export async function load() {
  texts = await (await fetch("/page/texts.json")).json();
  reset();
}

/** The language of the address, of an earlier choice, or of the browser, whichever there are words for. */
export function reset() {
  const wanted = [new URLSearchParams(location.search).get("lang"), sessionStorage.getItem(CHOICE), ...navigator.languages];
  const known = wanted.map((name) => name?.slice(0, 2)).find((name) => Object.hasOwn(texts.languages, name ?? ""));
  apply(known ?? "en");
}

export function choose(name) {
  sessionStorage.setItem(CHOICE, name);
  apply(name);
}

export function forget() {
  sessionStorage.removeItem(CHOICE);
  reset();
}

export const current = () => language;
export const languages = () => Object.entries(texts.languages).map(([name, words]) => ({ name, title: words.language }));

/** The words of `key` with `{name}` replaced; the key itself where a language lacks it, so that it is seen. */
export function t(key, values = {}) {
  const words = texts.languages[language]?.[key] ?? texts.languages.en?.[key] ?? key;
  return words.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

/** `label` is shown, `prompt` is what the model reads. */
export const ideas = () => texts.ideas.map((idea) => ({ prompt: idea.en, label: idea[language] ?? idea.en }));

/** Styles for a model by its name, or those of the rest. */
export function styles(model) {
  const found = texts.styles[model] ?? texts.styles["*"] ?? [];
  return found.map((style) => ({ ...style, label: style[language] ?? style.en }));
}

/** Words of the chosen language in those that a model reads; what is not in the list stays as it is. */
export function inEnglish(prompt) {
  const words = texts.words?.[language];
  if (!words) return prompt;
  return prompt.replace(/\p{L}+/gu, (word) => words[word.toLocaleLowerCase(language)] ?? word);
}

/** How the visitor's own region writes numbers and times, where its language is the one that was chosen. */
const region = () => navigator.languages.find((name) => name.slice(0, 2) === language) ?? language;

export function number(value, digits = 0) {
  return new Intl.NumberFormat(region(), { maximumFractionDigits: digits }).format(value);
}

export const seconds = (s) => t("seconds", { s: number(s, s < 0.1 ? 3 : s < 10 ? 1 : 0) });

export function bytes(count) {
  const step = count >= 1e9 ? [1e9, "GB"] : [1e6, "MB"];
  return `${number(count / step[0], step[0] === 1e9 ? 1 : 0)} ${step[1]}`;
}

export function time(ms) {
  return new Intl.DateTimeFormat(region(), { hour: "2-digit", minute: "2-digit" }).format(new Date(ms));
}

function apply(name) {
  language = name;
  document.documentElement.lang = name;
  for (const element of document.querySelectorAll("[data-text]")) element.textContent = t(element.dataset.text);
  for (const element of document.querySelectorAll("[data-label]")) {
    element.setAttribute("aria-label", t(element.dataset.label));
    if (element.matches("button")) element.title = t(element.dataset.label);
  }
  for (const element of document.querySelectorAll("[data-placeholder]")) element.placeholder = t(element.dataset.placeholder);
  document.title = t("title");
  document.dispatchEvent(new CustomEvent("kiln:language"));
}
