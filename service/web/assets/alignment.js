// Words of the source and of the translation that belong together, shown under the pointer and under the caret.

const SHARE_OF_BEST = 0.5; // a counterpart has at least this part of the weight of a word's best one
const MOST_CHARACTERS = 20_000; // beyond, words are not marked: a span for each would make typing slow

/** Where the words and marks of a text are: [start, end) in UTF-16 units. White space is neither. */
export function wordsOf(text, language) {
  if (text.length > MOST_CHARACTERS) return [];
  const found = [];
  const segmenter = new Intl.Segmenter(language || undefined, { granularity: "word" });
  for (const { segment, index, isWordLike } of segmenter.segment(text)) {
    if (segment.trim()) found.push({ start: index, end: index + segment.length, isWordLike });
  }
  return found;
}

/** Position in UTF-16 units of each code point, and of the end: the server counts in code points. */
function unitsOf(text) {
  const units = [];
  let unit = 0;
  for (const character of text) {
    units.push(unit);
    unit += character.length;
  }
  return [...units, unit];
}

/**
 * For each word of one side its counterparts on the other; links: [source start, end, target start, end, weight].
 * A word and a mark are no pair, whatever attention a mark draws.
 */
export function counterparts(links, source, target, sourceWords, targetWords) {
  const [sourceUnits, targetUnits] = [unitsOf(source), unitsOf(target)];
  const weights = new Map(); // "i j" -> weight
  for (const [sourceStart, sourceEnd, targetStart, targetEnd, weight] of links) {
    for (const i of overlapping(sourceWords, sourceUnits[sourceStart], sourceUnits[sourceEnd])) {
      for (const j of overlapping(targetWords, targetUnits[targetStart], targetUnits[targetEnd])) {
        if (sourceWords[i].isWordLike !== targetWords[j].isWordLike) continue;
        weights.set(`${i} ${j}`, (weights.get(`${i} ${j}`) ?? 0) + weight);
      }
    }
  }
  const toTarget = sourceWords.map(() => []);
  const toSource = targetWords.map(() => []);
  for (const [pair, weight] of weights) {
    const [i, j] = pair.split(" ").map(Number);
    toTarget[i].push([j, weight]);
    toSource[j].push([i, weight]);
  }
  return { toTarget: toTarget.map(strongest), toSource: toSource.map(strongest) };
}

function overlapping(words, start, end) {
  const found = [];
  for (let i = firstEndingAfter(words, start); i < words.length && words[i].start < end; i++) found.push(i);
  return found;
}

function firstEndingAfter(words, position) {
  let [low, high] = [0, words.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (words[middle].end > position) high = middle;
    else low = middle + 1;
  }
  return low;
}

function strongest(candidates) {
  const best = Math.max(0, ...candidates.map(([, weight]) => weight));
  return candidates
    .filter(([, weight]) => weight >= SHARE_OF_BEST * best)
    .map(([word]) => word)
    .sort((a, b) => a - b);
}

/** Fill an element with a text, each of its words in a span. */
export function paint(element, text, words = []) {
  const nodes = [];
  let at = 0;
  words.forEach(({ start, end }, number) => {
    if (start > at) nodes.push(text.slice(at, start));
    const span = document.createElement("span");
    span.textContent = text.slice(start, end);
    span.dataset.word = number;
    nodes.push(span);
    at = end;
  });
  // a line feed at the very end takes room only with something behind it
  element.replaceChildren(...nodes, text.slice(at) + (text.endsWith("\n") ? "\u200b" : ""));
}

/** The two panes: the mirror lies under the text area, in the same place, and carries its marks. */
export class WordMarks {
  #pair = null;
  #at = -1; // word of the translation where the keyboard is

  constructor({ text, mirror, output, announce }) {
    Object.assign(this, { text, mirror, output, announce });
    const field = text.parentElement;
    field.addEventListener("pointermove", (event) => this.#mark("source", this.#wordUnder(event)));
    field.addEventListener("pointerleave", () => this.clear());
    output.addEventListener("pointermove", (event) => this.#mark("target", numberOf(event.target)));
    output.addEventListener("pointerleave", () => this.clear());
    output.addEventListener("keydown", (event) => this.#walk(event));
    output.addEventListener("blur", () => this.clear());
    text.addEventListener("blur", () => this.clear());
    document.addEventListener("selectionchange", () => this.#followCaret());
  }

  /** Show both texts; links is null where the server gave none. Without words there is nothing to walk through. */
  set({ source, target, sourceLanguage, targetLanguage, links }) {
    this.#pair = null;
    this.#at = -1;
    const sourceWords = links ? wordsOf(source, sourceLanguage) : [];
    const targetWords = links ? wordsOf(target, targetLanguage) : [];
    if (!sourceWords.length || !targetWords.length) {
      paint(this.mirror, source);
      paint(this.output, target);
      return;
    }
    this.#pair = { sourceWords, ...counterparts(links, source, target, sourceWords, targetWords) };
    paint(this.mirror, source, sourceWords);
    paint(this.output, target, targetWords);
  }

  /** The source is another now: what is marked belongs to the one before. */
  edited(source) {
    this.clear();
    this.#pair = null;
    paint(this.mirror, source);
  }

  get active() {
    return this.#pair !== null;
  }

  clear() {
    for (const span of document.querySelectorAll("[data-word].on")) span.classList.remove("on", "here");
  }

  #mark(side, number) {
    this.clear();
    if (!this.#pair || number < 0) return [];
    const [here, there, links] =
      side === "source"
        ? [this.mirror, this.output, this.#pair.toTarget]
        : [this.output, this.mirror, this.#pair.toSource];
    wordAt(here, number)?.classList.add("on", "here");
    const found = (links[number] ?? []).map((other) => wordAt(there, other)).filter(Boolean);
    for (const span of found) span.classList.add("on");
    return found;
  }

  #wordUnder({ clientX, clientY }) {
    if (!this.#pair) return -1;
    const under = document.elementsFromPoint(clientX, clientY).find((one) => one.parentElement === this.mirror);
    return under ? numberOf(under) : -1;
  }

  #followCaret() {
    if (!this.#pair || document.activeElement !== this.text) return;
    const caret = this.text.selectionStart;
    const { sourceWords } = this.#pair;
    const number = firstEndingAfter(sourceWords, caret - 1);
    this.#mark("source", number < sourceWords.length && sourceWords[number].start <= caret ? number : -1);
  }

  #walk(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step || !this.#pair || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    const last = this.#pair.toSource.length - 1;
    const forward = getComputedStyle(this.output).direction === "rtl" ? -step : step;
    this.#at = Math.min(last, Math.max(0, this.#at + forward));
    const found = this.#mark("target", this.#at);
    this.announce(wordAt(this.output, this.#at).textContent, found.map((span) => span.textContent));
  }
}

const wordAt = (element, number) => element.querySelector(`[data-word="${number}"]`);
const numberOf = (element) => Number(element.dataset?.word ?? -1);
