// The quiet line under a reply: while it is awaited, what for and how long; afterwards what it took.
// The props come from app/page/status.py, by way of public/elements/ReplyStatus.jsx; the looks are in custom.css.
//
// It stands here and not there because Chainlit compiles a .jsx anew for every reply that it draws: with twenty replies
// on the page that alone delayed a reply's first word by an eighth of a second.

const LIVE = ['waiting', 'loading', 'reading', 'writing'];

const russian = (n, one, few, many) => ({ one, few })[new Intl.PluralRules('ru').select(n)] || many;

const WORDS = {
  en: {
    nobody: 'The model',
    waiting: (n) => (n > 0 ? `${n} ${n === 1 ? 'person' : 'people'} before you` : 'You are next'),
    loading: (model) => `${model} is loading`,
    reading: (model) => `${model} is reading your message`,
    writing: (model) => `${model} is writing`,
    about: (time) => `about ${time}`, elapsed: (time) => `${time} so far`,
    second: 's', minute: 'min', speed: 'tok/s',
    cancel: 'Cancel', stopped: 'stopped', failed: 'failed', retry: 'Try again', again: 'Another answer',
    goOn: 'Continue', last: 'last part',
    first: (time) => `first token ${time}`,
    tokens: (count, n) => `${count} ${n === 1 ? 'token' : 'tokens'}`,
    characters: (count, n) => `${count} ${n === 1 ? 'char' : 'chars'}`,
    context: (percent) => `context ${percent} %`,
    long: {
      model: 'Model', total: 'From the question to the end', first: 'Time to the first token', tokens: 'Reply',
      speed: 'Speed of writing', characters: 'Characters', context: 'The context is full to', of: 'of',
    },
  },
  ru: {
    nobody: 'Модель',
    waiting: (n) => (n > 0 ? `Перед вами ${n} ${russian(n, 'человек', 'человека', 'человек')}` : 'Вы на очереди'),
    loading: (model) => `${model} загружается`,
    reading: (model) => `${model} читает сообщение`,
    writing: (model) => `${model} пишет`,
    about: (time) => `ещё около ${time}`, elapsed: (time) => `уже ${time}`,
    second: 'с', minute: 'мин', speed: 'ток/с',
    cancel: 'Отменить', stopped: 'остановлено', failed: 'ошибка', retry: 'Повторить', again: 'Другой ответ',
    goOn: 'Продолжить', last: 'последняя часть',
    first: (time) => `первый токен ${time}`,
    tokens: (count, n) => `${count} ${russian(n, 'токен', 'токена', 'токенов')}`,
    characters: (count, n) => `${count} ${russian(n, 'знак', 'знака', 'знаков')}`,
    context: (percent) => `контекст ${percent} %`,
    long: {
      model: 'Модель', total: 'От вопроса до конца ответа', first: 'До первого токена', tokens: 'Ответ',
      speed: 'Скорость письма', characters: 'Знаков', context: 'Контекст заполнен на', of: 'из',
    },
  },
};

// Chainlit's React, which it hands to its elements only.
let React;
const h = (...parts) => React.createElement(...parts);

const percent = (part, whole) => Math.min(100, Math.max(part > 0 ? 1 : 0, Math.round((100 * part) / whole)));

// Making one is slow, using it is not.
const formats = new Map();
const format = (language, digits) => {
  const key = `${language} ${digits}`;
  if (!formats.has(key)) {
    const exactly = { minimumFractionDigits: digits, maximumFractionDigits: digits };
    formats.set(key, new Intl.NumberFormat(language, exactly));
  }
  return formats.get(key);
};

// What depends on the language, for one set of props.
function speaker(props) {
  const language = props.language in WORDS ? props.language : 'en';
  const words = WORDS[language];
  const number = (value, digits = 0) => format(language, digits).format(value);
  const rough = (value) => number(value, value < 9.95 ? 1 : 0);
  const duration = (seconds, show) => {
    if (seconds < 99.5) return `${show(seconds)} ${words.second}`;
    const whole = Math.round(seconds);
    return `${Math.floor(whole / 60)} ${words.minute} ${whole % 60} ${words.second}`;
  };
  return { language, words, number, rough, duration, model: props.model || words.nobody };
}

// The element is made anew whenever Chainlit draws it, so what it remembers would be lost. Props stay the same object
// until the server sends others: the moment they came is kept by them.
const arrivals = new WeakMap();

// Ends what waits in the queue. The server sends the line again whenever the place changes, so that the button is made
// anew: whoever had it under the keyboard's focus keeps it.
let focused = '';
function Cancel({ given, callAction }) {
  const { message_id } = given;
  const button = React.useRef(null);
  const [asked, setAsked] = React.useState(false);
  React.useEffect(() => {
    if (focused === message_id && document.activeElement === document.body) button.current?.focus();
  }, []);
  const cancel = async () => {
    setAsked(true);
    try {
      await callAction({ name: 'cancel', payload: { message_id } });
    } finally {
      setAsked(false);
    }
  };
  return h('button', {
    type: 'button', ref: button, className: 'reply-cancel', 'data-testid': 'cancel', disabled: asked, onClick: cancel,
    onFocus: () => { focused = message_id; },
    // Not when it is taken away while it has the focus: that tells of none.
    onBlur: () => { focused = ''; },
  }, speaker(given).words.cancel);
}

