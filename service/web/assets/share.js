// Links and the clipboard. A link carries the text behind the # sign, which browsers keep to themselves.

export const LINK_CHARACTERS = 8000; // longer addresses are cut by mail programs and messengers

/** The address of this page with a text and its settings in it. */
export function linkTo({ source, target, formality, text }) {
  const fields = new URLSearchParams({ from: source, to: target });
  if (formality !== "default") fields.set("formality", formality);
  fields.set("text", text);
  return `${location.origin}${location.pathname}#${fields}`;
}

/** What the address of this page carries, or null; taken out of the address bar and of the history. */
export function takeFromAddress() {
  const fields = new URLSearchParams(location.hash.slice(1));
  if (!fields.has("text")) return null;
  history.replaceState(null, "", location.pathname + location.search);
  return {
    source: fields.get("from") ?? "auto",
    target: fields.get("to") ?? "",
    formality: fields.get("formality") ?? "default",
    text: fields.get("text"),
  };
}

/** Whether the text is on the clipboard now. Without TLS browsers offer only the old way. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyBySelection(text);
  }
}

function copyBySelection(text) {
  const before = document.activeElement;
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "unseen";
  document.body.append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  before?.focus();
  return copied;
}
