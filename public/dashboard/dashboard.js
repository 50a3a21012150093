// The operator's page: asks the server every 15 seconds while somebody looks, and draws what it says.
import '../page/theme.js';
import { ask } from '../page/ask.js';
import { make } from '../page/dom.js';
import { language } from '../page/language.js';
import { charts, ORDER } from './charts.js';
import { draw } from './drawing.js';
import { words } from './words.js';

const PAUSE = 15000;
const PERIOD = 'dashboard-period';
const GIB = 2 ** 30;
// The server's words for whom this page is not for.
const SIGN_IN = 'for_administrators';
const SHUT = [SIGN_IN, 'for_this_machine', 'in_a_container'];

const system = window.matchMedia('(prefers-color-scheme: dark)');
const root = document.getElementById('dashboard');
let period = localStorage.getItem(PERIOD) === 'week' ? 'week' : 'day';
let shown = null;
let timer = 0;
let asked = 0;

const number = (value, digits = 0) => value.toLocaleString(language(), { maximumFractionDigits: digits });
const time = (iso) => new Date(iso).toLocaleTimeString(language());

// As the visitor has chosen in the chat; otherwise theme.css goes by the system.
const choose = () => {
  const choice = localStorage.getItem('vite-ui-theme');
  document.documentElement.classList.toggle('dark', choice === 'dark');
  document.documentElement.classList.toggle('light', choice === 'light');
};

const span = (seconds) => {
  const { minutes, hours, days } = words();
  const whole = Math.floor(seconds / 60);
  if (whole < 60) return `${whole} ${minutes}`;
  if (whole < 48 * 60) return `${Math.floor(whole / 60)} ${hours} ${whole % 60} ${minutes}`;
  return `${Math.floor(whole / 1440)} ${days} ${Math.floor(whole / 60) % 24} ${hours}`;
};

const notice = make('p', 'note', { role: 'status', hidden: '' });
const more = make('div', 'notes');
const stamp = make('span', 'stamp');
const tiles = make('dl', 'tiles');
const engines = make('ul', 'engines');
const models = make('div', 'table');
const nodes = Object.fromEntries(ORDER.map((name) => [name, make('div', 'picture', { 'data-chart': name })]));

const say = (text) => {
  notice.textContent = text;
  notice.hidden = !text;
};

const tile = (label, value, kind = '') => make('div', `tile ${kind}`.trim(), {}, make('dt', '', {}, label), make('dd', '', {}, value));

const summary = ({ replies, now }) => {
  const said = words().tiles;
  const sum = (list) => list.reduce((all, value) => all + value, 0);
  const of = (name) => sum(now.engines.map((engine) => engine[name]));
  const { used, limit } = now.memory;
  const memory = used == null ? '–' : said.of(number(used / GIB, 1), `${number(limit / GIB, 1)} ${words().gib}`);
  const database = [said.databases[now.database], now.unsaved > 0 && said.unsaved(number(now.unsaved))];
  return [
    tile(said.replies, number(sum(Object.values(replies.outcomes).map(sum)))),
    tile(said.serving, said.of(number(of('serving')), number(of('slots')))),
    tile(said.waiting, number(of('waiting')), of('waiting') > 0 ? 'busy' : ''),
    tile(said.pages, number(now.open_pages)),
    tile(said.memory, memory, used > 0.9 * limit ? 'bad' : ''),
    tile(said.database, database.filter(Boolean).join(', '), now.database === 'away' ? 'bad' : ''),
    tile(said.uptime, span(now.uptime_seconds)),
  ];
};

const engine = ({ label, status, error }) => {
  const text = `${label} ${words().engines[status]}${error ? ` (${error})` : ''}`;
  return make('li', '', { 'data-status': status }, text);
};

const cell = (text, name = '') => make('td', name, {}, text);

