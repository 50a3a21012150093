// The quiet line under a reply: while it is awaited, what for and how long; afterwards what it took.
// The props come from app/page/reply.py; the looks are in custom.css.
import { useEffect, useState } from 'react';
import { RotateCcw } from 'lucide-react';
import { useRecoilValue } from 'recoil';
import { currentThreadIdState } from '@chainlit/react-client';

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
    stopped: 'stopped', failed: 'failed', retry: 'Try again', again: 'Another answer',
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
    stopped: 'остановлено', failed: 'ошибка', retry: 'Повторить', again: 'Другой ответ',
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

const language = props.language in WORDS ? props.language : 'en';
const words = WORDS[language];
const model = props.model || words.nobody;

const number = (value, digits = 0) =>
  value.toLocaleString(language, { minimumFractionDigits: digits, maximumFractionDigits: digits });
const rough = (value) => number(value, value < 9.95 ? 1 : 0);
const percent = (part, whole) => Math.min(100, Math.max(part > 0 ? 1 : 0, Math.round((100 * part) / whole)));
const duration = (seconds, format) => {
  if (seconds < 99.5) return `${format(seconds)} ${words.second}`;
  const whole = Math.round(seconds);
  return `${Math.floor(whole / 60)} ${words.minute} ${whole % 60} ${words.second}`;
};

// Chainlit makes this component anew whenever it draws it, so what it remembers would be lost. Props stay the same
// object until the server sends others: the moment they came is kept by them.
const arrivals = (window.replyStatusArrivals ??= new WeakMap());
if (!arrivals.has(props)) arrivals.set(props, Date.now());

function Live() {
  const { phase, position, seconds_left: left, processed, total } = props;
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 1000);
    return () => clearInterval(timer);
  }, []);
  const passed = Math.max(0, (now - arrivals.get(props)) / 1000);
  const remaining = left == null ? 0 : Math.ceil(left - passed);
  let time = '';
  if (remaining >= 1) time = words.about(duration(remaining, number));
  else if (passed >= 2) time = words.elapsed(duration(Math.floor(passed), number));
  const share = phase === 'reading' && total > 0 ? percent(processed || 0, total) : null;
  return (
    <div className="reply-live">
      <span className="reply-dot" />
      <span>
        <span role="status">{words[phase](phase === 'waiting' ? position || 0 : model)}</span>
        {/* Not read aloud: it changes every second. */}
        {time && <span aria-hidden="true">, <span className="reply-time">{time}</span></span>}
        {share !== null && (
          <span className="reply-bar" role="progressbar" aria-label={words.reading(model)}
            aria-valuemin={0} aria-valuemax={100} aria-valuenow={share}>
            <span style={{ width: `${share}%` }} />
          </span>
        )}
      </span>
    </div>
  );
}

// Pairs of what is shown and what the tooltip says.
function facts() {
  const { phase, metrics, engine } = props;
  const { long } = words;
  const parts = [[props.model, `${long.model}: ${[props.model, engine && `(${engine})`].filter(Boolean).join(' ')}`]];
  if (phase !== 'finished') parts.push([words[phase]]);
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

function Ended() {
  const { phase, notes, retry, message_id } = props;
  const [asked, setAsked] = useState(false);
  const parts = facts();
  const again = async () => {
    setAsked(true);
    try {
      await callAction({ name: 'retry', payload: { message_id } });
    } finally {
      setAsked(false);
    }
  };
  return (
    <>
      <div className="reply-parts" title={parts.map(([, long]) => long).filter(Boolean).join('\n')}>
        {parts.map(([short], index) => <span key={index}>{short}</span>)}
        {retry && (
          <button type="button" data-testid="retry" disabled={asked} onClick={again}>
            <RotateCcw aria-hidden="true" />
            {phase === 'finished' ? words.again : words.retry}
          </button>
        )}
      </div>
      {(notes || []).map((note, index) => <div key={index} className="reply-note" data-testid="reply-note">{note}</div>)}
    </>
  );
}

// Chainlit's list of conversations puts the conversation into the address. On a phone the list is folded away, so the
// address would stay "/": a reload would begin a new chat, and the list, opened, would go there and close at once.
function useAddressOnPhone() {
  const thread = useRecoilValue(currentThreadIdState);
  useEffect(() => {
    if (thread && window.location.pathname === '/' && window.matchMedia('(max-width: 767px)').matches) {
      window.history.replaceState(window.history.state, '', `/thread/${thread}`);
    }
  }, [thread]);
}

export default function ReplyStatus() {
  useAddressOnPhone();
  return (
    <div className="reply-status" data-testid="reply-status" data-phase={props.phase} lang={language}>
      {LIVE.includes(props.phase) ? <Live /> : <Ended />}
    </div>
  );
}
