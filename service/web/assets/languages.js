// Which language into which, and how the reader is addressed.
import { local } from "./storage.js";
import { nameOf, t } from "./strings.js";

const source = document.getElementById("source");
const target = document.getElementById("target");
const formality = document.getElementById("formality");
const swap = document.getElementById("swap");
const PAIR = "nmt.pair"; // the last choice, in the browser's storage

export class Languages {
  #known = []; // {code, name, targets, formality}
  #detected = "";

  /** changed is called when the reader has chosen something else. */
  constructor(changed) {
    source.addEventListener("change", () => {
      this.#detected = "";
      if (this.source === this.target) this.#setTarget(this.otherThan(this.source));
      this.#show();
      changed();
    });
    target.addEventListener("change", () => {
      if (this.source === this.target) source.value = this.otherThan(this.target) ?? "auto";
      this.#show();
      changed();
    });
    formality.addEventListener("change", changed);
  }

  /** What is chosen: a code or "auto". */
  get source() {
    return source.value;
  }

  get target() {
    return target.value;
  }

  get formality() {
    return formality.hidden ? "default" : formality.querySelector(":checked").value;
  }

  /** The code of the language of the text, as far as it is known. */
  get written() {
    return this.source === "auto" ? this.#detected : this.source;
  }

  set detected(code) {
    this.#detected = code;
    this.#show();
  }

  /** What the server has: its /languages. */
  know(languages) {
    this.#known = languages;
    const [chosenSource, chosenTarget] = (local.get(PAIR) ?? "auto ").split(" ");
    this.choose({ source: chosenSource, target: chosenTarget });
  }

  /** Choose what there is; else detection, and the reader's own language. Also names all anew. */
  choose({ source: from, target: to, formality: how }) {
    const option = (one) => new Option(nameOf(one), one.code);
    const isTarget = ({ code }) => this.#known.some(({ targets }) => targets.includes(code));
    const targets = this.#known.filter(isTarget);
    const codes = targets.map(({ code }) => code);
    source.replaceChildren(new Option("", "auto"), ...this.#known.map(option));
    target.replaceChildren(...targets.map(option));
    source.value = this.#known.some(({ code }) => code === from) ? from : "auto";
    target.value = codes.includes(to) ? to : (codes.find((code) => navigator.language.startsWith(code)) ?? codes[0]);
    if (this.source === this.target) this.#setTarget(this.otherThan(this.source));
    const radio = [...formality.querySelectorAll("input")].find(({ value }) => value === how);
    if (radio) radio.checked = true;
    this.#show();
  }

  /** A language that the one with this code is translated into. */
  otherThan(code) {
    return this.#targetsOf(code)[0];
  }

  /** The pair that terms belong to; where the source is not known yet, that of the first language it can be. */
  get pair() {
    const into = this.#known.find(({ code, targets }) => code !== this.target && targets.includes(this.target));
    return [this.written || into?.code, this.target];
  }

  /** Exchange the two; false where the server cannot translate back. */
  swap() {
    if (swap.disabled) return false;
    const from = this.written;
    source.value = this.target;
    this.#setTarget(from);
    this.#show();
    return true;
  }

  #targetsOf(code) {
    return this.#known.find((one) => one.code === code)?.targets.filter((other) => other !== code) ?? [];
  }

  #setTarget(code) {
    if (code) target.value = code;
  }

  #show() {
    const found = this.#known.find(({ code }) => code === this.#detected);
    source.options[0].text = found ? t("detected", { language: nameOf(found) }) : t("detect");
    formality.hidden = !this.#known.find(({ code }) => code === this.target)?.formality;
    swap.disabled = !this.written || !this.#targetsOf(this.target).includes(this.written);
    local.set(PAIR, `${this.source} ${this.target}`);
  }
}
