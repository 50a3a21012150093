// Fields of a form: a label, what is allowed, and for a password a way to see what has been typed.
import { button } from './dialog.js';
import { make } from './dom.js';
import { words } from './words.js';

// `autocomplete`: what a password manager is to fill in, see the HTML standard. `rule` is said before one types.
export const field = (id, label, { type = 'text', autocomplete, rule } = {}) => {
  const input = make('input', 'box-input', { id, name: id, type, autocomplete, required: '', autocapitalize: 'none' });
  const row = make('div', 'box-row', {}, input);
  if (type === 'password') {
    const { account } = words();
    const toggle = button(account.show, '', () => {
      const shown = input.type === 'text';
      input.type = shown ? 'password' : 'text';
      toggle.textContent = shown ? account.show : account.hide;
      toggle.setAttribute('aria-pressed', String(!shown));
    });
    toggle.setAttribute('aria-pressed', 'false');
    toggle.setAttribute('aria-label', account.showOf(label));
    row.append(toggle);
  }
  const root = make('div', 'box-field', {}, make('label', 'box-label', { for: id }, label), row);
  if (rule) {
    input.setAttribute('aria-describedby', `${id}-rule`);
    root.append(make('p', 'box-rule', { id: `${id}-rule` }, rule));
  }
  input.addEventListener('input', () => input.removeAttribute('aria-invalid'));
  return { root, input };
};

export const markWrong = (input) => {
  input.setAttribute('aria-invalid', 'true');
  input.focus();
  input.select();
};
