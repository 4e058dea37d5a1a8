// Files: dropped or chosen, sent with progress, offered for download.
import { ApiError, authorization, blobOf, read } from "./api.js";
import { iconButton, make } from "./dom.js";
import { percent, t } from "./strings.js";

const section = document.getElementById("files");
const list = document.getElementById("files-list");
const input = document.getElementById("file");
const button = document.getElementById("file-button");
const curtain = document.getElementById("drop");

/** formats: the endings that the server reads; fields: what to send beside a file; announce: to screen readers. */
export function offerFiles({ formats, fields, announce }) {
  button.hidden = false;
  input.accept = formats.join(",");
  const take = (files) => [...files].forEach((file) => translate(file, { formats, fields: fields(), announce }));
  button.addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    take(input.files);
    input.value = "";
  });
  listenForDrops(take);
}

function listenForDrops(take) {
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  document.addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    curtain.hidden = false;
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) curtain.hidden = true; // out of the window
  });
  document.addEventListener("drop", (event) => {
    curtain.hidden = true;
    if (!hasFiles(event)) return;
    event.preventDefault();
    take(event.dataTransfer.files);
  });
}

async function translate(file, { formats, fields, announce }) {
  const row = new Row(file.name);
  section.hidden = false;
  list.prepend(row.element);
  const ending = file.name.slice(file.name.lastIndexOf(".")).toLowerCase();
  if (formats.length && !formats.includes(ending)) return row.fail(t("file.format", { formats: formats.join(", ") }));
  await attempt(file, fields, row, announce);
}

async function attempt(file, fields, row, announce) {
  row.begin();
  try {
    const { translatedFileUrl } = await send(file, fields, row);
    // fetched by its last part: behind a proxy the server may not know what it is called from outside
    const data = await blobOf(`download_file/${translatedFileUrl.split("/").pop()}`);
    row.finish(URL.createObjectURL(data), translatedName(file.name, fields.target));
    announce(`${file.name}: ${t("file.done")}`);
  } catch (error) {
    if (error.status === 400 && error.message.startsWith("columns:")) {
      return row.askForColumns((columns) => attempt(file, { ...fields, columns }, row, announce));
    }
    row.fail(reason(error));
    announce(`${file.name}: ${reason(error)}`);
  }
}

function reason(error) {
  if (error.name === "AbortError") return t("file.cancelled");
  if (error.status === 413) return error.message || t("file.too.large");
  return error.message || t(error.status ? "failed" : "unreachable", { status: error.status });
}

const translatedName = (name, target) => name.replace(/(\.\w+)?$/, (ending) => `.${target}${ending}`);

/** XMLHttpRequest, because fetch does not tell how much of a file is sent. */
function send(file, fields, row) {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) form.append(name, value);
  form.append("file", file);
  const request = new XMLHttpRequest();
  row.cancel.onclick = () => request.abort();
  return new Promise((resolve, reject) => {
    request.upload.addEventListener("progress", ({ loaded, total }) => row.sent(total ? loaded / total : 1));
    request.addEventListener("abort", () => reject(new DOMException("", "AbortError")));
    request.addEventListener("error", () => reject(new ApiError(0, "")));
    request.addEventListener("load", () => {
      try {
        resolve(read(request.status, request.responseText, request.getResponseHeader("Retry-After")));
      } catch (error) {
        reject(error);
      }
    });
    request.open("POST", "translate_file");
    for (const header of Object.entries(authorization())) request.setRequestHeader(...header);
    request.send(form);
  });
}

/** One file of the list: its name, then what is known of it. */
class Row {
  constructor(name) {
    this.name = name;
    this.element = make("li");
    this.label = make("span", { className: "name", dir: "auto", textContent: name });
    this.cancel = iconButton("close", t("file.cancel", { name }));
  }

  begin() {
    this.progress = make("progress", { ariaLabel: t("file.progress", { name: this.name }) });
    this.state = make("span", { className: "state" });
    this.#show(this.progress, this.state, this.cancel);
  }

  sent(share) {
    if (share < 1) {
      this.progress.value = share;
      this.state.textContent = t("file.sending", { percent: percent(share) });
    } else {
      this.progress.removeAttribute("value"); // how long the model takes is not known
      this.state.textContent = t("file.working");
    }
  }

  finish(href, download) {
    this.#show(make("a", { className: "button", href, download, textContent: t("file.download", { name: download }) }));
  }

  /** Tables have columns to choose from; the server does not guess. */
  askForColumns(chosen) {
    const input = make("input", { required: true, placeholder: "title, text", ariaLabel: t("file.columns") });
    const form = make("form", {}, make("span", { className: "state", textContent: t("file.columns") }), input);
    form.append(make("button", { textContent: t("file.translate") }));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      chosen(input.value);
    });
    this.#show(form);
    input.focus();
  }

  fail(text) {
    this.#show(make("span", { className: "state failed", textContent: text }));
  }

  #show(...parts) {
    this.element.replaceChildren(this.label, ...parts);
  }
}
