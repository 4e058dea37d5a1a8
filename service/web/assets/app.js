// The page: what was typed goes out, what came back is shown. Each other concern has a module of its own.
import { get, hasKey, post, setKey } from "./api.js";
import { WordMarks } from "./alignment.js";
import { Attention } from "./attention.js";
import { make } from "./dom.js";
import { offerFiles } from "./files.js";
import { Glossary } from "./glossary.js";
import { Languages } from "./languages.js";
import { Latest } from "./latest.js";
import * as notice from "./notice.js";
import { copy, LINK_CHARACTERS, linkTo, takeFromAddress } from "./share.js";
import { local } from "./storage.js";
import { has, language, percent, speak, t } from "./strings.js";

const PAUSE = { least: 250, most: 1500 }; // milliseconds of rest before a call: about as long as the last one took
const ALTERNATIVES = 3;
const CONFIDENCE = { high: 0.8, medium: 0.5 };
const SPOKEN_CHARACTERS = 300; // longer translations are announced, not read out
const LARGE_CHARACTERS = 220; // up to here in large letters
const COPIED_MILLISECONDS = 1600;
const HAS_OPTION_KEY = /^(Mac|iPad|iPhone)/.test(navigator.platform); // instead of Alt; writes @ [ ] | { } and more

const $ = (id) => document.getElementById(id);
const [text, output] = [$("text"), $("output")];

let settings = {}; // of the server
let unsupported = new Set(); // extensions that the server answers with 501
let hypotheses = []; // texts; the first one is shown
let answer = null; // the last one, with the request that it belongs to
let seconds = 0; // that the last call took

const marks = new WordMarks({ text, mirror: $("mirror"), output, announce: announceLink });
const attention = new Attention();
const glossary = new Glossary(() => translateSoon());
const languages = new Languages(translateNow);
const latest = new Latest({ task: translate, done: showAnswer, failed: showError });

// ---- translating

async function translate(signal) {
  const began = performance.now();
  let request = currentRequest();
  let found = await ask(request, signal);
  const written = found.detectedLanguage?.language;
  const other = languages.otherThan(written);
  if (written === request.target && other) {
    // what is in the target language already is wanted in another
    languages.detected = written;
    languages.choose({ source: request.source, target: other });
    request = currentRequest();
    found = await ask(request, signal);
  }
  seconds = (performance.now() - began) / 1000;
  return { ...found, request };
}

function currentRequest() {
  glossary.show(...languages.pair);
  return {
    q: text.value,
    source: languages.source,
    target: languages.target,
    format: "text",
    alternatives: ALTERNATIVES,
    formality: languages.formality,
    glossary: glossary.terms,
    alignment: true,
  };
}

/** The answer to a request; without the extensions that the server has not got. */
async function ask(request, signal) {
  const sent = Object.fromEntries(Object.entries(request).filter(([name]) => !unsupported.has(name)));
  if (!sent.glossary?.length) delete sent.glossary;
  try {
    return await post("translate", sent, signal);
  } catch (error) {
    const missing = ["alignment", "glossary"].filter((name) => name in sent && error.message.includes(name));
    if (error.status !== 501 || !missing.length) throw error;
    unsupported = new Set([...unsupported, ...missing]);
    return ask(request, signal);
  }
}

/** Translate when the text rests, by default for about as long as the last call took. */
function translateSoon(milliseconds = Math.min(PAUSE.most, Math.max(PAUSE.least, seconds * 1000))) {
  showCount();
  if (!languages.target) return; // they are not there yet; start() goes on
  glossary.show(...languages.pair);
  notice.hide();
  latest.cancel();
  setBusy(false);
  if (!text.value.trim()) return showNothing();
  if (over() > 0) {
    const n = characters(text.value);
    showNothing();
    return notice.show(t("too.long", { n, limit: settings.charLimit, over: over() }));
  }
  setBusy(true);
  latest.soon(milliseconds);
}

function translateNow() {
  translateSoon(0);
}

// ---- showing

function setBusy(busy) {
  $("busy").classList.toggle("on", busy);
  output.classList.toggle("stale", busy);
  output.ariaBusy = String(busy);
}

function showNothing() {
  answer = null;
  hypotheses = [];
  languages.detected = "";
  showTexts();
  for (const id of ["warnings", "alternatives", "confidence"]) $(id).hidden = true;
  attention.offer(null);
}

function showAnswer(found) {
  setBusy(false);
  answer = found;
  languages.detected = found.detectedLanguage?.language ?? "";
  glossary.show(...languages.pair);
  hypotheses = [...new Set([found.translatedText, ...(found.alternatives ?? [])])];
  showTexts();
  showConfidence();
  showWarnings();
  offerAttention();
  announceTranslation();
}

