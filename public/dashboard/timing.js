// A visitor's own conversation: what each reply took, as a chart in a window.
import { ask } from '../page/ask.js';
import { notice, openDialog } from '../page/dialog.js';
import { make } from '../page/dom.js';
import { draw, line, plotly } from './drawing.js';
import { words } from './words.js';

const picture = (values, name, shade, x, unit) => ({
  type: 'scatter', mode: 'lines+markers', name, x, y: values,
  line: { color: shade, width: 2 }, marker: { color: shade, size: 6 }, hovertemplate: `%{y:.1f} ${unit}`,
});

const show = async (body, replies) => {
  const { second, perSecond, mine } = words();
  const of = (name) => replies.map((reply) => reply[name]);
  const numbers = of('number');
  const x = {
    title: { text: mine.reply, standoff: 4 },
    range: [numbers[0] - 0.5, numbers.at(-1) + 0.5],
    tickformat: 'd',
    ...(numbers.length < 9 ? { dtick: 1 } : { nticks: 9 }),
  };
  const times = make('div', 'timing-picture', { 'data-chart': 'times' });
  const speeds = make('div', 'timing-picture', { 'data-chart': 'speeds' });
  body.replaceChildren(times, make('p', '', {}, mine.times), speeds, make('p', '', {}, mine.speeds));
  const layout = { margin: { l: 44, r: 10, t: 8, b: 40 } };
  await draw(times, {
    traces: [
      {
        ...picture(of('total_seconds'), mine.total, line(0), numbers, second),
        customdata: replies.map(({ model }) => (model ? `, ${model}` : '')),
        hovertemplate: `%{y:.1f} ${second}%{customdata}`,
      },
      picture(of('first_token_seconds'), mine.first, line(1), numbers, second),
    ],
    x, y: { ticksuffix: ` ${second}` }, layout,
  });
  await draw(speeds, { traces: [picture(of('tokens_per_second'), mine.speed, line(2), numbers, perSecond)], x, layout });
};

export const openTiming = async (id) => {
  // Before the window opens: where it fails, the window that it was asked in says so.
  const { replies } = await ask('GET', `/api/me/conversations/${id}/timing`);
  await plotly();
  const { body } = openDialog(words().mine.title, { kind: 'timing', light: true });
  if (replies.length > 0) {
    await show(body, replies);
    return;
  }
  const { line: said, say } = notice();
  body.append(said);
  say(words().mine.empty);
};
