// Who the visitor is to the server, and what is kept for them.
import { ask } from './ask.js';

export const signedIn = (me) => me.kind === 'account' || me.kind === 'oauth';

// Throws Problem.
export const whoAmI = async () => {
  const me = await ask('GET', '/api/me');
  // Chainlit's menu with Logout is for those who have logged in; see custom.css.
  document.documentElement.toggleAttribute('data-login', signedIn(me));
  return me;
};
