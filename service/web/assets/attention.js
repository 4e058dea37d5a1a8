// The attention view: which pieces the model looked at, as a matrix for each kind, layer and head, and as a table.
import { post } from "./api.js";
import { make } from "./dom.js";
import { cellAt, drawMatrix, drawThumbnail } from "./matrix.js";
import { percent, t } from "./strings.js";

const KINDS = ["cross", "encoder", "decoder", "alone"]; // alone: of a decoder without an encoder
const MOST = 3; // pieces named in a row of the table
const body = document.getElementById("attention-body");
const panel = document.getElementById("attention");

export class Attention {
  #asked = null; // what the shown weights belong to
  #answer = null;
  #choice = { kind: "cross", layer: null, head: null }; // null: the mean of all
  #sentence = 0;
  #controller = null;
  #cell = { row: 0, column: 0 };

  constructor() {
    panel.addEventListener("toggle", () => this.#load());
    new ResizeObserver(() => this.#answer && panel.open && this.#paint()).observe(body);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.repaint());
  }

  /** The text that is shown now, with its translation; null: none. Loaded when the panel is open. */
  offer(text) {
    panel.hidden = !text?.q.trim();
    this.text = panel.hidden ? null : text;
    this.#sentence = 0;
    this.#load();
  }

  /** Of a single sentence the translation that is shown, of several the model's own. */
  #request() {
    const { q, source, target, translatedText } = this.text;
    const sentences = sentencesOf(q, source);
    if (sentences.length === 1) return { q: q.trim(), source, target, translatedText: translatedText.trim() };
    return { q: sentences[this.#sentence].trim(), source, target };
  }

  /** In the colours and the language of the page. */
  repaint() {
    if (this.#answer && panel.open && this.text) this.#draw();
    else this.#asked = null; // drawn when it is on show again
  }

  async #load() {
    this.#controller?.abort(); // it belongs to another text or sentence
    if (!panel.open || !this.text) return;
    const request = this.#request();
    if (JSON.stringify(request) === this.#asked) return;
    const controller = (this.#controller = new AbortController());
    if (!this.#answer) say(t("attention.loading"));
    try {
      const answer = await post("explain", request, controller.signal);
      const hasEncoder = answer.maps.some(({ kind }) => kind === "ENCODER");
      if (!hasEncoder) answer.maps.forEach((map) => (map.kind = "ALONE"));
      this.#answer = answer;
      this.#asked = JSON.stringify(request);
      this.#cell = { row: 0, column: 0 };
      this.#draw();
    } catch (error) {
      if (error.name === "AbortError") return;
      this.#answer = this.#asked = null;
      say(error.status === 501 ? t("attention.unsupported") : error.message || t("unreachable"));
    }
  }

  #draw() {
    const sentences = sentencesOf(this.text.q, this.text.source);
    const controls = [this.#sentenceChoice(sentences), this.#kindChoice(), this.#headChoice()].filter(Boolean);
    const side = make("div", { className: "controls" }, ...controls);
    this.canvas = this.#makeCanvas();
    this.readout = make("p", { className: "readout", role: "status", textContent: t("attention.hint") });
    const axis = make("p", { className: "axis", textContent: t(`attention.axis.${this.#shown.kind}`) });
    const scroller = make("div", { className: "scroller" }, this.canvas);
    const table = make(
      "details",
      { className: "table" },
      make("summary", { textContent: t("attention.table") }),
      this.#table(),
    );
    body.replaceChildren(side, make("div", { className: "figure" }, axis, scroller, this.readout, table));
    for (const small of side.querySelectorAll("canvas")) drawThumbnail(small, small.weights, this.#labels().rows.length);
    this.#paint();
  }

  #sentenceChoice(sentences) {
    if (sentences.length < 2) return null;
    const select = make("select", { ariaLabel: t("attention.sentence") });
    sentences.forEach((sentence, i) => select.append(new Option(sentence.trim(), i, false, i === this.#sentence)));
    select.addEventListener("change", () => {
      this.#sentence = Number(select.value);
      this.#load();
    });
    return select;
  }

  #kindChoice() {
    const there = KINDS.filter((kind) => this.#maps(kind).length);
    const group = make("fieldset", { className: "choice stacked" });
    group.append(make("legend", { className: "unseen", textContent: t("attention.kind") }));
    for (const kind of there) {
      const radio = make("input", { type: "radio", name: "kind", checked: kind === this.#shown.kind });
      radio.addEventListener("change", () => this.#choose({ kind, layer: null, head: null }, "[name=kind]:checked"));
      group.append(make("label", {}, radio, make("span", { textContent: t(`attention.${kind}`) })));
    }
    return group;
  }

  /** A button for each head, with its matrix in small. */
  #headChoice() {
    const maps = this.#maps(this.#shown.kind);
    const heads = 1 + Math.max(...maps.map(({ head }) => head));
    const grid = make("div", { className: "heads", role: "group", ariaLabel: t("attention.heads") });
    grid.style.setProperty("--heads", heads);
    const all = this.#headButton(null, null, t("attention.mean"));
    all.textContent = t("attention.mean");
    all.className = "mean";
    grid.append(all);
    for (const { layer, head, weights } of maps) {
      const button = this.#headButton(layer, head, t("attention.head", { layer: layer + 1, head: head + 1 }));
      const canvas = make("canvas", { width: 32, height: 32 });
      canvas.weights = weights;
      button.append(canvas);
      grid.append(button);
    }
    return grid;
  }

  #headButton(layer, head, name) {
    const isChosen = this.#shown.layer === layer && this.#shown.head === head;
    const button = make("button", { type: "button", ariaLabel: name, title: name, ariaPressed: String(isChosen) });
    const mark = `${layer}-${head}`;
    button.dataset.head = mark;
    button.addEventListener("click", () => this.#choose({ layer, head }, `[data-head="${mark}"]`));
    return button;
  }

  #choose(change, focus) {
    this.#choice = { ...this.#shown, ...change };
    this.#draw();
    body.querySelector(focus).focus();
  }

  #makeCanvas() {
    const { rows, columns } = this.#labels();
    const { kind, layer, head } = this.#shown;
    const name = layer === null ? t("attention.mean") : t("attention.head", { layer: layer + 1, head: head + 1 });
    const canvas = make("canvas", { tabIndex: 0, role: "img" });
    const values = { kind: t(`attention.${kind}`), head: name, rows: rows.length, columns: columns.length };
    canvas.ariaLabel = t("attention.matrix", values);
    canvas.addEventListener("pointermove", (event) => this.#read(cellAt(canvas, event.offsetX, event.offsetY)));
    canvas.addEventListener("keydown", (event) => {
      const [down, right] = { ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1] }[event.key] ?? [];
      if (down === undefined || event.altKey) return;
      event.preventDefault();
      const clamp = (value, length) => Math.min(length - 1, Math.max(0, value));
      const { row, column } = this.#cell;
      this.#read({ row: clamp(row + down, rows.length), column: clamp(column + right, columns.length) });
    });
    return canvas;
  }

  #read(cell) {
    if (!cell) return;
    this.#cell = cell;
    const { rows, columns } = this.#labels();
    const weight = this.#weights()[cell.row * columns.length + cell.column];
    const names = { row: rows[cell.row], column: columns[cell.column] };
    this.readout.textContent = t("attention.cell", { ...names, percent: percent(weight) });
    this.#paint(cell);
  }

  #paint(cell = null) {
    drawMatrix(this.canvas, { weights: this.#weights(), ...this.#labels(), cell });
  }

  #table() {
    const { rows, columns } = this.#labels();
    const weights = this.#weights();
    const head = make("tr");
    for (const key of ["attention.piece", "attention.most"]) head.append(make("th", { scope: "col", textContent: t(key) }));
    const lines = rows.map((row, i) => {
      const best = columns
        .map((column, j) => ({ column, weight: weights[i * columns.length + j] }))
        .sort((a, b) => b.weight - a.weight)
        .slice(0, MOST);
      const text = best.map(({ column, weight }) => `${column} ${percent(weight)}`).join(" · ");
      return make("tr", {}, make("th", { scope: "row", textContent: row }), make("td", { textContent: text }));
    });
    return make("table", {}, make("thead", {}, head), make("tbody", {}, ...lines));
  }

  /** What is chosen, as far as this model has it: others have other kinds, layers and heads. */
  get #shown() {
    const { kind, layer, head } = this.#choice;
    const isChosen = (map) => layer === null || (map.layer === layer && map.head === head);
    if (this.#maps(kind).some(isChosen)) return this.#choice;
    return { kind: KINDS.find((other) => this.#maps(other).length), layer: null, head: null };
  }

  #maps(kind) {
    const order = (a, b) => a.layer - b.layer || a.head - b.head;
    return this.#answer.maps.filter((map) => map.kind.toLowerCase() === kind).sort(order);
  }

  /** What the target attends to the source for is the piece that it writes next: the row of "<s>" writes the first. */
  #labels() {
    const source = this.#answer.source_tokens.map(readable);
    const target = this.#answer.target_tokens.map(readable);
    const written = [...target.slice(1), "</s>"];
    return {
      cross: { rows: written, columns: source },
      encoder: { rows: source, columns: source },
      decoder: { rows: target, columns: target },
      alone: { rows: [...source, ...target], columns: [...source, ...target] },
    }[this.#shown.kind];
  }

  /** Of the chosen head, or the mean of all. */
  #weights() {
    const { kind, layer, head } = this.#shown;
    const maps = this.#maps(kind);
    if (layer !== null) return maps.find((map) => map.layer === layer && map.head === head).weights;
    return maps[0].weights.map((_, i) => maps.reduce((sum, map) => sum + map.weights[i], 0) / maps.length);
  }
}

function sentencesOf(text, language) {
  const found = [...new Intl.Segmenter(language || undefined, { granularity: "sentence" }).segment(text)];
  return found.map(({ segment }) => segment).filter((segment) => segment.trim());
}

/** A SentencePiece piece for people: "▁" begins a word; a piece without goes on with the word before. */
function readable(piece) {
  if (/^<.+>$/.test(piece) || /^[\p{P}\p{S}]+$/u.test(piece)) return piece; // control pieces, punctuation
  return piece.startsWith("▁") ? piece.slice(1) || "␣" : `…${piece}`;
}

function say(text) {
  body.replaceChildren(make("p", { className: "readout", role: "status", textContent: text }));
}
