// The line that says what went wrong and when or how to try again.
import { t } from "./strings.js";

const box = document.getElementById("notice");
const line = document.getElementById("notice-text");
const count = document.getElementById("notice-count"); // not a live region: a screen reader would read every second
const button = document.getElementById("retry");
let timer = 0;
let again = null;

button.addEventListener("click", () => retry());
window.addEventListener("online", () => retry());

function retry() {
  const action = again;
  hide();
  action?.();
}

export function hide() {
  clearInterval(timer);
  again = null;
  box.hidden = true;
  line.textContent = count.textContent = "";
}

export function show(text, action = null) {
  hide();
  box.hidden = false;
  again = action;
  button.hidden = action === null;
  line.textContent = text;
}

/** Say what an ApiError means; offer action again where that can help, and do so unasked when the server says when. */
export function showError(error, action) {
  if (error.status === 429 && error.retryAfter !== null) return countDown(Math.ceil(error.retryAfter), action);
  if (error.status === 0) return show(t(navigator.onLine ? "unreachable" : "offline"), action);
  const mayPass = error.status === 429 || error.status >= 500;
  show(error.message || t("failed", { status: error.status }), mayPass ? action : null);
}

function countDown(seconds, action) {
  show(t("busy"), action);
  count.textContent = t("busy.next", { n: seconds });
  const until = Date.now() + seconds * 1000;
  timer = setInterval(() => {
    const left = Math.ceil((until - Date.now()) / 1000);
    if (left <= 0) return retry();
    count.textContent = t("busy.next", { n: left });
  }, 250);
}
