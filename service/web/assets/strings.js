// What the page says, in English and German. English that stands in index.html is read from there.
import german from "./strings.de.js";

const english = {
  "theme": "Light or dark",
  "shortcuts": "Keyboard shortcuts",
  "language.other": "Deutsch",
  "translation.section": "Translation of text",
  "from": "Translate from",
  "to": "Translate to",
  "detect": "Detect language",
  "detected": "{language} – detected",
  "swap": "Swap the languages",
  "text": "Text to translate",
  "text.placeholder": "Type or paste text, or drop a file",
  "clear": "Clear the text",
  "file.choose": "File to translate",
  "translation": "Translation",
  "warnings": "Warnings",
  "files": "Files",
  "count": "{n} characters",
  "count.limit": "{n} of {limit} characters",
  "too.long": "The text has {n} characters, this server takes {limit} at once. Leave out {over}, or drop it as a file.",
  "confidence.high": "High confidence: {percent}",
  "confidence.medium": "Medium confidence: {percent}",
  "confidence.low": "Low confidence: {percent}",
  "confidence.title": "How sure the model is of its words, not how right they are",
  "ready": "Translation: {text}",
  "ready.long": "The translation is ready: {n} characters.",
  "copied": "Copied",
  "copy.failed": "The browser did not allow to copy. Mark the text and copy it by hand.",
  "shared": "Link copied",
  "share.long": "The text is too long for a link: {n} characters, the limit is {limit}.",
  "link": "{word}: {counterparts}",
  "link.none": "{word}: no counterpart",
  "offline": "You are offline. The translation goes on when the connection is back.",
  "unreachable": "The server cannot be reached.",
  "busy": "The server is busy.",
  "busy.next": "Next try in {n} s.",
  "failed": "The server answered with an error ({status}).",
  "key.wrong": "The server did not take the API key.",
  "key.odd": "An API key consists of plain letters, digits and signs: copy it again.",
  "glossary.unsupported": "This server does not apply glossaries yet; translated without.",
  "glossary.source": "Term",
  "glossary.target": "Its translation",
  "glossary.remove": "Remove the term {term}",
  "glossary.count": "{n} terms",
  "glossary.one": "1 term",
  "glossary.none": "no terms",
  "warning.REPETITION": "Words are repeated over and over.",
  "warning.COPIED_SOURCE": "The translation is mostly the source itself.",
  "warning.UNKNOWN_CHARACTERS": "The text has characters that the model does not know.",
  "warning.SUSPICIOUS_LENGTH": "The translation is far longer or shorter than the text.",
  "warning.GLOSSARY_TERM_NOT_PLACED": "A term of the glossary found no place.",
  "warning.LENGTH_LIMIT": "The translation reached its length limit before it was finished.",
  "warning.ITEM_CHANGED": "A number, link, tag or placeholder did not survive unchanged.",
  "warning.other": "Check this translation ({code}).",
  "file.sending": "{percent} sent",
  "file.working": "Translating",
  "file.done": "Done",
  "file.cancelled": "Cancelled",
  "file.cancel": "Cancel {name}",
  "file.download": "Download {name}",
  "file.too.large": "The server does not take files of this size.",
  "file.progress": "Progress of {name}",
  "file.columns": "Which columns hold text? Names, with commas",
  "file.translate": "Translate",
  "file.format": "This server reads {formats}.",
  "attention.sentence": "Sentence",
  "attention.kind": "Which attention",
  "attention.cross": "Translation to source",
  "attention.encoder": "Source to source",
  "attention.decoder": "Translation to itself",
  "attention.alone": "Text and translation to themselves",
  "attention.heads": "Heads, one row a layer",
  "attention.mean": "Mean of all heads",
  "attention.head": "Layer {layer}, head {head}",
  "attention.axis.cross": "Rows: what the model wrote. Columns: what it read. The stronger the colour, the more it looked there.",
  "attention.axis.encoder": "Rows and columns: what the model read. The stronger the colour, the more the row's piece looked there.",
  "attention.axis.decoder": "Rows and columns: what the model wrote. The stronger the colour, the more the row's piece looked there.",
  "attention.axis.alone": "Rows and columns: what the model read, then what it wrote. The stronger the colour, the more the row's piece looked there.",
  "attention.matrix": "{kind}, {head}: {rows} rows, {columns} columns. The arrow keys read cell by cell; the table below has the same.",
  "attention.cell": "{row} looks at {column}: {percent}",
  "attention.hint": "Point at a cell, or walk with the arrow keys.",
  "attention.table": "As a table",
  "attention.piece": "Piece",
  "attention.most": "Looks most at",
  "attention.loading": "Reading the attention weights …",
  "attention.unsupported": "This server does not show its attention weights.",
};

const texts = { en: english, de: german };
for (const element of document.querySelectorAll("[data-t]")) english[element.dataset.t] = element.textContent;

export let language = "en";

/** The text of a key, with its {values} filled in; numbers as the language writes them. */
export function t(key, values = {}) {
  const text = texts[language][key] ?? key;
  return text.replace(/\{(\w+)\}/g, (_, name) => {
    const value = values[name];
    return typeof value === "number" ? value.toLocaleString(language) : value;
  });
}

export const has = (key) => key in texts[language];

export const percent = (share) => share.toLocaleString(language, { style: "percent" });

/** The name of a language of the server, in the language of the page. */
export function nameOf({ code, name }) {
  try {
    const found = new Intl.DisplayNames(language, { type: "language", fallback: "none" }).of(code);
    return found ? found[0].toLocaleUpperCase(language) + found.slice(1) : name;
  } catch {
    return name;
  }
}

/** Put a language's texts into the page. */
export function speak(code) {
  language = code in texts ? code : "en";
  document.documentElement.lang = language;
  for (const element of document.querySelectorAll("[data-t]")) element.textContent = t(element.dataset.t);
  for (const element of document.querySelectorAll("[data-t-name]")) element.ariaLabel = t(element.dataset.tName);
  for (const element of document.querySelectorAll("[data-t-label]")) {
    element.ariaLabel = element.title = t(element.dataset.tLabel);
  }
  for (const element of document.querySelectorAll("[data-t-placeholder]")) {
    element.placeholder = t(element.dataset.tPlaceholder);
  }
}