function showError(error, again = translateNow) {
  setBusy(false);
  output.classList.add("stale"); // of an earlier text
  if (error.status === 401 || error.status === 403) {
    $("key").hidden = false;
    return notice.show(error.message || t("key.wrong"));
  }
  if (!("status" in error)) throw error;
  notice.showError(error, again);
}

/** Whether the answer is that to the text that stands there now. */
const isCurrent = () => answer?.request.q === text.value;

/** Both panes and the alternatives. Only the best translation comes with links between words. */
function showTexts() {
  const shown = hypotheses[0] ?? "";
  const isBest = isCurrent() && shown === answer.translatedText;
  marks.set({
    source: text.value,
    target: shown,
    sourceLanguage: languages.written,
    targetLanguage: languages.target,
    links: isBest ? (answer.alignment ?? null) : null,
  });
  output.lang = languages.target;
  text.lang = languages.written;
  $("output-hint").hidden = !marks.active;
  for (const id of ["copy", "share"]) $(id).disabled = !shown.trim();
  showSize();
  showAlternatives();
}

function showAlternatives() {
  const others = hypotheses.slice(1);
  $("alternatives").hidden = others.length === 0;
  const list = $("alternatives-list");
  while (list.children.length > others.length) list.lastElementChild.remove();
  while (list.children.length < others.length) list.append(alternativeItem(list.children.length + 1));
  const known = new Set(wordsIn(hypotheses[0] ?? ""));
  others.forEach((other, i) => {
    const button = list.children[i].firstElementChild;
    const parts = other.split(/([\p{L}\p{M}\p{N}]+)/u);
    button.replaceChildren(...parts.map((part, j) => (j % 2 && !known.has(part.toLowerCase()) ? bold(part) : part)));
    button.lang = languages.target;
  });
}

const wordsIn = (sentence) => sentence.toLowerCase().match(/[\p{L}\p{M}\p{N}]+/gu) ?? [];

/** A word that the translation on show has not got. */
const bold = (word) => make("b", { textContent: word });

function alternativeItem(number) {
  const button = make("button", { type: "button", dir: "auto", ariaKeyShortcuts: `Alt+${number}` });
  button.addEventListener("click", () => takeAlternative(number));
  return make("li", {}, button);
}

/** An alternative and what is shown change places. */
function takeAlternative(number) {
  if (number >= hypotheses.length) return;
  [hypotheses[0], hypotheses[number]] = [hypotheses[number], hypotheses[0]];
  showTexts();
  showConfidence();
  offerAttention();
  announceTranslation();
}

function offerAttention() {
  const { q, target } = answer.request;
  attention.offer({ q, source: languages.written, target, translatedText: hypotheses[0] });
}

function showConfidence() {
  const { confidence } = answer;
  const box = $("confidence");
  box.hidden = confidence === undefined || hypotheses[0] !== answer.translatedText || !hypotheses[0].trim();
  if (box.hidden) return;
  const level = confidence >= CONFIDENCE.high ? "high" : confidence >= CONFIDENCE.medium ? "medium" : "low";
  box.dataset.level = level;
  box.title = t("confidence.title");
  box.textContent = t(`confidence.${level}`, { percent: percent(Math.floor(confidence * 100) / 100) });
}

function showWarnings() {
  const texts = (answer.warnings ?? []).map(({ code, detail }) => {
    const key = `warning.${code}`;
    return (has(key) ? t(key) : t("warning.other", { code })) + (detail ? ` (${detail})` : "");
  });
  if (unsupported.has("glossary") && glossary.terms.length) texts.push(t("glossary.unsupported"));
  const items = [...new Set(texts)].map((line) => make("li", { textContent: line }));
  $("warnings").replaceChildren(...items);
  $("warnings").hidden = items.length === 0;
}

const characters = (string) => [...string].length; // as the server counts: code points
const over = () => (settings.charLimit > 0 ? characters(text.value) - settings.charLimit : 0);

function showSize() {
  const longest = Math.max(text.value.length, hypotheses[0]?.length ?? 0);
  $("panes").dataset.size = longest > LARGE_CHARACTERS ? "small" : "large";
}

function showCount() {
  const n = characters(text.value);
  const limit = settings.charLimit;
  $("count").textContent = limit > 0 ? t("count.limit", { n, limit }) : t("count", { n });
  $("count").classList.toggle("over", over() > 0);
  $("clear").hidden = n === 0;
  showSize();
}

function announce(line) {
  $("status").textContent = line;
}

function announceTranslation() {
  const [shown] = hypotheses;
  announce(shown.length > SPOKEN_CHARACTERS ? t("ready.long", { n: characters(shown) }) : t("ready", { text: shown }));
}

function announceLink(word, others) {
  announce(others.length ? t("link", { word, counterparts: others.join(" ") }) : t("link.none", { word }));
}

