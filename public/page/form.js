// A window with a form: fields, a line for what is wrong, and a button.
import { button, notice, openDialog, run } from './dialog.js';
import { make } from './dom.js';
import { markWrong } from './fields.js';
import { words } from './words.js';

// `send` does it; `blame` names the field that one of the server's words for what is wrong is about.
export const openForm = (title, fields, label, send, blame = {}) => {
  const { body, close } = openDialog(title, { kind: 'form' });
  const { line, say } = notice();
  const submit = make('button', 'box-button main', { type: 'submit' }, label);
  const buttons = make('div', 'box-buttons end', {}, button(words().cancel, '', close), submit);
  const form = make('form', 'box-form', {}, ...fields.map(({ root }) => root), line, buttons);
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    run(submit, say, () => send(close), (problem) => problem.code in blame && markWrong(blame[problem.code].input));
  });
  body.append(form);
  fields.find(({ input }) => !input.hidden).input.focus();
};
