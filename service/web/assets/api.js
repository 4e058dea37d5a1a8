// Calls of the gateway. Paths are relative: the page may lie anywhere below a host.
import { session } from "./storage.js";

const KEY = "nmt.key";

/** An answer other than 2xx, or none: status 0. retryAfter: seconds that the server asks to wait, or null. */
export class ApiError extends Error {
  constructor(status, message, retryAfter = null) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

export const setKey = (key) => session.set(KEY, key);
export const hasKey = () => session.get(KEY) !== null;

/** Headers with the API key, if there is one. */
export function authorization() {
  const key = session.get(KEY);
  return key ? { Authorization: `Bearer ${key}` } : {};
}

async function call(path, options) {
  let response, body;
  try {
    response = await fetch(path, options);
    body = await response.text();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "");
  }
  return read(response.status, body, response.headers.get("Retry-After"));
}

/** The JSON of an answer; ApiError if it is none. */
export function read(status, body, retryAfter) {
  let found = {};
  try {
    found = JSON.parse(body);
  } catch {
    if (status < 400) throw new ApiError(status, "");
  }
  if (status < 400) return found;
  const seconds = Number.parseFloat(retryAfter ?? "");
  throw new ApiError(status, found.error ?? "", Number.isNaN(seconds) ? null : seconds);
}

export const get = (path) => call(path, { headers: authorization() });

export async function blobOf(path) {
  const response = await fetch(path).catch(() => null);
  if (!response?.ok) throw new ApiError(response?.status ?? 0, "");
  return response.blob();
}

/** Half an emoji, as a cut may leave it, is no JSON: it goes out as U+FFFD, which takes the same room. */
const wellFormed = (_, value) => (typeof value === "string" ? value.toWellFormed() : value);

export function post(path, body, signal) {
  const headers = { "Content-Type": "application/json", ...authorization() };
  return call(path, { method: "POST", headers, body: JSON.stringify(body, wellFormed), signal });
}