// ---- the panes

$("swap").addEventListener("click", swap);

function swap() {
  if (!languages.swap()) return;
  if (isCurrent() && hypotheses[0]) put(hypotheses[0]); // a text not translated yet stays
  translateNow();
}

/** Put a text into the field, as if it were typed. */
function put(value) {
  text.value = value;
  marks.edited(value);
}

text.addEventListener("input", () => {
  marks.edited(text.value);
  translateSoon();
});
$("clear").addEventListener("click", () => {
  put("");
  translateNow();
  text.focus();
});
$("copy").addEventListener("click", async () => report($("copy"), (await copy(hypotheses[0])) && "copied"));
$("share").addEventListener("click", share);

async function share() {
  const n = characters(text.value);
  if (n > LINK_CHARACTERS) return notice.show(t("share.long", { n, limit: LINK_CHARACTERS }));
  const link = linkTo({
    source: languages.source,
    target: languages.target,
    formality: languages.formality,
    text: text.value,
  });
  report($("share"), (await copy(link)) && "shared");
}

/** Say on the button that it did its work, for a moment. */
function report(button, key) {
  if (!key) return notice.show(t("copy.failed"));
  const label = button.querySelector("span");
  label.textContent = t(key);
  announce(t(key));
  button.classList.add("done");
  setTimeout(() => {
    label.textContent = t(label.dataset.t);
    button.classList.remove("done");
  }, COPIED_MILLISECONDS);
}

// ---- keys, colours, language of the page, API key

document.addEventListener("keydown", (event) => {
  const { code, key, altKey, ctrlKey, metaKey } = event;
  const isTyping = event.target.matches("input:not([type=radio]), textarea, select");
  const alternative = /^(?:Digit|Numpad)([1-9])$/.exec(code)?.[1];
  // Windows writes a character whose number is typed on the number pad
  const isWriting = isTyping && (HAS_OPTION_KEY || /^Numpad/.test(code));
  let action = null;
  if (key === "Enter" && (ctrlKey || metaKey)) action = translateNow;
  else if (key === "?" && !isTyping) action = () => $("shortcuts").showModal();
  else if (altKey && !ctrlKey && !metaKey && !isWriting) {
    if (alternative) action = () => takeAlternative(Number(alternative));
    else action = { KeyX: swap, KeyC: () => $("copy").click(), KeyL: () => $("share").click() }[code];
  }
  if (!action || $("shortcuts").open) return;
  event.preventDefault();
  action();
});
$("keys").addEventListener("click", () => $("shortcuts").showModal());

$("theme").addEventListener("click", () => {
  const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  const now = document.documentElement.dataset.theme ?? system;
  const next = now === "dark" ? "light" : "dark";
  if (next === system) {
    delete document.documentElement.dataset.theme;
    local.remove("nmt.theme");
  } else {
    document.documentElement.dataset.theme = next;
    local.set("nmt.theme", next);
  }
  attention.repaint();
});

function speakAs(code) {
  speak(code);
  $("language").textContent = t("language.other");
  $("language").lang = language === "en" ? "de" : "en";
  document.title = `${t("title")} · nmt`;
}

$("language").addEventListener("click", () => {
  speakAs(language === "en" ? "de" : "en");
  local.set("nmt.language", language);
  languages.choose(languages);
  glossary.repaint();
  showCount();
  if (answer) {
    showConfidence();
    showWarnings();
  }
  attention.repaint();
});

$("key").addEventListener("submit", (event) => {
  event.preventDefault();
  const key = $("key-value").value.trim();
  if (!/^[\x21-\x7e]+$/.test(key)) return notice.show(t("key.odd")); // a header carries no other characters
  setKey(key);
  $("key").hidden = true;
  notice.hide();
  if (languages.target) translateNow();
  else start();
});

// ---- the beginning

/** Take a text with its settings from the address. */
function openLink() {
  const given = takeFromAddress();
  if (!given) return;
  languages.choose(given);
  put(given.text);
  translateNow();
}

async function start() {
  let known;
  try {
    [known, settings] = await Promise.all([get("languages"), get("frontend/settings")]);
  } catch (error) {
    return showError(error, start);
  }
  $("key").hidden = !settings.keyRequired || hasKey();
  languages.know(known);
  glossary.show(...languages.pair);
  if (settings.filesTranslation) {
    const fields = () => ({ source: languages.source, target: languages.target, formality: languages.formality });
    offerFiles({ formats: settings.supportedFilesFormat ?? [], fields, announce });
  }
  showCount();
  openLink();
  if (!text.value) return;
  marks.edited(text.value); // the browser may have restored it
  translateSoon();
}

speakAs(local.get("nmt.language") ?? navigator.language.slice(0, 2));
window.addEventListener("hashchange", openLink);
showCount();
start();
