// Terms whose translation the reader decides, kept in this browser, for each pair of languages.
import { iconButton, make } from "./dom.js";
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
  }

  /** The terms that are complete. */
  get terms() {
    return this.#rows
      .map(({ source, target }) => ({ source: source.trim(), target: target.trim() }))
      .filter(({ source, target }) => source && target);
  }

  /** The terms of a pair of languages. */
  show(source, target) {
    const pair = `nmt.glossary.${source}-${target}`;
    if (pair === this.#pair) return;
    this.#pair = pair;
    this.#rows = JSON.parse(localStorage.getItem(this.#pair) ?? "[]");
    this.#draw();
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
    for (const side of ["source", "target"]) {
      const name = t(`glossary.${side}`);
      const input = make("input", { dir: "auto", value: row[side], placeholder: name, ariaLabel: name });
      input.addEventListener("input", () => {
        row[side] = input.value;
        this.#save();
      });
      item.append(input);
    }
    const remove = iconButton("close", t("glossary.remove", { term: row.source }));
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
    if (kept === (localStorage.getItem(this.#pair) ?? "[]")) return; // a term that is not complete yet
    localStorage.setItem(this.#pair, kept);
    this.#count();
    this.changed();
  }

  #count() {
    const n = this.terms.length;
    count.textContent = n === 0 ? t("glossary.none") : n === 1 ? t("glossary.one") : t("glossary.count", { n });
  }
}
