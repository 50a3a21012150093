// What is asked of a visitor who comes: whether this browser is to show another device's conversations (the link of it
// was opened), and whether its own conversations are to go along.
import { ask } from './ask.js';
import { question } from './dialog.js';
import { fresh } from './dom.js';
import { signedIn, whoAmI } from './me.js';
import { words } from './words.js';

const CODE = /^#join=(.+)$/;
// Kept until the browser's tab is closed: the code of the link that was opened, until it is answered, as Chainlit loads
// the page anew at a first visit; and who said "later".
const OPENED = 'chainlit-ollama/join';
const LATER = 'chainlit-ollama/adopt-later';

let here = null;

// The code of a link in the address, which is taken out of it at once: whoever looks over a shoulder, or copies the
// address, is not to have it.
const takeCode = () => {
  const found = CODE.exec(window.location.hash)?.[1];
  if (!found) return false;
  window.history.replaceState(window.history.state, '', window.location.pathname + window.location.search);
  sessionStorage.setItem(OPENED, found);
  return true;
};

// Returns whether something was taken along. `name`: of the account; null where this browser shows another's history.
const askToAdopt = async (waiting, name) => {
  const { adopt, later, no } = words();
  const [title, text] =
    name === null ? [adopt.joined(waiting), adopt.textJoined] : [adopt.account(waiting), adopt.textAccount];
  const answer = (take) => async () => {
    await ask('POST', '/api/me/adopt', { take });
    return take ? 'taken' : 'left';
  };
  const said = await question(title, [text], [
    { label: later },
    { label: no, act: answer(false) },
    { label: adopt.take(waiting), kind: 'main', act: answer(true) },
  ]);
  if (!said) sessionStorage.setItem(LATER, name ?? '');
  return said === 'taken';
};

const askToJoin = async () => {
  const { join, no, yes } = words();
  const code = sessionStorage.getItem(OPENED);
  const joined = await question(join.title, [join.text], [
    { label: no },
    { label: yes, kind: 'main', act: () => ask('POST', '/api/me/join', { code }) },
  ]);
  sessionStorage.removeItem(OPENED);
  if (!joined) return;
  if (joined.waiting > 0) await askToAdopt(joined.waiting, null);
  await fresh();
};

// The login page is there: whoever comes from it may be somebody else.
export const left = () => {
  here = null;
};

const greet = async () => {
  const me = await whoAmI();
  if (me.kind === null) return left(); // Chainlit has drawn the page before it has let the visitor in
  if (sessionStorage.getItem(OPENED)) return askToJoin();
  const name = signedIn(me) ? me.name : null;
  const asked = sessionStorage.getItem(LATER) === (name ?? '');
  if (me.waiting > 0 && !asked && (name !== null || me.joined) && (await askToAdopt(me.waiting, name))) await fresh();
};

// The chat is on the page: the visitor is let in.
export const arrived = () => {
  here ??= greet().catch((problem) => {
    // The window "My data" says why; the next time that Chainlit draws the header it is tried again.
    console.warn('GET /api/me:', problem.message);
    here = null;
  });
};

takeCode();
// Before Chainlit's own listener, which would remember the code.
window.addEventListener('popstate', () => {
  if (takeCode() && here) askToJoin();
});
