// The pictures: each turns what the server tells into what Plotly draws.
import { byHour, clock, color, HOUR, hourAxis, line, minuteAxis } from './drawing.js';
import { words } from './words.js';

const GIB = 2 ** 30;

const any = (...lists) => lists.some((list) => list.some((value) => value));
const known = (...lists) => lists.some((list) => list.some((value) => value != null));
const scaled = (list, by) => list.map((value) => (value == null ? null : value / by));

const bars = (name, y, shade, more = {}) => ({ type: 'bar', name, y, marker: { color: shade }, ...more });
// Points where a line would have only one.
const dots = (y) => (y.some((value, i) => value != null && y[i + 1] != null) ? 'lines+markers' : 'markers');
const path = (name, y, shade, more = {}) => ({
  type: 'scatter', mode: dots(y), name, y, connectgaps: false,
  line: { color: shade, width: 2 }, marker: { color: shade, size: 5 }, ...more,
});

const stacked = { barmode: 'stack' };
// An axis of counts: no ticks between two of them. `lists` are stacked.
const counts = (...lists) => {
  const most = Math.max(0, ...lists[0].map((_, i) => lists.reduce((sum, list) => sum + list[i], 0)));
  const few = most < 1 ? { range: [0, 1] } : {};
  return { tickformat: ',d', hoverformat: ',d', ...(most < 5 ? { dtick: 1 } : {}), ...few };
};

const dotted = (shade) => ({ line: { color: shade, width: 2, dash: 'dot' }, marker: { color: shade, size: 3 } });

// Percentiles of a time, by the hour.
const times = ({ replies }, ranks, names) => {
  const { second, noTimes } = words();
  const each = { ...byHour(replies.hours), hovertemplate: `%{y:.2f} ${second}` };
  const values = names.map((name) => scaled(ranks[name], 1000));
  return {
    // The highest are often the same: dotted, they hide nothing.
    traces: values.map((value, i) => path(names[i], value, line(i), { ...each, ...(names[i] === 'p99' && dotted(line(i))) })),
    x: hourAxis(replies.hours),
    y: { ticksuffix: ` ${second}` },
    empty: known(...values) ? '' : noTimes,
  };
};

const hourly = ({ replies }, traces, empty) => ({
  traces: traces.map((trace) => ({ ...byHour(replies.hours), ...trace })),
  x: hourAxis(replies.hours),
  y: counts(...traces.map(({ y }) => y)),
  layout: stacked,
  empty,
});

// Over the minutes of the last day.
const sampled = (samples, traces, y, empty = '') => {
  const x = samples.time.map(clock);
  const last = new Date(samples.time.at(-1));
  const first = Math.min(new Date(samples.time[0]), last - HOUR);
  return {
    traces: traces.map((trace) => ({ x, ...trace, cliponaxis: false, mode: x.length > 2 ? 'lines' : 'lines+markers' })),
    x: { ...minuteAxis, range: [clock(first), clock(last)] },
    y,
    empty,
  };
};

export const charts = {
  replies: (data) => {
    const { outcomes, empty } = words();
    const { finished, stopped, failed } = data.replies.outcomes;
    const shades = [line(0), color('muted-foreground', 0.6), color('destructive')];
    const traces = Object.entries({ finished, stopped, failed }).map(([name, y], i) => bars(outcomes[name], y, shades[i]));
    return hourly(data, traces, any(finished, stopped, failed) ? '' : empty);
  },
  waiting: (data) => times(data, data.replies.waiting_ms, ['p50', 'p95']),
  first: (data) => times(data, data.replies.first_ms, ['p50', 'p95', 'p99']),
  speed: (data) => {
    const { perSecond, noTimes } = words();
    const { hours, models } = data.replies;
    const each = { ...byHour(hours), hovertemplate: `%{y:.1f} ${perSecond}` };
    const shown = models.filter(({ speeds }) => known(speeds));
    return {
      traces: shown.map(({ id, speeds }, i) => path(id, speeds, line(i), each)),
      x: hourAxis(hours),
      empty: shown.length > 0 ? '' : noTimes,
    };
  },
  tokens: (data) => {
    const { read, written, empty } = words();
    const { prompt_tokens: prompt, response_tokens: reply } = data.replies;
    return hourly(data, [bars(read, prompt, line(2)), bars(written, reply, line(0))], any(prompt, reply) ? '' : empty);
  },
  cuts: (data) => {
    const { shortened, empty } = words();
    const { finished, stopped, failed } = data.replies.outcomes;
    return hourly(data, [bars(shortened, data.replies.left_out, line(1))], any(finished, stopped, failed) ? '' : empty);
  },
  queue: ({ now }) => {
    const { serving, waiting, free } = words();
    const each = { orientation: 'h', y: now.engines.map(({ label }) => label), hovertemplate: '%{x}' };
    const of = (name, count, shade) => ({ type: 'bar', name, x: now.engines.map(count), marker: { color: shade }, ...each });
    return {
      traces: [
        of(serving, (engine) => engine.serving, line(0)),
        of(waiting, (engine) => engine.waiting, line(1)),
        of(free, ({ slots, serving: busy }) => Math.max(0, slots - busy), color('border')),
      ],
      x: { ...counts(now.engines.map(({ slots, waiting: line }) => slots + line)), rangemode: 'tozero' },
      y: { autorange: 'reversed' },
      layout: { ...stacked, hovermode: 'y unified', bargap: 0.45 },
    };
  },
  load: ({ now: { samples } }) => {
    const { serving, waiting } = words();
    const traces = [path(serving, samples.serving, line(0)), path(waiting, samples.waiting, line(1))];
    const highest = samples.time.map((_, i) => Math.max(samples.serving[i], samples.waiting[i]));
    return sampled(samples, traces, counts(highest));
  },
  memory: ({ now: { samples, memory } }) => {
    const { program, used, limit, gib, noMemory } = words();
    const each = { hovertemplate: `%{y:.2f} ${gib}` };
    const traces = [
      path(program, scaled(samples.program, GIB), line(0), each),
      path(used[memory.of], scaled(samples.used, GIB), line(1), each),
    ].filter(({ y }) => known(y));
    if (memory.limit) {
      const ceiling = samples.time.map(() => memory.limit / GIB);
      const dashed = { line: { color: color('destructive'), width: 1.5, dash: 'dash' } };
      traces.push(path(limit[memory.of], ceiling, color('destructive'), { ...each, ...dashed }));
    }
    return sampled(samples, traces, { ticksuffix: ` ${gib}` }, traces.length > 0 ? '' : noMemory);
  },
};

// The order on the page.
export const ORDER = ['replies', 'waiting', 'first', 'speed', 'tokens', 'cuts', 'memory', 'queue', 'load'];
