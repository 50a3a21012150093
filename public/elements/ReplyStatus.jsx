// The quiet line under a reply: what it waits for while it does, and afterwards what it took.
// The props come from app/page/reply.py. Not selectable, so that it is not copied with the text.
import { useEffect, useState } from 'react';
import { RotateCcw } from 'lucide-react';

const WORDS = {
  en: {
    ahead: (n) => (n === 1 ? '1 person before you' : `${n} people before you`),
    loading: 'The model is loading', reading: 'The model is reading', writing: 'The model is writing',
    about: (s) => `about ${s} s`, elapsed: (s) => `${s} s so far`,
    seconds: (s) => `${s} s`, first: (s) => `first token ${s} s`, tokens: (n) => (n === 1 ? '1 token' : `${n} tokens`),
    speed: (n) => `${n} tok/s`, chars: (n) => (n === 1 ? '1 char' : `${n} chars`), context: (n) => `context ${n} %`,
    stopped: 'stopped', failed: 'failed', retry: 'Try again', again: 'Another answer', roughly: '≈',
    help: 'Model, total time, time to the first token, tokens, tokens per second, characters, how full the context is',
  },
  ru: {
    ahead: (n) => `Перед вами: ${n}`,
    loading: 'Модель загружается', reading: 'Модель читает', writing: 'Модель пишет',
    about: (s) => `ещё около ${s} с`, elapsed: (s) => `уже ${s} с`,
    seconds: (s) => `${s} с`, first: (s) => `первый токен ${s} с`, tokens: (n) => `токенов: ${n}`,
    speed: (n) => `${n} ток/с`, chars: (n) => `знаков: ${n}`, context: (n) => `контекст ${n} %`,
    stopped: 'остановлено', failed: 'ошибка', retry: 'Повторить', again: 'Другой ответ', roughly: '≈',
    help: 'Модель, всё время, время до первого токена, токены, токены в секунду, знаки, насколько заполнен контекст',
  },
};

const round = (value) => (value < 10 ? value.toFixed(1) : Math.round(value));
const percent = (part, whole) => Math.min(100, Math.max(part > 0 ? 1 : 0, Math.round((100 * part) / whole)));

function Live({ words }) {
  const { phase, model, position, seconds_left: left, processed, total } = props;
  // The server says once how long it will take; the countdown runs here.
  const [began, setBegan] = useState(Date.now());
  const [now, setNow] = useState(Date.now());
  useEffect(() => { setBegan(Date.now()); setNow(Date.now()); }, [phase, position]);
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 1000);
    return () => clearInterval(timer);
  }, []);
  const passed = Math.max(0, Math.round((now - began) / 1000));
  const remaining = left == null ? null : Math.ceil(left - passed);
  const time = remaining != null && remaining >= 1 ? words.about(remaining) : passed >= 2 ? words.elapsed(passed) : '';
  const text = phase === 'waiting' ? words.ahead(position) : words[phase];
  return (
    <div className="flex items-center gap-2" aria-live="polite">
      <span className="inline-block w-2 h-2 rounded-full bg-primary animate-pulse shrink-0" />
      <span>{[phase === 'waiting' ? '' : model, text].filter(Boolean).join(' · ')}{time ? `, ${time}` : ''}</span>
      {total > 0 && phase === 'reading' ? (
        <span className="inline-block w-24 h-1 rounded bg-muted overflow-hidden" role="progressbar"
          aria-valuemin={0} aria-valuemax={100} aria-valuenow={percent(processed, total)}>
          <span className="block h-full bg-primary" style={{ width: `${percent(processed, total)}%` }} />
        </span>
      ) : null}
    </div>
  );
}

function Ended({ words }) {
  const { phase, model, metrics, notes, retry, message_id } = props;
  const parts = [model];
  if (phase !== 'finished') parts.push(words[phase]);
  if (metrics) {
    const about = metrics.estimated ? words.roughly : '';
    parts.push(words.seconds(round(metrics.total_seconds)));
    if (metrics.first_token_seconds != null) parts.push(words.first(round(metrics.first_token_seconds)));
    if (metrics.reply_tokens) parts.push(about + words.tokens(metrics.reply_tokens));
    if (metrics.tokens_per_second != null) parts.push(about + words.speed(round(metrics.tokens_per_second)));
    if (metrics.characters) parts.push(words.chars(metrics.characters));
    if (metrics.context_used && metrics.context_length) {
      parts.push(words.context(percent(metrics.context_used, metrics.context_length)));
    }
  }
  return (
    <div>
      <div className="reply-parts" title={words.help}>
        {parts.filter(Boolean).map((part, index) => <span key={index}>{part}</span>)}
        {retry ? (
          <button type="button" data-testid="retry"
            className="inline-flex items-center gap-1 ml-2 px-1 rounded hover:bg-accent hover:text-accent-foreground"
            onClick={() => callAction({ name: 'retry', payload: { message_id } })}>
            <RotateCcw className="w-3 h-3" aria-hidden="true" />
            {phase === 'finished' ? words.again : words.retry}
          </button>
        ) : null}
      </div>
      {(notes || []).map((note, index) => <div key={index} className="mt-0.5" data-testid="reply-note">{note}</div>)}
    </div>
  );
}

export default function ReplyStatus() {
  const words = WORDS[props.language] || WORDS.en;
  const live = ['waiting', 'loading', 'reading', 'writing'].includes(props.phase);
  return (
    <div data-testid="reply-status" data-phase={props.phase}
      className="text-xs text-muted-foreground select-none" style={{ userSelect: 'none' }}>
      {live ? <Live words={words} /> : <Ended words={words} />}
    </div>
  );
}
