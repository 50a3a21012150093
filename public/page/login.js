// The login page: Chainlit's form, with what it lacks.
import { ask } from './ask.js';
import { left } from './arrival.js';
import { button } from './dialog.js';
import { fresh, make } from './dom.js';
import { field } from './fields.js';
import { openForm } from './form.js';
import { whoAmI } from './me.js';
import { keep } from './places.js';
import { words } from './words.js';

const signUp = (me) => {
  const { account, signUp: said } = words();
  const name = field('new-name', said.name, { autocomplete: 'username', rule: said.nameRule });
  const password = field('new-password', said.password, {
    type: 'password',
    autocomplete: 'new-password',
    rule: account.rule(me.password_min),
  });
  const send = async () => {
    await ask('POST', '/api/auth/register', { name: name.input.value, password: password.input.value });
    await fresh();
  };
  const blame = { name_taken: name, bad_name: name, weak_password: password };
  openForm(said.title, [name, password], said.go, send, blame);
};

const offer = make('div', 'sign-up');

// For password managers and screen readers.
const complete = (form) => {
  form.querySelector('#email')?.setAttribute('autocomplete', 'username');
  const password = form.querySelector('#password');
  password?.setAttribute('autocomplete', 'current-password');
  const label = words().account.showOf(words().signUp.password);
  password?.parentElement.querySelector('button')?.setAttribute('aria-label', label);
};

const fill = async () => {
  const me = await whoAmI();
  offer.replaceChildren(...(me.signup ? [button(words().signUp.open, '', () => signUp(me))] : []));
};

keep(offer, () => {
  const form = window.location.pathname === '/login' && document.querySelector('#root form');
  if (!form) return;
  left();
  complete(form);
  form.after(offer);
  fill().catch((problem) => console.warn('GET /api/me:', problem.message));
});
