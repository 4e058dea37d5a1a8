// Terms whose translation the reader decides, kept in this browser, for each pair of languages.
import { iconButton, make } from "./dom.js";
import { local } from "./storage.js";
import { t } from "./strings.js";

const list = document.getElementById("glossary-list");
const form = document.getElementById("glossary-form");
const count = document.getElementById("glossary-count");

export class Glossary {
  #pair = "";
  #rows = [];

  constructor(changed) {
    this.changed = changed;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#rows.push({ source: "", target: "" });
      this.#draw();
      list.lastElementChild.querySelector("input").focus();
    });
    // another tab has changed them: what is saved here next must not take that back
    window.addEventListener("storage", ({ key }) => {
      if (key !== this.#pair && key !== null) return;
      this.#rows = [...this.#stored(), ...this.#rows.filter((row) => !isComplete(row))];
      this.#draw();
      this.changed();
    });
  }

  /** The terms that are complete. */
  get terms() {
    return this.#rows
      .map(({ source, target }) => ({ source: source.trim(), target: target.trim() }))
      .filter(isComplete);
  }

  /** The terms of a pair of languages. */
  show(source, target) {
    const pair = `nmt.glossary.${source}-${target}`;
    if (pair === this.#pair) return;
    this.#pair = pair;
    this.#rows = this.#stored();
    this.#draw();
  }

  #stored() {
    return JSON.parse(local.get(this.#pair) ?? "[]");
  }

  /** In the language of the page. */
  repaint() {
    this.#draw();
  }

  #draw() {
    list.replaceChildren(...this.#rows.map((row, number) => this.#item(row, number)));
    this.#count();
  }

  #item(row, number) {
    const item = make("li");
    const remove = iconButton("close", "");
    const nameRemove = () => (remove.ariaLabel = remove.title = t("glossary.remove", { term: row.source }));
    nameRemove();
    for (const side of ["source", "target"]) {
      const name = t(`glossary.${side}`);
      const input = make("input", { dir: "auto", value: row[side], placeholder: name, ariaLabel: name });
      input.addEventListener("input", () => {
        row[side] = input.value;
        nameRemove();
        this.#save();
      });
      item.append(input);
    }
    remove.addEventListener("click", () => {
      this.#rows.splice(number, 1);
      this.#draw();
      this.#save();
      (list.children[Math.min(number, list.children.length - 1)]?.querySelector("input") ?? form.lastElementChild).focus();
    });
    item.append(remove);
    return item;
  }

  #save() {
    const kept = JSON.stringify(this.terms);
    if (kept === (local.get(this.#pair) ?? "[]")) return; // a term that is not complete yet
    local.set(this.#pair, kept);
    this.#count();
    this.changed();
  }

  #count() {
    const n = this.terms.length;
    count.textContent = n === 0 ? t("glossary.none") : n === 1 ? t("glossary.one") : t("glossary.count", { n });
  }
}

const isComplete = ({ source, target }) => Boolean(source.trim() && target.trim());
