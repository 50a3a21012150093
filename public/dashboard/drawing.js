// Draws with Plotly, in the colors of the page. Plotly is loaded when it is wanted first, from this server.
import { language } from '../page/language.js';

const LIBRARY = '/public/vendor/plotly-basic-4.1.1.min.js';
export const HOUR = 3600000;

let loading;

// Names of days and months as Plotly wants them; it has English ones itself.
const locale = (name) => {
  const named = (count, at, options) =>
    Array.from({ length: count }, (_, i) => new Date(at(i)).toLocaleDateString(name, { ...options, timeZone: 'UTC' }));
  const day = (i) => Date.UTC(2023, 0, 1 + i); // a Sunday
  const month = (i) => Date.UTC(2023, i, 1);
  return {
    moduleType: 'locale',
    name,
    dictionary: {},
    format: {
      days: named(7, day, { weekday: 'long' }),
      shortDays: named(7, day, { weekday: 'short' }),
      months: named(12, month, { month: 'long' }),
      shortMonths: named(12, month, { month: 'short' }).map((text) => text.replace('.', '')),
      date: '%d.%m.%Y',
      decimal: ',',
      thousands: '\u00a0',
    },
  };
};

const load = () =>
  new Promise((resolve, reject) => {
    const script = document.createElement('script');
    script.src = LIBRARY;
    script.addEventListener('load', () => {
      window.Plotly.register(locale('ru'));
      resolve(window.Plotly);
    });
    script.addEventListener('error', () => {
      script.remove();
      loading = undefined; // the next one tries again
      reject(new Error('Plotly could not be loaded'));
    });
    document.head.append(script);
  });

export const plotly = () => {
  loading ??= load();
  return loading;
};

// A color of the theme, as Plotly reads it.
export const color = (name, alpha = 1) => {
  const parts = getComputedStyle(document.documentElement).getPropertyValue(`--${name}`);
  const [hue, saturation, light] = parts.trim().split(/\s+/);
  return `hsla(${hue}, ${saturation}, ${light}, ${alpha})`;
};

const dark = () => getComputedStyle(document.documentElement).colorScheme.includes('dark') ||
  document.documentElement.classList.contains('dark');

// Colors of lines beside each other: told apart by people who see colors otherwise, too (after Okabe and Ito).
export const line = (number) => {
  const colors = dark()
    ? ['#40c9b5', '#f0b541', '#7fb2f0', '#e58fb0', '#b9a3f0', '#d6dd6a', '#f08a5b', '#a7b6bd']
    : ['#0f766e', '#b86e00', '#1f66b5', '#b03a6e', '#6b4fc0', '#6f7a10', '#c2410c', '#58666d'];
  return colors[number % colors.length];
};

// Plotly knows no time zones: a moment, as the clock of the visitor shows it.
export const clock = (iso) => {
  const at = new Date(iso);
  return new Date(at - at.getTimezoneOffset() * 60000).toISOString().slice(0, 19);
};

const axis = (more) => ({
  gridcolor: color('border'),
  linecolor: color('border'),
  zeroline: false,
  fixedrange: true,
  automargin: true,
  ...more,
});

const day = () => (language() === 'ru' ? '%-d %b' : '%b %-d');

// A time axis over whole hours; `hours` are their beginnings.
export const hourAxis = (hours) => ({
  type: 'date',
  range: [clock(hours[0]), clock(new Date(+new Date(hours.at(-1)) + HOUR))],
  tickformat: hours.length > 48 ? day() : '%H:%M',
  hoverformat: `${day()}, %H:%M`,
  nticks: hours.length > 48 ? 8 : 7,
});

// A time axis over part of a day.
export const minuteAxis = { type: 'date', tickformat: '%H:%M', hoverformat: '%H:%M', nticks: 7 };

// What traces by the hour share. Where clocks differ from UTC by half an hour, the server's hours begin in between.
export const byHour = (hours) => {
  const x = hours.map(clock);
  return { x, xperiod: HOUR, xperiod0: x[0], xperiodalignment: 'middle' };
};

// Draw into a node, or anew into the same one. `empty`: a sentence, where there is nothing to draw.
export const draw = async (node, { traces, x = {}, y = {}, layout = {}, empty = '' }) => {
  const Plotly = await plotly();
  const muted = color('muted-foreground');
  const legend = { orientation: 'h', x: 0, y: 1.02, yanchor: 'bottom', traceorder: 'normal', itemclick: false, itemdoubleclick: false };
  const words = { text: empty, showarrow: false, xref: 'paper', yref: 'paper', x: 0.5, y: 0.5 };
  await Plotly.react(
    node,
    traces,
    {
      height: 230,
      margin: { l: 44, r: 10, t: 8, b: 28 },
      paper_bgcolor: 'rgba(0,0,0,0)',
      plot_bgcolor: 'rgba(0,0,0,0)',
      font: { family: 'system-ui, sans-serif', size: 12, color: muted },
      separators: language() === 'ru' ? ',\u00a0' : '.,',
      hovermode: 'x unified',
      hoverlabel: { bgcolor: color('popover'), bordercolor: color('border'), font: { color: color('foreground') } },
      bargap: 0.15,
      showlegend: true,
      legend,
      xaxis: axis(x),
      yaxis: axis({ rangemode: 'tozero', ...(empty ? { range: [0, 1], showticklabels: false } : {}), ...y }),
      annotations: empty ? [words] : [],
      dragmode: false,
      ...layout,
    },
    { displayModeBar: false, responsive: true, locale: language(), scrollZoom: false, doubleClick: false },
  );
};
