// The account of a visitor who has signed in: password, and the way out everywhere.
import { ask } from './ask.js';
import { button, question } from './dialog.js';
import { fresh, make } from './dom.js';
import { field } from './fields.js';
import { openForm } from './form.js';
import { section } from './section.js';
import { words } from './words.js';

const LOGIN = '/login';
const DASHBOARD = '/dashboard';

// A password manager has to know whose password it is.
const hiddenName = (name) => {
  const input = make('input', '', { type: 'text', autocomplete: 'username', hidden: '', readonly: '' });
  input.value = name;
  return { root: input, input };
};

const changePassword = (me, say) => {
  const { password, rule } = words().account;
  const old = field('old-password', password.old, { type: 'password', autocomplete: 'current-password' });
  const next = field('new-password', password.new, {
    type: 'password',
    autocomplete: 'new-password',
    rule: rule(me.password_min),
  });
  const send = async (close) => {
    await ask('POST', '/api/auth/password', { old_password: old.input.value, new_password: next.input.value });
    close();
    say(password.done);
  };
  const blame = { wrong_password: old, weak_password: next };
  openForm(password.title, [hiddenName(me.name), old, next], password.go, send, blame);
};

const logoutEverywhere = () => {
  const { logoutAll } = words().account;
  const go = async () => {
    await ask('POST', '/api/auth/logout-everywhere');
    return fresh(LOGIN);
  };
  question(logoutAll.title, [logoutAll.text], [
    { label: words().cancel },
    { label: logoutAll.go, kind: 'main', act: go },
  ]);
};

export const accountSection = (me) => {
  const { account } = words();
  const { root, line, say } = section('account', account.title);
  const buttons = make('div', 'box-buttons');
  if (me.kind === 'account') buttons.append(button(account.password.open, '', () => changePassword(me, say)));
  buttons.append(button(account.logoutAll.open, '', logoutEverywhere));
  if (me.role === 'admin') buttons.append(button(account.dashboard, '', () => fresh(DASHBOARD)));
  root.append(make('p', '', {}, account.name(me.name)), buttons, line);
  return root;
};
