// The banner at the top of the page: which model answers, why, how to change it, what is being downloaded.
// The server sends it over Chainlit's own connection (app/page/banner.py).
(() => {
  const TYPE = 'chainlit-ollama/status';
  const KEY = 'chainlit-ollama/dismissed';
  const WORDS = {
    en: { more: 'Why, and how to change it', close: 'Close' },
    ru: { more: 'Почему и как изменить', close: 'Закрыть' },
  };
  let banner = null;
  let open = false;

  const make = (tag, name, text) => {
    const node = document.createElement(tag);
    if (name) node.className = name;
    if (text) node.textContent = text;
    return node;
  };

  const fit = () => {
    const height = banner && !banner.hidden ? banner.offsetHeight : 0;
    document.documentElement.style.setProperty('--banner-height', `${height}px`);
  };

  const progressOf = ({ label, completed, total }) => {
    const box = make('div', 'status-progress');
    const share = total ? Math.min(100, Math.floor((100 * completed) / total)) : 0;
    const bar = make('div', 'status-bar');
    bar.setAttribute('role', 'progressbar');
    bar.setAttribute('aria-valuemin', '0');
    bar.setAttribute('aria-valuemax', '100');
    bar.setAttribute('aria-valuenow', String(share));
    bar.setAttribute('aria-label', label);
    const fill = make('div', 'status-fill');
    fill.style.width = `${share}%`;
    bar.append(fill);
    box.append(make('span', '', `${label} ${share} %`), bar);
    return box;
  };

  const show = (status) => {
    const words = WORDS[status.language] || WORDS.en;
    if (!banner) {
      banner = make('div', 'status-banner');
      banner.dataset.testid = 'status-banner';
      banner.setAttribute('role', 'status');
      document.body.append(banner);
      new ResizeObserver(fit).observe(banner);
    }
    document.documentElement.lang = status.language;
    banner.dataset.level = status.level;
    banner.hidden = status.dismissable && localStorage.getItem(KEY) === status.text;
    const line = make('div', 'status-line');
    const more = make('button', 'status-text', status.text);
    more.type = 'button';
    more.title = words.more;
    more.setAttribute('aria-expanded', String(open));
    more.onclick = () => { open = !open; show(status); };
    line.append(more);
    if (status.progress) line.append(progressOf(status.progress));
    if (status.dismissable) {
      const close = make('button', 'status-close', '×');
      close.type = 'button';
      close.setAttribute('aria-label', words.close);
      close.onclick = () => { localStorage.setItem(KEY, status.text); banner.hidden = true; fit(); };
      line.append(close);
    }
    banner.replaceChildren(line);
    if (open) {
      const list = make('ul', 'status-details');
      status.details.forEach((sentence) => list.append(make('li', '', sentence)));
      banner.append(list);
    }
    fit();
  };

  window.addEventListener('message', (event) => {
    if (event.source === window && event.data && event.data.type === TYPE) show(event.data);
  });
})();