const table = ({ replies, now }) => {
  const { columns, loaded, unloaded, gone, standard, noModels } = words();
  const answered = new Map(replies.models.map((model) => [model.id, model]));
  const missing = replies.models.filter(({ id }) => !now.models.some((model) => model.id === id));
  const listed = [...now.models, ...missing.map(({ id }) => ({ id, missing: true }))];
  if (listed.length === 0) return [make('p', 'none', {}, noModels)];
  const row = (model) => {
    const { replies: count = 0, speed = null } = answered.get(model.id) || {};
    const state = model.missing ? gone : model.loaded ? loaded : unloaded;
    const name = [model.id, model.default && make('span', 'badge', {}, standard)];
    return make('tr', '', {}, make('th', '', { scope: 'row' }, ...name), cell(state, model.loaded ? 'good' : ''),
      cell(number(count), 'figure'), cell(speed == null ? '–' : number(speed, 1), 'figure'));
  };
  const head = Object.entries(columns).map(([key, text]) =>
    make('th', ['replies', 'speed'].includes(key) ? 'figure' : '', { scope: 'col' }, text));
  listed.sort((a, b) => (answered.get(b.id)?.replies || 0) - (answered.get(a.id)?.replies || 0));
  return [make('table', '', {}, make('thead', '', {}, make('tr', '', {}, ...head)), make('tbody', '', {}, ...listed.map(row)))];
};

const notes = ({ replies }) => {
  const said = words().notes;
  return [said[replies.source], !replies.whole && said.part].filter(Boolean).map((text) => make('p', 'note', {}, text));
};

const show = async () => {
  if (!shown) return;
  stamp.textContent = words().asOf(time(shown.now.time));
  more.replaceChildren(...notes(shown));
  tiles.replaceChildren(...summary(shown));
  engines.replaceChildren(...shown.now.engines.map(engine));
  models.replaceChildren(...table(shown));
  await Promise.all(ORDER.map((name) => draw(nodes[name], charts[name](shown))));
  root.dataset.drawn = shown.now.time;
};

const refuse = ({ code, message }) => {
  const { signIn, chat } = words();
  const link = (path, text) => make('a', 'link', { href: path }, text);
  root.className = 'refused';
  const links = code === SIGN_IN ? [link('/login', signIn), ' '] : [];
  root.replaceChildren(make('h1', '', {}, words().title), make('p', '', {}, message),
    make('p', '', {}, ...links, link('/', chat)));
};

const look = async () => {
  clearTimeout(timer);
  if (document.hidden) return;
  asked += 1;
  const mine = asked;
  let again = true;
  try {
    const found = await ask('GET', `/api/dashboard?period=${period}`);
    if (mine !== asked) return; // another period was chosen meanwhile
    if (root.className === 'refused') {
      window.location.reload(); // whoever was shut out may look again
      return;
    }
    shown = found;
    say('');
  } catch (problem) {
    if (mine !== asked) return;
    again = !SHUT.includes(problem.code);
    if (!again) refuse(problem);
    else if (problem.code) say(problem.message);
    else say(shown ? words().stale(time(shown.now.time)) : words().never);
  }
  if (!again) return;
  try {
    await show();
  } catch (problem) {
    console.error(problem);
    say(words().broken);
  }
  if (mine === asked) timer = setTimeout(look, PAUSE);
};

const choices = () => {
  const { periods, period: label } = words();
  const buttons = Object.entries(periods).map(([name, text]) => {
    const button = make('button', '', { type: 'button', 'aria-pressed': String(name === period) }, text);
    button.addEventListener('click', () => {
      period = name;
      localStorage.setItem(PERIOD, name);
      buttons.forEach((other) => other.setAttribute('aria-pressed', String(other === button)));
      look();
    });
    return button;
  });
  return make('div', 'periods', { role: 'group', 'aria-label': label }, ...buttons);
};

const card = (name, content) => {
  const [title, meaning] = words().charts[name];
  const heading = make('h2', '', { id: `chart-${name}` }, title);
  return make('section', 'card', { 'aria-labelledby': heading.id }, heading, content, make('p', 'meaning', {}, meaning));
};

const build = () => {
  const { title, chat } = words();
  document.title = title;
  const logo = make('img', 'mark', { src: '/favicon', alt: '', width: 28, height: 28 });
  root.append(
    make('header', 'head', {}, logo, make('h1', '', {}, title), choices(), make('a', 'link', { href: '/' }, chat)),
    notice, more, tiles, make('div', 'line', {}, engines, stamp),
    make('div', 'cards', {}, ...ORDER.map((name) => card(name, nodes[name])), card('models', models)),
  );
};

choose();
build();
look();
document.addEventListener('visibilitychange', look);
system.addEventListener('change', show);
window.addEventListener('storage', () => {
  choose();
  show();
});
