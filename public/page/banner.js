// The banner at the top of the page: which model answers, why, how to change it, what is being downloaded.
// The server sends it over Chainlit's own connection; app/page/banner.py writes the fields.
import { make } from './dom.js';
import { language as spoken, setLanguage } from './language.js';

const TYPE = 'chainlit-ollama/status';
const DISMISSED = 'chainlit-ollama/dismissed';
const WORDS = {
  en: { region: 'The model of this server', details: 'Details', close: 'Close', of: 'of', mega: 'MB', giga: 'GB' },
  ru: { region: 'Модель этого сервера', details: 'Подробнее', close: 'Закрыть', of: 'из', mega: 'МБ', giga: 'ГБ' },
};

// The nodes are made once and only filled anew, so that the keyboard's focus stays where it is.
const root = make('section', 'status-banner', { 'data-testid': 'status-banner' });
const text = make('span', 'status-text', { role: 'status' });
const amount = make('span', 'status-amount');
const toggle = make('button', 'status-toggle', { type: 'button', 'aria-controls': 'status-details' });
const close = make('button', 'status-close', { type: 'button' });
const details = make('ul', 'status-details', { id: 'status-details' });
const bar = make('div', 'status-bar', { role: 'progressbar', 'aria-valuemin': 0, 'aria-valuemax': 100 });
const fill = make('div', 'status-fill');
const line = make('div', 'status-line');
close.textContent = '×';
bar.append(fill);
line.append(text, ' ', amount, ' ', toggle, close);
root.append(line, details, bar);
root.hidden = true;

let shown = '';

// Chainlit's page begins below the banner; see custom.css. It measures its own parts when the window is resized.
let height = 0;
const fit = () => {
  const measured = root.hidden ? 0 : root.offsetHeight;
  if (measured === height) return;
  height = measured;
  document.documentElement.style.setProperty('--banner-height', `${height}px`);
  window.dispatchEvent(new Event('resize'));
};

const open = (wanted) => {
  details.hidden = !wanted;
  toggle.setAttribute('aria-expanded', String(wanted));
  fit();
};

// Sentences may hold `code`. Text only, never HTML.
const write = (node, sentence) => {
  const parts = sentence.split('`').map((part, index) => {
    if (index % 2 === 0) return part;
    const code = document.createElement('code');
    code.textContent = part;
    return code;
  });
  node.replaceChildren(...parts);
};

const size = (bytes, words, language) => {
  const [unit, name] = bytes >= 1e9 ? [1e9, words.giga] : [1e6, words.mega];
  const digits = unit === 1e9 ? 1 : 0;
  const number = (bytes / unit).toLocaleString(language, { minimumFractionDigits: digits, maximumFractionDigits: digits });
  return `${number} ${name}`;
};

const showProgress = (progress, words, language) => {
  bar.hidden = amount.hidden = !progress;
  if (!progress) return;
  const { label, completed, total } = progress;
  bar.setAttribute('aria-label', label);
  bar.classList.toggle('unknown', !total);
  if (!total) {
    bar.removeAttribute('aria-valuenow');
    amount.textContent = `↓ ${label} · ${size(completed, words, language)}`;
    return;
  }
  const percent = Math.min(100, Math.floor((100 * completed) / total));
  bar.setAttribute('aria-valuenow', percent);
  fill.style.width = `${percent}%`;
  const [done, whole] = [completed, total].map((bytes) => size(bytes, words, language));
  amount.textContent = `↓ ${label} · ${percent} % · ${done} ${words.of} ${whole}`;
};

const show = (status) => {
  setLanguage(status.language);
  const language = spoken();
  const words = WORDS[language];
  root.setAttribute('aria-label', words.region);
  root.dataset.level = status.level;
  // An unchanged text is left alone: a screen reader would read it again.
  if (status.text !== shown) write(text, status.text);
  shown = status.text;
  toggle.textContent = words.details;
  toggle.setAttribute('aria-label', `${words.details}: ${status.text}`);
  close.setAttribute('aria-label', words.close);
  close.hidden = !status.dismissable;
  details.replaceChildren(
    ...status.details.map((sentence) => {
      const item = document.createElement('li');
      write(item, sentence);
      return item;
    }),
  );
  toggle.hidden = status.details.length === 0;
  showProgress(status.progress, words, language);
  root.hidden = status.dismissable && localStorage.getItem(DISMISSED) === status.text;
  open(!toggle.hidden && toggle.getAttribute('aria-expanded') === 'true');
};

toggle.addEventListener('click', () => open(details.hidden));
close.addEventListener('click', () => {
  localStorage.setItem(DISMISSED, shown);
  root.hidden = true;
  fit();
});
root.addEventListener('keydown', (event) => {
  if (event.key === 'Escape' && !details.hidden) {
    open(false);
    toggle.focus();
  }
});
new ResizeObserver(fit).observe(root);
// First in the page, so that the keyboard reaches it first.
document.body.prepend(root);

window.addEventListener('message', (event) => {
  const ours = event.source === window && event.origin === window.location.origin && event.data?.type === TYPE;
  if (!ours) return;
  // Chainlit sends every message of the window to the server, and would send this one back.
  event.stopImmediatePropagation();
  show(event.data);
});
