// What the page asks of the server beside Chainlit's own script: the routes under /api.
import { language } from './language.js';
import { words } from './words.js';

// Longest wait for an answer, in milliseconds. What sends or fetches a file may take its time.
const PATIENCE = 30000;

// Something did not work. `message` is a sentence for the visitor, `code` the server's word for it.
export class Problem extends Error {
  constructor(message, code = '') {
    super(message);
    this.code = code;
  }
}

const fieldsOf = async (blob) => {
  try {
    return JSON.parse(await blob.text()) ?? {};
  } catch {
    return {}; // of a proxy in between, which answers in HTML
  }
};

const refusal = async (request) => {
  const { detail, code } = await fieldsOf(request.response);
  const said = typeof detail === 'string' && detail;
  return new Problem(said || words().problems.status(request.status), typeof code === 'string' ? code : '');
};

// `Content-Disposition: attachment; filename="..."; filename*=UTF-8''...`, https://www.rfc-editor.org/rfc/rfc6266
const nameIn = (disposition) => {
  const [, encoded] = /filename\*=utf-8''([^;]+)/i.exec(disposition) || [];
  const [, plain] = /filename="?([^";]+)"?/i.exec(disposition) || [];
  try {
    return encoded ? decodeURIComponent(encoded) : plain || '';
  } catch {
    return plain || '';
  }
};

// Not fetch: it does not tell how much of a file has been sent.
const send = (method, path, { body, type, patience = PATIENCE, progress }) =>
  new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open(method, path);
    request.responseType = 'blob';
    request.timeout = patience;
    // The server's sentences are in this language.
    request.setRequestHeader('Accept-Language', language());
    if (type) request.setRequestHeader('Content-Type', type);
    if (progress) request.upload.addEventListener('progress', ({ loaded, total }) => progress(loaded, total));
    request.addEventListener('load', () => resolve(request));
    request.addEventListener('error', () => reject(new Problem(words().problems.away)));
    request.addEventListener('timeout', () => reject(new Problem(words().problems.away)));
    request.send(body);
  });

const answered = async (...parts) => {
  const request = await send(...parts);
  if (request.status < 200 || request.status > 299) throw await refusal(request);
  return request;
};

// Ask, with JSON or nothing; returns what the server answers. Throws Problem.
export const ask = async (method, path, json) => {
  const body = json === undefined ? {} : { body: JSON.stringify(json), type: 'application/json' };
  return fieldsOf((await answered(method, path, body)).response);
};

// Send a file as it is; `progress(sent, total)` in bytes. Throws Problem.
export const sendFile = async (path, file, progress) => {
  const type = file.type || 'application/octet-stream';
  return fieldsOf((await answered('POST', path, { body: file, type, patience: 0, progress })).response);
};

// Fetch a file and have the browser save it; returns its name. Throws Problem.
export const saveFile = async (path, fallback) => {
  const request = await answered('GET', path, { patience: 0 });
  const link = document.createElement('a');
  link.href = URL.createObjectURL(request.response);
  link.download = nameIn(request.getResponseHeader('Content-Disposition') || '') || fallback;
  link.click();
  // The browser reads it after this; a minute is ample.
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  return link.download;
};
