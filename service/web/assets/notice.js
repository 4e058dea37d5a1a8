// The line that says what went wrong and when or how to try again.
import { t } from "./strings.js";

const box = document.getElementById("notice");
const line = document.getElementById("notice-text");
const count = document.getElementById("notice-count"); // not a live region: a screen reader would read every second
const button = document.getElementById("retry");
const LEAST_SECONDS = 5; // between tries while there is no server: a page may be left open over night
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
  const { status, message, retryAfter } = error;
  if (status === 0) return show(t(navigator.onLine ? "unreachable" : "offline"), action);
  const text = status === 429 ? t("busy") : message || t("failed", { status });
  if (status === 429 && retryAfter !== null) return countDown(text, Math.ceil(retryAfter), action);
  if (status === 503 && retryAfter !== null) return countDown(text, Math.max(LEAST_SECONDS, Math.ceil(retryAfter)), action);
  show(text, status === 429 || status >= 500 ? action : null);
}

function countDown(text, seconds, action) {
  show(text, action);
  count.textContent = t("busy.next", { n: seconds });
  const until = Date.now() + seconds * 1000;
  timer = setInterval(() => {
    const left = Math.ceil((until - Date.now()) / 1000);
    if (left <= 0) return retry();
    count.textContent = t("busy.next", { n: left });
  }, 250);
}
