// What a visitor does with conversations: save one, save all, bring in what was saved, delete all.
import { ask, saveFile, sendFile } from './ask.js';
import { question, run } from './dialog.js';
import { fresh, make } from './dom.js';
import { section } from './section.js';
import { words } from './words.js';

const CHART = '../dashboard/timing.js';

// The conversation that the page shows stands in the address as soon as it is kept.
const shownId = () => /^\/thread\/([^/]+)/.exec(window.location.pathname)?.[1];

export const conversationSection = () => {
  const id = shownId();
  if (!id) return null;
  const { one, saved } = words().data;
  const { root, line, does } = section('one', one.title);
  const saving = (label, format, ending) =>
    does(label, '', async () =>
      saved(await saveFile(`/api/me/conversations/${id}/export?format=${format}`, `${one.file}.${ending}`)));
  // What draws is large, and fetched only for this.
  const timing = does(one.timing, '', async () => (await import(CHART)).openTiming(id));
  root.append(
    make('div', 'box-buttons', {}, saving(one.markdown, 'markdown', 'md'), saving(one.json, 'json', 'json'), timing),
    line,
  );
  return root;
};

const saveAll = async () => words().data.saved(await saveFile('/api/me/export', words().data.all.file));

const deleteAll = async () => {
  await ask('DELETE', '/api/me/data');
  await fresh();
};

const askToDelete = (me) => {
  const { remove } = words().data;
  const elsewhere = me.joined || me.devices.length > 0;
  const texts = [remove.what(me.conversations), elsewhere && remove.everywhere, remove.final].filter(Boolean);
  const answers = [
    { label: words().cancel },
    me.conversations > 0 && { label: remove.save, act: saveAll, stays: true },
    { label: remove.go, kind: 'danger', act: deleteAll },
  ];
  question(remove.title, texts, answers.filter(Boolean));
};

// The button that brings a file in, with the bar of how much of it is sent.
const bringing = ({ root, say }) => {
  const { all } = words().data;
  const bar = make('progress', 'box-progress', { max: 100, 'aria-label': all.bring });
  const file = make('input', '', { type: 'file', accept: '.zip,.json,application/zip,application/json', hidden: '' });
  const show = make('button', 'box-button', { type: 'button' }, all.show);
  const choose = make('button', 'box-button', { type: 'button' }, all.bring);
  bar.hidden = show.hidden = true;
  const progress = (sent, total) => {
    const percent = total ? Math.floor((100 * sent) / total) : 100;
    if (percent < 100) bar.value = percent;
    else bar.removeAttribute('value'); // how long the server reads is not known
    say(percent < 100 ? all.sending(percent) : all.reading);
  };
  const send = async () => {
    const { imported, skipped } = await sendFile('/api/me/import', file.files[0], progress);
    // The list at the side is Chainlit's, which reads it when the page is loaded.
    if (imported > 0) {
      show.hidden = false;
      root.closest('dialog').addEventListener('close', () => window.location.reload());
    }
    if (imported > 0) return all.brought(imported, skipped);
    return skipped > 0 ? all.nothing(skipped) : all.empty;
  };
  choose.addEventListener('click', () => choose.getAttribute('aria-disabled') === 'true' || file.click());
  file.addEventListener('change', async () => {
    if (!file.files.length) return;
    bar.hidden = false;
    await run(choose, say, send);
    bar.hidden = true;
    file.value = ''; // so that the same file can be chosen again
  });
  show.addEventListener('click', () => root.closest('dialog').close());
  return { choose, file, bar, show };
};

export const allSection = (me) => {
  const { all, remove } = words().data;
  const made = section('all', all.title);
  const { root, line, does } = made;
  const { choose, file, bar, show } = bringing(made);
  const save = does(all.save, '', saveAll);
  const removal = make('button', 'box-button danger', { type: 'button', 'aria-haspopup': 'dialog' }, remove.open);
  removal.addEventListener('click', () => askToDelete(me));
  save.hidden = me.conversations === 0;
  root.append(
    make('p', '', {}, me.conversations ? all.count(me.conversations) : all.none, ' ', all.explain),
    make('div', 'box-buttons', {}, save, choose, file),
    bar,
    line,
    show,
    make('div', 'box-buttons', {}, removal),
  );
  return root;
};
