// A window over the page. It is the browser's own <dialog>: that keeps the keyboard inside, closes with Escape, and
// gives the focus back to where it was.
import { Problem } from './ask.js';
import { icon, make } from './dom.js';
import { words } from './words.js';

const CROSS = ['M18 6 6 18', 'm6 6 12 12'];
let number = 0;

// kind: 'main', 'danger' or '' for one beside others.
export const button = (label, kind, onClick) => {
  const node = make('button', `box-button ${kind}`.trim(), { type: 'button' }, label);
  if (onClick) node.addEventListener('click', onClick);
  return node;
};

// A line that says how something went; a screen reader reads it when it changes.
export const notice = () => {
  const line = make('p', 'box-notice', { role: 'status' });
  const say = (text, kind = '') => {
    line.textContent = text;
    line.dataset.kind = kind;
  };
  return { line, say };
};

// Do what a button is for. It cannot be pressed meanwhile but keeps the focus; the text that `work` returns is said,
// and so is what went wrong. Returns whether it went well.
export const run = async (pressed, say, work, failed) => {
  if (pressed.getAttribute('aria-disabled') === 'true') return false;
  pressed.setAttribute('aria-disabled', 'true');
  say('');
  try {
    say((await work()) || '');
    return true;
  } catch (problem) {
    if (!(problem instanceof Problem)) console.error(problem);
    say(problem instanceof Problem ? problem.message : words().problems.internal, 'error');
    failed?.(problem);
    return false;
  } finally {
    pressed.removeAttribute('aria-disabled');
  }
};

// Opens a window; returns where its content goes, and how to close it. `light`: a click beside it closes it too.
export const openDialog = (title, { kind = '', light = false, onClose } = {}) => {
  number += 1;
  const heading = make('h2', 'box-title', { id: `box-title-${number}`, tabindex: -1 }, title);
  const said = { 'aria-label': words().close, title: words().close };
  const cross = make('button', 'box-close', { type: 'button', ...said }, icon(...CROSS));
  const body = make('div', 'box-body');
  const dialog = make(
    'dialog',
    `box ${kind}`.trim(),
    { 'aria-labelledby': heading.id, closedby: light ? 'any' : 'closerequest' },
    make('div', 'box-head', {}, heading, cross),
    body,
  );
  const close = () => dialog.close();
  cross.addEventListener('click', close);
  dialog.addEventListener('close', () => {
    dialog.remove();
    onClose?.();
  });
  dialog.addEventListener('keydown', (event) => {
    // Chainlit has keys of its own, for the whole window.
    event.stopPropagation();
    // Chromium misses an Escape now and then when keys come fast: one in ten behind twenty Tabs.
    if (event.key === 'Escape' && !event.isComposing) {
      event.preventDefault();
      close();
    }
  });
  document.body.append(dialog);
  dialog.showModal();
  heading.focus();
  return { dialog, body, close };
};

// Ask something. Each answer is { label, kind, act, stays }: `act` does it; where it fails the window stays and says why.
// Returns what the `act` of the answer returns; undefined where there is none, and if the window is closed. An answer
// that `stays` leaves the question open, and its `act` returns a text to be said.
export const question = (title, texts, answers) =>
  new Promise((resolve) => {
    let result;
    const { body, close } = openDialog(title, { kind: 'question', onClose: () => resolve(result) });
    const { line, say } = notice();
    const choose = async (act, stays) => {
      if (stays) return act();
      result = await act?.();
      close();
      return '';
    };
    const buttons = answers.map(({ label, kind = '', act, stays = false }) => {
      const node = button(label, kind, () => run(node, say, () => choose(act, stays)));
      return node;
    });
    body.append(...texts.map((text) => make('p', '', {}, text)), line, make('div', 'box-buttons end', {}, ...buttons));
  });