function Live({ given, callAction }) {
  const { phase, position, seconds_left: left, passed: before = 0, processed, total } = given;
  const { words, number, duration, model } = speaker(given);
  const [now, setNow] = React.useState(Date.now());
  React.useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 1000);
    return () => clearInterval(timer);
  }, []);
  const passed = before + Math.max(0, (now - arrivals.get(given)) / 1000);
  const remaining = left == null ? 0 : Math.ceil(left - passed);
  let time = '';
  if (remaining >= 1) time = words.about(duration(remaining, number));
  // Who was told a time to wait hears another one soon; the seconds since the last one say nothing.
  else if (passed >= 2 && !(phase === 'waiting' && left != null)) time = words.elapsed(duration(Math.floor(passed), number));
  let share = phase === 'reading' && total > 0 ? percent(processed || 0, total) : null;
  // How far loading is nobody tells: the bar goes by what it took before, and does not end before loading does.
  if (phase === 'loading' && left > 0) share = Math.min(95, percent(passed, left));
  return h('div', { className: 'reply-live' },
    h('span', { className: 'reply-dot' }),
    h('span', null,
      h('span', { role: 'status' }, words[phase](phase === 'waiting' ? position || 0 : model)),
      // Not read aloud: it changes every second.
      time && h('span', { 'aria-hidden': 'true' }, ', ', h('span', { className: 'reply-time' }, time)),
      share !== null && h('span', {
        className: 'reply-bar', role: 'progressbar', 'aria-label': words[phase](model),
        'aria-valuemin': 0, 'aria-valuemax': 100, 'aria-valuenow': share,
      }, h('span', { style: { width: `${share}%` } }))),
    phase === 'waiting' && given.message_id && h(Cancel, { given, callAction }));
}

// Pairs of what is shown and what the tooltip says.
function facts(given) {
  const { phase, metrics, engine } = given;
  const { words, number, rough, duration } = speaker(given);
  const { long } = words;
  const parts = [[given.model, `${long.model}: ${[given.model, engine && `(${engine})`].filter(Boolean).join(' ')}`]];
  if (phase !== 'finished') parts.push([words[phase]]);
  if (given.went_on) parts.push([words.last]);
  if (metrics) {
    const about = metrics.estimated ? '≈' : '';
    const add = (value, show, name) => {
      if (value) parts.push([show(value), `${name}: ${show(value)}`]);
    };
    const seconds = (value) => duration(value, rough);
    add(metrics.total_seconds, seconds, long.total);
    if (metrics.first_token_seconds != null) {
      const first = seconds(metrics.first_token_seconds);
      parts.push([words.first(first), `${long.first}: ${first}`]);
    }
    add(metrics.reply_tokens, (n) => about + words.tokens(number(n), n), long.tokens);
    add(metrics.tokens_per_second, (n) => `${about}${rough(n)} ${words.speed}`, long.speed);
    if (metrics.characters) {
      const count = number(metrics.characters);
      parts.push([words.characters(count, metrics.characters), `${long.characters}: ${count}`]);
    }
    const { context_used: used, context_length: length } = metrics;
    if (used && length) {
      const share = percent(used, length);
      const exact = `${number(used)} ${long.of} ${words.tokens(number(length), length)}`;
      parts.push([words.context(share), `${long.context} ${share} % (${exact})`]);
    }
  }
  return parts.filter(([short]) => short);
}

// Two thirds of a circle with an arrow: lucide's rotate-ccw.
const arrow = () => h('svg', {
  viewBox: '0 0 24 24', fill: 'none', stroke: 'currentColor', strokeWidth: 2, 'aria-hidden': 'true',
}, h('path', { d: 'M3 12a9 9 0 1 0 9-9 9.75 9.75 0 0 0-6.74 2.74L3 8' }), h('path', { d: 'M3 3v5h5' }));

// An arrow to the right: lucide's arrow-right.
const onward = () => h('svg', {
  viewBox: '0 0 24 24', fill: 'none', stroke: 'currentColor', strokeWidth: 2, 'aria-hidden': 'true',
}, h('path', { d: 'M5 12h14' }), h('path', { d: 'm12 5 7 7-7 7' }));

function Ended({ given, callAction }) {
  const { phase, notes, retry, go_on: goOn, message_id } = given;
  const { words } = speaker(given);
  const [asked, setAsked] = React.useState(false);
  const parts = facts(given);
  const ask = async (name) => {
    setAsked(true);
    try {
      await callAction({ name, payload: { message_id } });
    } finally {
      setAsked(false);
    }
  };
  return h(React.Fragment, null,
    h('div', { className: 'reply-parts', title: parts.map(([, long]) => long).filter(Boolean).join('\n') },
      parts.map(([short], index) => h('span', { key: index }, short)),
      retry && h('button', { type: 'button', 'data-testid': 'retry', disabled: asked, onClick: () => ask('retry') },
        arrow(), phase === 'finished' ? words.again : words.retry),
      goOn && h('button', { type: 'button', 'data-testid': 'continue', disabled: asked, onClick: () => ask('continue') },
        onward(), words.goOn)),
    (notes || []).map((note, index) =>
      h('div', { key: index, className: 'reply-note', 'data-testid': 'reply-note' }, note)));
}

function Status({ given, thread, callAction }) {
  // Chainlit's list of conversations puts the conversation into the address. On a phone the list is folded away, so the
  // address would stay "/": a reload would begin a new chat, and the list, opened, would go there and close at once.
  React.useEffect(() => {
    if (thread && window.location.pathname === '/' && window.matchMedia('(max-width: 767px)').matches) {
      window.history.replaceState(window.history.state, '', `/thread/${thread}`);
    }
  }, [thread]);
  return h('div', {
    className: 'reply-status', 'data-testid': 'reply-status', 'data-phase': given.phase, lang: speaker(given).language,
  }, h(LIVE.includes(given.phase) ? Live : Ended, { given, callAction }));
}

window.replyStatus = (react, given, thread, callAction) => {
  React = react;
  if (!arrivals.has(given)) arrivals.set(given, Date.now());
  return h(Status, { given, thread, callAction });
};
