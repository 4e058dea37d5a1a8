// Runs a task for the newest input only.

/** What is asked for anew aborts the call before it; an answer that comes late all the same is dropped. */
export class Latest {
  #timer = 0;
  #controller = null;

  constructor({ task, done, failed }) {
    this.task = task;
    this.done = done;
    this.failed = failed;
  }

  get busy() {
    return this.#controller !== null;
  }

  /** Run when nothing newer was asked for during so many milliseconds. */
  soon(milliseconds) {
    this.cancel();
    this.#timer = setTimeout(() => this.now(), milliseconds);
  }

  async now() {
    this.cancel();
    const controller = (this.#controller = new AbortController());
    const isLatest = () => controller === this.#controller;
    try {
      const found = await this.task(controller.signal);
      if (isLatest()) this.#finish(() => this.done(found));
    } catch (error) {
      if (isLatest()) this.#finish(() => this.failed(error));
    }
  }

  cancel() {
    clearTimeout(this.#timer);
    this.#controller?.abort();
    this.#controller = null;
  }

  #finish(report) {
    this.#controller = null;
    report();
  }
}
