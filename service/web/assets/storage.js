// What the browser keeps for the page. Where site data is blocked or full, the page itself does, as long as it is open.

class Store {
  #name;
  #own = new Map(); // what the browser did not take

  /** By name, because already the look at a blocked one throws. */
  constructor(name) {
    this.#name = name;
  }

  get(key) {
    if (this.#own.has(key)) return this.#own.get(key);
    try {
      return window[this.#name].getItem(key);
    } catch {
      return null;
    }
  }

  set(key, value) {
    try {
      window[this.#name].setItem(key, value);
      this.#own.delete(key);
    } catch {
      this.#own.set(key, value);
    }
  }

  remove(key) {
    this.#own.delete(key);
    try {
      window[this.#name].removeItem(key);
    } catch {
      // nothing was kept there
    }
  }
}

export const local = new Store("localStorage");
export const session = new Store("sessionStorage");
